// Package interop tests Hutong together with FATE-Flow 2.2.0: both as real processes, with real containers on both sides
// and an S3 server for the storage of each. `make interop` runs it; docs/interop.md tells what is tested and what was found.
package interop
