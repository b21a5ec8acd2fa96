package activities

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// ControlQueue is the task queue of workflows, records and commands to partners. Containers are started,
// watched and stopped on the task queues of their runner, so that a restarted worker finds the containers
// that it had started.
const ControlQueue = "control"

// TaskQueueOfRunner returns the task queue on which a runner runs tasks.
func TaskQueueOfRunner(runnerID string) string { return "runner/" + runnerID }

// StopQueueOfRunner returns the task queue on which a runner stops containers. It is apart from the queue of
// tasks, since a stop must never wait for a slot that only a stop can free.
func StopQueueOfRunner(runnerID string) string { return "runner/" + runnerID + "/stop" }

const (
	// HeartbeatInterval is well below the heartbeat timeout of activities: a cancellation comes with a
	// heartbeat's answer.
	HeartbeatInterval = 2 * time.Second
	// RunnerSilentAfter is the time since its last heartbeat after which a runner is silent: nothing is
	// placed on it.
	RunnerSilentAfter = time.Minute
	// MaxHints bounds how many waiting jobs get a capacity hint at once. The others poll.
	MaxHints = 16
)

// JobRunning asks Temporal whether a job's workflow is running, and if it isn't, how it ended: "was
// terminated". An error means that Temporal did not answer.
type JobRunning func(ctx context.Context, jobID string) (running bool, closed string, err error)

// TaskKey names one part of a task of a job at this party.
type TaskKey struct {
	JobID string `json:"job_id"`
	Task  string `json:"task"`
	Role  string `json:"role"`
	Index int    `json:"index"`
}

// Row returns the key of the part's row.
func (k TaskKey) Row() store.TaskKey {
	return store.TaskKey{JobID: k.JobID, Name: k.Task, Role: k.Role, RoleIndex: k.Index}
}

// PartRequest names one attempt of one part of a task.
type PartRequest struct {
	Key     TaskKey   `json:"key"`
	Part    bfia.Part `json:"part"`
	TaskID  string    `json:"task_id"`
	Attempt int       `json:"attempt"`
}

// ContainerName returns the name of the attempt's container. It is derived from the request alone, and no
// other attempt has the same. A container of an earlier version of Hutong may have another one, which is in
// the part's row.
func (r PartRequest) ContainerName() string {
	name := fmt.Sprintf("hutong-%s-%s-%s-%d", r.Key.JobID, r.Key.Task, r.Part.Self(), r.Attempt)
	if len(name) <= 107 && !strings.Contains(r.Key.JobID+r.Key.Task, "-") {
		return name
	}

	// Job a-b with task c would have the name of job a with task b-c. No job id is empty, so only such names
	// have "--".
	return fmt.Sprintf("hutong--%s-%s-%d", bfia.TaskID(r.Key.JobID, r.Key.Task), r.Part.Self(), r.Attempt)
}

// PartResult is the end of an attempt of a part.
type PartResult struct {
	Failure *bfia.Failure `json:"failure,omitempty"` // nil if it succeeded
}

// ShowWaitAfter is how long a part must have waited before its workflow is notified, which shows that in
// Temporal's UI. It is more than the longest pause between two tries of RunTask: a container that starts and
// fails in turns must not fill the history of the workflow.
const ShowWaitAfter = 20 * time.Second

// PartWait is what an attempt of a part waits for, as its runner or a poll knows it.
type PartWait struct {
	TaskID  string        `json:"task_id"`
	NodeID  string        `json:"node_id"`
	Part    string        `json:"part,omitempty"`    // such as "guest.0"; a poll asks for all parts at a party
	Waiting *bfia.Waiting `json:"waiting,omitempty"` // nil if it no longer waits
	// Unrecorded says that the database did not take the wait. The workflow records it then.
	Unrecorded bool `json:"unrecorded,omitempty"`
}

// JobRecord reads what this party fixed of a job at its creation.
func JobRecord(ctx context.Context, db *store.Store, jobID string) (*store.JobRecord, error) {
	record, err := db.JobRecord(ctx, jobID)
	if err != nil {
		return nil, fmt.Errorf("failed to read the document of job %s: %w", jobID, err)
	}

	return record, nil
}

// ContainerSpec derives from a job's record the inputs, outputs and parameters of a part in the attempt
// that taskID names.
func ContainerSpec(ctx context.Context, db *store.Store, key TaskKey, part bfia.Part, taskID string,
) (*bfia.ContainerSpec, error) {
	record, err := JobRecord(ctx, db, key.JobID)
	if err != nil {
		return nil, err
	}
	doc := record.Document

	names := []string{key.Task} // only the rows that matter: a job may have very many tasks
	for _, c := range doc.DAG.Components {
		if c.Name == key.Task {
			names = append(names, c.Upstreams()...)
		}
	}

	rows, err := db.TasksNamed(ctx, key.JobID, names...)
	if err != nil {
		return nil, fmt.Errorf("failed to read the tasks of job %s: %w", key.JobID, err)
	}

	ids, generation, model := map[string]string{}, "", ""
	for _, row := range rows {
		if row.TaskID != "" {
			ids[row.Name] = row.OutputTaskID()
		}
		if row.Name == key.Task && row.ReusedTaskID == "" {
			ids[row.Name] = taskID // the row may name a later attempt
		}
		if row.Name == key.Task && row.Role == part.Role && row.RoleIndex == part.Index {
			generation, model = row.DatasetGeneration, row.ModelAddress
		}
	}

	spec, err := bfia.NewContainerSpec(doc, record.Registry.Describe, key.Task, part, ids)
	if err != nil {
		return nil, err
	}
	setGeneration(spec, generation)
	setModel(spec, model)

	return spec, nil
}
