// Package periodic holds the workflow of a periodic job. It waits for the next scheduled time, submits an
// ordinary job, and waits for its end, until the periodic job is deleted or its count or end is reached.
//
// One coroutine, the loop, decides and records; the handlers of updates only change the state and wake it.
// Each run has a coroutine of its own. All state is in the periodic job's rows, from which the workflow
// continues as new, so that its history stays short.
//
// The next times are computed in a side effect: the history keeps them, so another version of the time zone
// data does not break the replay.
package periodic
