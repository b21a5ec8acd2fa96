// Package dataset stores datasets that are uploaded as CSV, and reads them back. A generation of a dataset is
// the objects
//
//	<namespace>/<name>.<generation>/data_0 ...   CSV, "," between fields, each with the header line
//	<namespace>/<name>.<generation>/metadata     JSON ([Metadata]), in the form of FATE's S3 tables
//
// of a [blob.Store], which the containers of a task read. The generation is part of the name in the address
// that a container gets ([GenerationAddress]), so the container needs to know nothing of generations.
//
// Datasets are immutable. An upload ([Datasets.Ingest]) writes a new generation, with 16 hexadecimal digits
// of its own, and then points the dataset's row (t_data_table) at it. Readers keep reading the generation
// that they opened. A job records which generation its tasks read, so that all attempts read the same.
// [Datasets.Sweep] removes generations that never became current, and superseded ones that no job needs. The
// outputs of tasks, and datasets that other platforms put into the storage, have no generation: their objects
// are under <namespace>/<name>/.
//
// An upload is read once, as a stream, in bounded memory. The check that no id occurs twice concerns the
// whole file, so its data is kept on disk until the end. The file becomes a generation only if all of it is
// valid.
//
// A valid file is text in the encoding that the upload names, which is UTF-8 by default. A byte order mark
// takes precedence and is dropped. The dataset is UTF-8. A valid file has rows of equal width, lines that end
// with LF or CRLF, fields quoted as in RFC 4180, and no NUL. Empty lines are skipped. An error names the line
// of the file, never a value: rows are a party's secret, and errors travel.
//
// A row belongs to partition fnv1a64(id) mod partitions, where id is the bytes of its id column. This never
// changes, so that two datasets with the same ids and partitions are partitioned alike. Rows keep their order
// within a partition.
//
// With extend_sid, a first column "sid" is added: the generation, "-", and the number of the row from 1, such
// as "9f86d081884c7d65-17". It identifies the row, so that ids may repeat. Without it, an id that repeats is
// an error.
//
// The columns of a file without a header (head false) are those of meta.header, a list or one string divided
// by the delimiter. Without meta.header, the first column has the name in meta.match_id_name, or "id", and
// the others are x0, x1, ...
//
// The type of a column follows from all its values but empty ones: int64 for plain integers of that range,
// float64 for decimal numbers, NaN and such integers among them, string for anything else. Numbers with
// leading zeros and integers out of range are strings, since they are names. Values are stored as they were
// written.
package dataset
