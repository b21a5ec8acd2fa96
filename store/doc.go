// Package store holds the rows of a party: the documents of jobs, jobs and tasks on the scheduler's and the
// participant's side, reservations, providers, datasets, outputs and runners. It uses PostgreSQL or SQLite,
// with one set of migrations and one set of queries for both.
//
// The workflow decides about a job; rows are what users read of it. So every write can be repeated: creating
// the same thing twice creates it once, and another thing under the same key is a [bfia.CodeConflict]. A
// state only moves forward. The SQL itself ensures that (UPDATE ... WHERE state IN the earlier ones), not a
// read before a write. So late and repeated reports of several processes can't reset a task.
//
// Errors are [bfia.Error] where a caller can react: CodeNotFound, CodeConflict, CodeBadRequest for a text
// that no database accepts, CodeUnavailable when the database is unreachable or stays busy.
//
// Times are in UTC and in microseconds, which both databases store. Reasons are cut at [MaxReason] bytes.
//
// Each aggregate has a file: document.go; schedule.go, schedule_task.go and queue.go (the scheduler's side);
// job.go, task.go and reservation.go (the participant's side); provider.go, datatable.go, generation.go,
// output.go, runner.go. store/blob has the objects, and store/dataset the form of a dataset in there.
package store
