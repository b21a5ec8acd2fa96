// Package storage is an S3 endpoint for the containers of one party. It stands between them and the bucket of
// the party, so that no container needs the party's credentials.
//
// A container has a user and a password of its own, which is valid while the container runs. Each request
// must be signed with them (AWS Signature Version 4: in the header, as a presigned URL, or chunk by chunk).
// The endpoint checks the signature and then the object's key against the run's [Grant]. It signs the request
// again with the party's credentials and passes it on. Bodies are never held in memory or on disk.
//
// It serves what object clients need: get, head, put, copy and delete of objects, multipart uploads, lists,
// and the questions that clients ask about a bucket. It refuses everything else, such as policies, access
// lists, versions and locks, with NotImplemented. Requests name the bucket in the path.
//
// A list of a prefix holds the run's own objects only, whatever the prefix. A list of a prefix without any
// object that the run may see, and a request for an object outside of its grant, are refused with
// AccessDenied, whether or not the object exists.
package storage
