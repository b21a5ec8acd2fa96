// Package bfia is the BFIA interconnection protocol, v1.2.0, as Hutong speaks it: the words that pass between
// parties, between a party and its clients, and between a party and the containers that it runs.
//
// It is pure: types, checks and derivations, no I/O, and it imports nothing else of Hutong's, so that a table
// or a captured message is all a test needs. A reader who wants to know how a job's document becomes work
// reads, in this order:
//
//   - job.go: the document of a job (DAG and Config) as it travels, unknown fields and number spellings kept;
//   - provider.go: a vendor's algorithms and their self-descriptions;
//   - plan.go: what the two say together: which task runs where, after what ([NewPlan]); every refusal names the place;
//   - params.go and env.go: what one container of one task is told ([Environment]);
//   - decode.go: how JSON is read so that every error names the whole place;
//   - state.go: the states of jobs and tasks, and how those of several parties make one.
//
// Sections quoted as "part 2, 3.1" are those of the public specification (API_SPECS).
package bfia
