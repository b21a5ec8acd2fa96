// Package evidence makes, reads and compares archives of evidence: what one party attests of a job, signed
// with its key. An archive is a zip file with the job's document, the facts of the party, its audit entries
// about the job, a manifest with the digests of these files, and a signature of the manifest with its
// certificate chain. It holds no rows of data.
package evidence
