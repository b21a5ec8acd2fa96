// Package workflows holds the contract of a party's workflows: their types, ids, inputs and results, their
// signals and updates, their search attributes; and the ways in which they call activities.
//
// The workflows themselves are in one package for each actor, and read from top to bottom as the life of a
// job: [hutong/workflows/scheduler] for a job at its scheduler, [hutong/workflows/participant] for a job at a
// participant, and [hutong/workflows/housekeeping]. Workflows do no I/O. They carry ids and a compact plan;
// the job's document stays in the store, where activities read it.
//
// Tasks are coroutines of a workflow, not child workflows. A child workflow for each task took twice the
// time.
//
// Events reach a workflow as signals, which may come twice, late, or out of order. Only callers that wait for
// an answer use an update.
package workflows
