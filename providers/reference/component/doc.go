// Package component implements the BFIA component contract (API_SPECS, part 3): everything that any algorithm
// needs in order to run as a container of a BFIA scheduler of any vendor.
//
//   - The environment: which task this is, which role runs here, and who the other parties are
//     ([FromEnviron], [Task]).
//   - The parameters, which arrive as strings ([Reader]).
//   - The storage: where inputs lie and outputs go ([Store], [ReadTable], [WriteTable], [WriteJSON]).
//   - The callback and the exit code, which report how the task ended ([Task.ReportStatus]).
//   - The optional control port, which answers status queries while the task runs ([Task.ServeControl]).
//   - The connections to the other parties ([Peer]); package channel implements them.
//
// A scheduler passes everything to a container in environment variables with dots in their names.
// [FromEnviron] reads them once into a [Task]. Nothing else looks at the environment.
//
// No log line and no error of this package contains a row id, a value of a row, or the storage's password.
package component
