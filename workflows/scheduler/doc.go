// Package scheduler holds the workflow of a job at its scheduler. In the order of a job's life:
//
//   - job.go creates the job at every party or at none, starts it, walks its DAG, and ends it at every party;
//   - approval.go waits until all parties have approved the job;
//   - queue.go waits in the queue of this scheduler, and reserves what the job needs at every party;
//   - tasks.go runs a task in one or more attempts, by callbacks;
//   - polling.go polls the parties of a task that is silent;
//   - progress.go writes what changed to the rows that users read;
//   - details.go shows in Temporal's UI what the job does and waits for.
//
// The queue decides by priority aging and fair share which jobs may reserve (package admission). A party
// grants a reservation by backfilling with a head reservation. All schedulers ask the parties in the same
// order, and hold all reservations of a job or none, so no two jobs wait for each other.
package scheduler
