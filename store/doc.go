// Package store keeps what a party must find again: the documents of jobs, the records of jobs and tasks on the
// scheduler's and the participant's side, providers, datasets, outputs and hosts. It runs on PostgreSQL and on SQLite,
// with one set of migrations and one set of queries for both.
//
// The workflow is what is true about a job, a row is what users read of it. So every write here can be made again:
// creating the same thing twice is one thing, another thing under the same key is a [bfia.CodeConflict], and a state
// only moves forward. That last rule stands in the SQL itself (UPDATE ... WHERE state IN the lower ones), not in a read
// before a write, so that late and doubled reports of several processes can't take a task back.
//
// Errors are [bfia.Error] where a caller can do something about them: CodeNotFound, CodeConflict, CodeBadRequest for a
// text that no database takes, CodeUnavailable when the database can't be reached or stays busy.
//
// Times are in UTC and in microseconds, which is what both databases keep; reasons are cut at [MaxReason] bytes.
//
// There is one file for each aggregate: document.go, schedule.go (the scheduler's side), job.go and task.go (the
// participant's side), provider.go, datatable.go, output.go, host.go. Objects themselves are in store/blob, and what a
// dataset looks like in there is in store/dataset.
package store
