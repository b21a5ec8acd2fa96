package fateflow

import (
	"context"
	"encoding/json"
	"strings"

	"hutong/bfia"
)

// Command is the body of a FATE-Flow scheduler's command to a participant. FATE-Flow sends one for each role
// and party.
type Command struct {
	JobID       string `json:"job_id"`
	Role        string `json:"role"`
	PartyID     string `json:"party_id"`
	TaskID      string `json:"task_id"`
	TaskVersion int    `json:"task_version"` // from 0; see [Attempt]
	NewVersion  int    `json:"new_version"`
	Status      string `json:"status"`
	// DAG is the job in FATE-Flow's own language, as 2.2.0 sends it.
	DAG json.RawMessage `json:"dag"`
	// Schema holds a BFIA job in FATE-Flow's envelope: dag, config, flow_id and old_job_id.
	Schema struct {
		DAG map[string]json.RawMessage `json:"dag"`
	} `json:"dag_schema"`
}

// Party gives [Participant] access to the jobs of a party, for the sender of a request. Its methods refuse
// what the sender may not do, see [bfia.May], and a job that the party does not know (code
// [bfia.CodeNotFound]).
type Party interface {
	// Catalog returns access to the providers of a job: those in the job's record, and for a new job those
	// that the party has now.
	Catalog(ctx context.Context, jobID string) (Catalog, error)
	// CreateJob creates the party's part of a job. A request that is repeated changes nothing. ownProtocol is
	// set for a scheduler that speaks FATE-Flow's own protocol.
	CreateJob(ctx context.Context, doc *bfia.Document, scheduler string,
		ownProtocol bool) (bfia.JobAccepted, error)
	// JobState returns the state of a job.
	JobState(ctx context.Context, jobID string) (bfia.JobState, error)
	// StartJob starts an approved job.
	StartJob(ctx context.Context, jobID string) error
	// StopJob stops a job. It does nothing for a job that has ended.
	StopJob(ctx context.Context, jobID string) error
	// ReopenJob starts an ended job once more; its tasks keep their states.
	ReopenJob(ctx context.Context, jobID string) error
	// Reserve reserves the resources of an approved job.
	Reserve(ctx context.Context, jobID string) (bfia.Grant, error)
	// Release releases the resources of a job that has not started.
	Release(ctx context.Context, jobID string) error
	// Tasks returns the party's parts of a job's tasks.
	Tasks(ctx context.Context, jobID string) ([]Part, error)
	// StartTask starts an attempt of a task in all roles of the party. A request that is repeated changes
	// nothing.
	StartTask(ctx context.Context, ref bfia.TaskRef) error
	// StopTask stops one attempt of a task, but not the tasks that depend on it.
	StopTask(ctx context.Context, jobID, task string, attempt int) error
}

// Part is a party's part of a task, in one role, in the state of its latest attempt.
type Part struct {
	Task    string
	Role    string
	Attempt int
	State   bfia.TaskState
}

// Participant serves the commands of FATE-Flow schedulers to a party.
type Participant struct {
	// Node is the node id of the party.
	Node string
	// Sender is the party that sent the request.
	Sender string
	Party  Party
}

// Endpoint is a path of a participant with its handler.
type Endpoint struct {
	Path   string
	handle func(*Participant, context.Context, *Command) (any, error)
}

// Endpoints returns the endpoints of a participant.
func Endpoints() []Endpoint {
	return []Endpoint{
		{PathJobCreate, (*Participant).createJob},
		{PathJobStart, (*Participant).startJob},
		{PathJobStatus, (*Participant).updateJobStatus},
		{PathJobUpdate, (*Participant).acknowledgeJob},
		{PathJobApply, (*Participant).reserve},
		{PathJobReturn, (*Participant).release},
		{PathJobStop, (*Participant).stopJob},
		{PathTaskApply, (*Participant).acknowledgeTask},
		{PathTaskReturn, (*Participant).acknowledgeTask},
		{PathTaskStart, (*Participant).startTask},
		{PathTaskStatus, (*Participant).acknowledgeTask},
		{PathTaskCollect, (*Participant).collectTask},
		{PathTaskStop, (*Participant).stopTask},
		{PathTaskRerun, (*Participant).rerunTask},
	}
}

// Serve checks a command and executes it. It returns the data of the answer; nil is an empty object.
func (e Endpoint) Serve(ctx context.Context, p *Participant, cmd *Command) (any, error) {
	if cmd.PartyID != p.Node {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "party_id: is %q, this party is %s", cmd.PartyID, p.Node)
	}
	for _, f := range []struct{ name, value string }{{"role", cmd.Role}, {"job_id", cmd.JobID}} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return nil, err
		}
	}
	for _, v := range []int{cmd.TaskVersion, cmd.NewVersion} {
		if v < 0 || v >= bfia.MaxAttempts {
			return nil, bfia.Errorf(bfia.CodeBadRequest, "task_version: %d is not between 0 and %d", v,
				bfia.MaxAttempts-1)
		}
	}
	return e.handle(p, ctx, cmd)
}

// createJob creates a job at this party. The command for a second role finds it created.
func (p *Participant) createJob(ctx context.Context, cmd *Command) (any, error) {
	if len(cmd.Schema.DAG) > 0 {
		return p.createBFIAJob(ctx, cmd)
	}
	if len(cmd.DAG) == 0 {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "dag: is required")
	}

	catalog, err := p.Party.Catalog(ctx, cmd.JobID)
	if err != nil {
		return nil, err
	}
	job, err := Translate(cmd.DAG, cmd.JobID, p.Node, catalog)
	if err != nil {
		return nil, err
	}
	if p.Sender != job.Scheduler {
		return nil, bfia.Errorf(bfia.CodeForbidden,
			"dag.conf.scheduler_party_id: is %s, but the job comes from %s", job.Scheduler, p.Sender)
	}
	return p.Party.CreateJob(ctx, job.Document, job.Scheduler, true)
}

// createBFIAJob creates a BFIA job that arrives in FATE-Flow's envelope.
func (p *Participant) createBFIAJob(ctx context.Context, cmd *Command) (any, error) {
	for _, field := range []string{"dag", "config"} {
		if len(cmd.Schema.DAG[field]) == 0 {
			return nil, bfia.Errorf(bfia.CodeBadRequest,
				"dag_schema.dag.%s: is required, as in a BFIA job; send a job in FATE-Flow's own language as dag",
				field)
		}
	}
	raw, err := json.Marshal(cmd.Schema.DAG)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeBadRequest, err, "dag_schema.dag: is not readable as JSON")
	}
	doc, err := bfia.ParseDocument(raw)
	if err != nil {
		return nil, err
	}

	return p.Party.CreateJob(ctx, doc.WithJobID(cmd.JobID), p.Sender, false)
}

func (p *Participant) startJob(ctx context.Context, cmd *Command) (any, error) {
	return nil, p.Party.StartJob(ctx, cmd.JobID)
}

// acknowledgeJob accepts a command about a known job that requires no action here.
func (p *Participant) acknowledgeJob(ctx context.Context, cmd *Command) (any, error) {
	_, err := p.Party.JobState(ctx, cmd.JobID)
	return nil, err
}

// updateJobStatus receives the scheduler's state of a job. An end of the job there ends it here, also for a
// job that was not created at every party. The status waiting reopens a job that has ended.
func (p *Participant) updateJobStatus(ctx context.Context, cmd *Command) (any, error) {
	switch {
	case JobEnded(cmd.Status):
		return p.stopJob(ctx, cmd)
	case cmd.Status == Waiting:
		return p.awaitStart(ctx, cmd)
	}
	return p.acknowledgeJob(ctx, cmd)
}

// awaitStart handles the status waiting, which prepares a job for its start. FATE-Flow sends it after it has
// created a job at every party, and before it reruns a failed task. In the second case FATE-Flow has ended
// the job at every party, so awaitStart reopens it.
func (p *Participant) awaitStart(ctx context.Context, cmd *Command) (any, error) {
	state, err := p.Party.JobState(ctx, cmd.JobID)
	if err != nil {
		return nil, err
	}

	switch state {
	case bfia.JobPending, bfia.JobReady:
		return nil, nil
	case bfia.JobRejected:
		return nil, bfia.Errorf(bfia.CodeConflict, "job_id: job %s was rejected at %s", cmd.JobID, p.Node)
	}
	return nil, p.Party.ReopenJob(ctx, cmd.JobID)
}

// reserve reserves the resources of the job. A FATE-Flow scheduler asks again until it gets them.
func (p *Participant) reserve(ctx context.Context, cmd *Command) (any, error) {
	grant, err := p.Party.Reserve(ctx, cmd.JobID)
	switch {
	case err != nil:
		return nil, err
	case grant.State.Terminal():
		message := strings.TrimSuffix("the job has ended at "+p.Node+": "+grant.Reason, ": ")
		return nil, bfia.Errorf(CodeNeverAvailable, "%s", message)
	case !grant.Granted:
		return nil, bfia.Errorf(CodeInsufficient, "%s", grant.Reason)
	}
	return nil, nil
}

func (p *Participant) release(ctx context.Context, cmd *Command) (any, error) {
	return nil, p.Party.Release(ctx, cmd.JobID)
}

// stopJob stops a job at this party. It does nothing for a job that has ended or never arrived.
func (p *Participant) stopJob(ctx context.Context, cmd *Command) (any, error) {
	err := p.Party.StopJob(ctx, cmd.JobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return nil, nil
	}
	return nil, err
}

// part returns this party's part of a command's task in the command's role.
func (p *Participant) part(ctx context.Context, cmd *Command) (*Part, error) {
	name, named := strings.CutPrefix(cmd.TaskID, cmd.JobID+"_")
	if !named || name == "" {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "task_id: %q is not of the form <job_id>_<task name>",
			cmd.TaskID)
	}
	parts, err := p.Party.Tasks(ctx, cmd.JobID)
	if err != nil {
		return nil, err
	}

	for i, part := range parts {
		if part.Task == name && part.Role == cmd.Role {
			return &parts[i], nil
		}
	}
	return nil, bfia.Errorf(bfia.CodeNotFound, "task_id: job %s has no task %q for %s of %s", cmd.JobID, name,
		cmd.Role, p.Node)
}

// acknowledgeTask accepts a command about a known task that requires no action here: the job's reservation
// covers its tasks, and the party knows their states before the scheduler does.
func (p *Participant) acknowledgeTask(ctx context.Context, cmd *Command) (any, error) {
	_, err := p.part(ctx, cmd)
	return nil, err
}

// startTask starts a version of a task in all roles of this party. The command for a second role changes
// nothing.
func (p *Participant) startTask(ctx context.Context, cmd *Command) (any, error) {
	part, err := p.part(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return nil, p.Party.StartTask(ctx, Attempt(cmd.JobID, part.Task, cmd.TaskVersion))
}

// collectTask returns the state of this party's part of a version of a task.
func (p *Participant) collectTask(ctx context.Context, cmd *Command) (any, error) {
	part, err := p.part(ctx, cmd)
	if err != nil {
		return nil, err
	}

	state := part.State
	switch attempt := cmd.TaskVersion + 1; {
	case part.Attempt > attempt:
		state = bfia.TaskFailed // a later version has replaced it
	case part.Attempt < attempt:
		state = bfia.TaskReady
	}
	return Report{JobID: cmd.JobID, TaskID: cmd.TaskID, TaskVersion: cmd.TaskVersion, Role: cmd.Role,
		PartyID: cmd.PartyID, Status: StateOf(state)}, nil
}

// stopTask stops one version of a task, since FATE-Flow may start another. It removes what an ended version
// left.
func (p *Participant) stopTask(ctx context.Context, cmd *Command) (any, error) {
	part, err := p.part(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return nil, p.Party.StopTask(ctx, cmd.JobID, part.Task, cmd.TaskVersion+1)
}

// rerunTask accepts the announcement of a later version of a task, which task/start will start.
func (p *Participant) rerunTask(ctx context.Context, cmd *Command) (any, error) {
	if cmd.NewVersion <= cmd.TaskVersion {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "new_version: %d does not come after task_version %d",
			cmd.NewVersion, cmd.TaskVersion)
	}
	return p.acknowledgeTask(ctx, cmd)
}
