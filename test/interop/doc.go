// Package interop tests Hutong with FATE-Flow 2.2.0: both as real processes, with real containers and an S3
// server for the storage of each. `make interop` runs it. The documentation of interoperation in docs lists
// the tests and their findings.
package interop
