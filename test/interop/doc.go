// Package interop tests Hutong with FATE-Flow 2.2.0: both as real processes, with real containers and an S3
// server for the storage of each. `make interop` runs it. docs/operators/fateflow.md lists the tests and
// their results.
package interop
