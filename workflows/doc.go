// Package workflows holds the two workflows that a job is made of: [Job] at its scheduler, [PartyJob] at every
// participant. They read from top to bottom as the life of a job, do no I/O of their own, and carry ids and a compact
// plan only; the job's document stays in the store, where activities read it.
//
// Tasks are coroutines inside a workflow, not child workflows: each hop through the engine costs more than a short
// container does.
//
// What happens outside reaches them as signals (a container's or a party's callback, start, stop), which may come twice,
// late or out of order. The only update is create, since its caller waits for the answer.
package workflows
