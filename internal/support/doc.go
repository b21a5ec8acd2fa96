// Package support collects what those who help a party need to know, in one archive: versions, the effective
// configuration, the doctor's report, the state of jobs and runners, failures, metrics and logs.
//
// The archive holds no secret and no row of data. It takes only what can't hold one, and then the
// scrubber looks for the secrets of the configuration and for what looks like a secret in every file.
package support
