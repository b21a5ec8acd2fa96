// Package dataset takes in datasets as CSV and hands them out again. A dataset is the objects
//
//	<namespace>/<name>/data_0 ... data_<partitions-1>   CSV, "," between fields, each with the header line
//	<namespace>/<name>/metadata                         JSON ([Metadata]), in the form of FATE's S3 tables
//
// of a [blob.Store], which is what the containers of a task read.
//
// An upload ([Datasets.Ingest]) is read once, as a stream, and costs the same memory however long it is: what must be
// known of the whole file (no id twice) is kept on disk until the end. Only when all of it has been found good does it
// become a dataset, whole, in place of an older one of the same name.
//
// What a file must be: UTF-8 (a byte order mark is dropped), rows of equal width, lines that end with LF or CRLF, fields
// quoted as RFC 4180 says, no NUL. Empty lines are skipped. What doesn't hold is told with the line's number in the
// file, never with a value: rows are a party's secret, and errors travel.
//
// A row goes to partition fnv1a64(id) mod partitions, where id is the bytes of its id column; this never changes, so
// that two datasets of the same ids and partitions are partitioned alike. Rows keep their order within a partition.
//
// With extend_sid a first column "sid" is added: the upload's own 16 hexadecimal digits, "-", and the row's number from
// 1, such as "9f86d081884c7d65-17". Every upload has other ones.
//
// A file without a header (head false) has the columns that meta.header names, as a list or as one string divided by the
// delimiter. Without that its first column is called as meta.match_id_name says, or "id", and the others x0, x1, ...
//
// The type of a column is told by all its values, where an empty one says nothing: int64 for plain integers of that
// range, float64 for decimal numbers, NaN and such integers among them, string for anything else; numbers with leading
// zeros and integers that don't fit are string, since they are names. The values themselves stay as they were written.
package dataset
