// Package blob stores objects in a folder (file:///dir) or in a bucket of an S3 server
// (s3://host:port?username=..&password=..&bucket=..).
//
// An object has a key, parts divided by "/", such as "experiment/breast_hetero_guest.9f86d081884c7d65/data_0"
// ([CheckKey]). It appears whole or not at all. [Store.Create] writes all objects under a new prefix, such as
// the files of a dataset's new generation.
//
// In a folder, an object is the file of its key, so that containers can get it by a bind mount ([File.Path]).
// Containers control what they may write there. So no symbolic link in there is followed, and only regular
// files are objects. A new file or folder is staged under ".tmp/", and one rename publishes it. [Store.Sweep]
// removes the stages of dead processes.
//
// On an S3 server, Create puts the objects one by one, those named "metadata" last: a reader who finds the
// metadata finds all data. A process that dies in between leaves objects without metadata. The caller that
// chose the prefix must remove them; store/dataset records each prefix before it writes there.
//
// Keys with parts that begin with "." are reserved for the package.
package blob
