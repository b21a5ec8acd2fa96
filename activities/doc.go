// Package activities holds what the activities of all actors share: task queues, error types, the names of
// tasks and their containers, and the documents from which both are derived.
//
// The activities themselves are in one package for each actor: [hutong/activities/scheduler] for a job at its
// scheduler, [hutong/activities/participant] for a job at a participant, [hutong/activities/runner] for
// containers on a runner, and [hutong/activities/housekeeping]. A workflow calls an activity by a reference
// to its method, with one struct as input.
//
// Temporal may run an activity again at any time, also while an earlier attempt is still running. Every
// activity is therefore idempotent: records move states forward only, commands are safe to repeat, containers
// are found by name.
package activities
