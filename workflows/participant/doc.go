// Package participant holds the workflow of a job at a participant. In the order of a job's life:
//
//   - job.go takes the scheduler's commands, and ends the job once its containers are gone;
//   - approval.go waits for an approver of this party, and reports the decision to the scheduler;
//   - reservation.go reserves resources for the job, and hints to waiting jobs when it releases them;
//   - tasks.go claims runners for the parts of a task, and runs them;
//   - containers.go runs one container, moves it if its runner does not start it, and stops it;
//   - reports.go reports states to the scheduler;
//   - details.go shows in Temporal's UI what the job does and waits for.
//
// A reservation holds one slot for each part of a task, as many times as tasks may run at once (its
// parallelism). A generation, counted by the scheduler, fences late requests and releases.
package participant
