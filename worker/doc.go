// Package worker runs a party's Temporal workers.
//
// A control worker runs workflows, records, and commands to partners. A runner's worker starts, watches and
// stops containers on its machine. A party may have any number of each, but only one worker for each runner.
//
//   - worker.go holds the control worker, and how workers start and stop;
//   - runner.go holds a runner's worker;
//   - announce.go announces the runner to the party: its heartbeat, resources and labels;
//   - housekeeping.go starts the party's housekeeping, and sweeps a runner's containers;
//   - notifications.go starts and ends the party's notifications;
//   - duplicates.go detects a second worker of the same runner;
//   - failures.go logs the failures of local activities, which Temporal retries silently.
package worker
