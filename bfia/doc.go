// Package bfia implements the BFIA interconnection protocol, v1.2.0: the messages between parties, between a
// party and its clients, and between a party and its containers.
//
// It contains types, checks and derivations, does no I/O, and imports no other package of Hutong. Its tests
// need only tables and captured messages. To follow a job from its document to its containers, read in this
// order:
//
//   - job.go: the document of a job (DAG and Config), with unknown fields and number spellings kept;
//   - provider.go: a vendor's algorithms and their self-descriptions;
//   - plan.go: the plan derived from both, with the parts and the order of the tasks ([NewPlan]);
//   - params.go and env.go: the parameters and the environment of one container ([Environment]);
//   - decode.go: JSON decoding whose errors name the whole path;
//   - state.go: the states of jobs and tasks, and how the states of several parties are merged.
//
// Sections such as "part 2, 3.1" refer to the public specification (API_SPECS).
package bfia
