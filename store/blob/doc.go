// Package blob keeps objects, in a folder (file:///dir) or a bucket of an S3 server (s3://host:port?username=..&password=..&bucket=..).
//
// An object has a key, parts divided by "/", such as "experiment/breast_hetero_guest/data_0" ([CheckKey]). It appears
// whole or not at all. All objects under a prefix, which is a folder of keys, can be replaced together ([Store.Replace]):
// that is how a dataset is uploaded over an older one.
//
// In a folder an object is the file of its key, so that containers can have it by a bind mount ([File.Path]). What is
// mounted for writing is in a container's hands, so no symbolic link in there is followed, and nothing but regular
// files is an object. Replacing a prefix is one rename that exchanges two folders; what it replaced stays aside until
// [Store.Sweep], so that a container that has it mounted reads on.
//
// An S3 server has no such rename. There the new objects are staged under ".tmp/", a record of them is the commit, and
// then they are copied to their places, the objects named "metadata" removed first and copied last. A reader that comes
// in between finds no metadata, which is an error and not a mixture; one that read the old metadata just before can get
// new data. A process that dies before the commit has changed nothing; after it, Sweep or the next Replace of the
// prefix, in any process, completes the work. Two processes that replace one prefix at the same moment can leave objects
// of both, each of them whole: let one process take in uploads of a name at a time.
//
// Keys whose parts begin with "." are the package's own.
package blob
