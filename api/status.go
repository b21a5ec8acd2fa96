package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/fateflow"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/workflows"
)

// platformStatus returns a job's status to a client (part 2, 5.3), with tasks by id. The job's scheduler
// reports the parts of all parties, another party its own.
func (s *Server) platformStatus(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	status, err := s.jobStatus(c.UserContext(), get("job_id"))
	if err != nil {
		return err
	}
	if err := s.explain(c.UserContext(), status); err != nil {
		return err
	}
	if err := s.nameClients(c.UserContext(), status); err != nil {
		return err
	}
	for _, t := range status.Tasks {
		if t.TaskID != "" {
			status.Status[t.TaskID] = t.State
		}
	}
	return answer(c, "success", status, map[string]any{"job_status": status.State, "status": status.Status})
}

// schedulerStatus returns the status of a job that this party schedules to a partner (part 2, 3.7), with
// tasks by name.
func (s *Server) schedulerStatus(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	jobID := get("job_id")
	if err := bfia.CheckID("job_id", jobID); err != nil {
		return err
	}
	if _, err := s.scheduledJobFor(c.UserContext(), s.sender(c), bfia.VerbStatusAll, jobID); err != nil {
		return err
	}
	status, err := s.scheduledStatus(c.UserContext(), jobID)
	if err != nil {
		return unknownJob(err, jobID, s.Node)
	}
	for _, t := range status.Tasks {
		status.Status[t.Name] = t.State
		s.shareWaits(t.Parties)
		for k := range t.Attempts {
			s.shareWaits(t.Attempts[k].Parties)
		}
	}
	return ok(c, status)
}

// shareWaits reduces what this party's parts wait for, and have waited for, to what partners may see.
func (s *Server) shareWaits(parts []bfia.PartStatus) {
	for i := range parts {
		p := &parts[i]
		if p.NodeID != s.Node {
			continue
		}
		p.Waiting = p.Waiting.ForPartners(s.Settings.FailureSharing)
		for k := range p.Waits {
			p.Waits[k].Waiting = *p.Waits[k].ForPartners(s.Settings.FailureSharing)
		}
	}
}

func (s *Server) jobStatus(ctx context.Context, jobID string) (*bfia.JobStatus, error) {
	if err := bfia.CheckID("job_id", jobID); err != nil {
		return nil, err
	}
	status, err := s.scheduledStatus(ctx, jobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		if status, err = s.ownStatus(ctx, jobID); err == nil {
			status = s.askScheduler(ctx, status)
		}
	}
	if err != nil {
		return nil, unknownJob(err, jobID, s.Node)
	}
	return status, nil
}

// scheduledStatus builds the status of a job that this party schedules.
func (s *Server) scheduledStatus(ctx context.Context, jobID string) (*bfia.JobStatus, error) {
	job, err := s.store.ScheduleJob(ctx, jobID)
	if err != nil {
		return nil, err
	}
	tasks, err := s.store.ScheduleTasks(ctx, jobID)
	if err != nil {
		return nil, err
	}
	parts, err := s.store.ScheduleParts(ctx, jobID)
	if err != nil {
		return nil, err
	}
	status := &bfia.JobStatus{JobID: job.JobID, FlowID: job.FlowID, State: job.State,
		Status:  map[string]bfia.TaskState{},
		Outcome: job.Outcome, Reason: job.Reason, Failure: job.Failure,
		Scheduler: s.Node,
		CreatedAt: &job.CreatedAt, StartedAt: job.StartedAt, EndedAt: job.EndedAt}
	if status.Queued, err = s.queuePosition(ctx, job); err != nil {
		return nil, err
	}
	status.Waiting = waitsOf(job, status.Queued)
	own, err := s.store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}
	byTask := map[string][]store.SchedulePart{} // a map, since a job may have very many parts
	for _, p := range parts {
		byTask[p.TaskID] = append(byTask[p.TaskID], p)
	}
	mine := map[part]store.Task{}
	for _, t := range own {
		mine[part{t.Name, t.Role, t.RoleIndex}] = t
	}
	for _, t := range tasks {
		ts := bfia.TaskStatus{TaskID: t.TaskID, Name: t.Name, Component: t.Component, Provider: t.Provider +
			":" + t.Version,
			State: t.State, Reason: t.Reason, DependsOn: t.DependsOn, Attempt: laterAttempt(t.Attempt),
			StartedAt: t.StartedAt, EndedAt: t.EndedAt}
		for _, p := range byTask[t.TaskID] {
			ps := bfia.PartStatus{NodeID: p.NodeID, Role: p.Role, Index: p.RoleIndex, State: p.State,
				Reason: p.Reason, Failure: p.Failure, Waits: p.EndedWaits(), StartedAt: p.StartedAt,
				EndedAt: p.EndedAt}
			if !p.State.Terminal() {
				ps.Waiting = p.Waiting
			}
			if p.NodeID == s.Node { // this party knows most of its own parts
				row := mine[part{t.Name, p.Role, p.RoleIndex}]
				ps.Waits = row.EndedWaits()
				if !p.State.Terminal() {
					ps.Progress, ps.Waiting = row.Progress, row.Waiting
				}
			}
			ts.Parties = append(ts.Parties, ps)
		}
		status.Tasks = append(status.Tasks, ts)
	}
	explainUnstarted(status, job.Parallelism, s.Settings.TasksInFlight)
	return status, s.addScheduledAttempts(ctx, status)
}

// part identifies a part of a task.
type part struct {
	task, role string
	index      int
}

// laterAttempt returns the number of an attempt after the first, and 0 for the first, which the status omits.
func laterAttempt(attempt int) int {
	if attempt > 1 {
		return attempt
	}
	return 0
}

// ownStatus builds the status of a job from this party's own parts.
func (s *Server) ownStatus(ctx context.Context, jobID string) (*bfia.JobStatus, error) {
	job, err := s.store.Job(ctx, jobID)
	if err != nil {
		return nil, err
	}
	rows, err := s.store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}
	status := &bfia.JobStatus{JobID: job.JobID, FlowID: job.FlowID, State: job.State,
		Status:  map[string]bfia.TaskState{},
		Outcome: job.Outcome, Reason: job.Reason, Failure: job.Failure, Scheduler: job.SchedulerNode,
		CreatedAt: &job.CreatedAt, StartedAt: job.StartedAt, EndedAt: job.EndedAt}
	waits, err := s.jobWaits(ctx, []store.Job{job})
	if err != nil {
		return nil, err
	}
	status.Waiting = waits[job.JobID]
	place := map[string]int{}
	for _, r := range rows {
		i, found := place[r.Name]
		if !found {
			i = len(status.Tasks)
			place[r.Name] = i
			status.Tasks = append(status.Tasks,
				bfia.TaskStatus{TaskID: r.TaskID, Name: r.Name, Component: r.Component,
					Provider: r.Provider + ":" +
						r.Version, Attempt: laterAttempt(r.Attempt), DependsOn: []string{}})
		}
		t := &status.Tasks[i]
		progress, waiting := r.Progress, r.Waiting
		if r.State.Terminal() {
			progress, waiting = "", nil
		}
		t.Parties = append(t.Parties, bfia.PartStatus{NodeID: s.Node, Role: r.Role, Index: r.RoleIndex,
			State:  r.State,
			Reason: r.Reason, Progress: progress, Waiting: waiting, Waits: r.EndedWaits(),
			Failure: failureOf(r), ReusedFrom: r.ReusedJobID,
			StartedAt: r.StartedAt, EndedAt: r.EndedAt})
		t.StartedAt, t.EndedAt = earlier(t.StartedAt, r.StartedAt), later(t.EndedAt, r.EndedAt)
		var states []bfia.TaskState
		for _, p := range t.Parties {
			states = append(states, p.State)
		}
		t.State = bfia.MergeTaskStates(states...)
		if r.Reason != "" && t.Reason == "" {
			t.Reason = r.Reason
		}
	}
	if doc, err := s.document(ctx, jobID); err == nil {
		for _, c := range doc.DAG.Components {
			if i, found := place[c.Name]; found {
				status.Tasks[i].DependsOn = c.Upstreams()
			}
		}
	}
	explainUnstarted(status, nil, 0)
	return status, s.addOwnAttempts(ctx, status)
}

func (s *Server) document(ctx context.Context, jobID string) (*bfia.Document, error) {
	return s.store.JobDocument(ctx, jobID)
}

func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// listOutputs lists the outputs of a job's tasks in this party's storage.
func (s *Server) listOutputs(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	jobID := get("job_id")
	if err := bfia.CheckID("job_id", jobID); err != nil {
		return err
	}
	if _, err := s.store.Job(c.UserContext(), jobID); err != nil {
		return unknownJob(err, jobID, s.Node)
	}
	if err := s.recordRead(c.UserContext(), jobID); err != nil {
		return err
	}
	rows, err := s.store.Outputs(c.UserContext(), jobID)
	if err != nil {
		return err
	}
	tasks, err := s.store.Tasks(c.UserContext(), jobID)
	if err != nil {
		return err
	}
	place := map[string]int{}
	for _, t := range tasks {
		place[t.Name] = t.Seq
	}
	slices.SortStableFunc(rows, func(a, b store.Output) int { return place[a.TaskName] - place[b.TaskName] })
	outputs := []bfia.Output{}
	for _, o := range rows {
		outputs = append(outputs, bfia.Output{TaskName: o.TaskName, TaskID: o.TaskID,
			Role: bfia.Part{Role: o.Role, Index: o.RoleIndex}.Self(),
			Type: o.Type, Key: o.Key, Output: o.Port, Namespace: o.Namespace, Name: o.Name, Bytes: o.Bytes})
	}
	return ok(c, map[string]any{"outputs": outputs})
}

// platformStop stops a job that this party submitted or participates in (part 2, 5.2).
func (s *Server) platformStop(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := s.stop(c.UserContext(), bfia.JobRef{JobID: ref.JobID}); err != nil {
		return err
	}
	return ok(c, nil)
}

// platformStopTask stops a task and its successors (part 2, 5.7).
func (s *Server) platformStopTask(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("task_name", ref.TaskName); err != nil {
		return err
	}
	if err := s.stop(c.UserContext(), bfia.JobRef{JobID: ref.JobID, TaskName: ref.TaskName}); err != nil {
		return err
	}
	return ok(c, nil)
}

// stop asks the job's scheduler to stop a job or a task.
func (s *Server) stop(ctx context.Context, ref bfia.JobRef) error {
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	on(ctx, audit.Job, ref.JobID)
	scheduler, err := s.schedulerOf(ctx, ref.JobID)
	if err != nil {
		return err
	}
	stop := func() error { return s.remote.StopAll(ctx, scheduler, ref) }
	doc, err := s.document(ctx, ref.JobID)
	fateFlow := err == nil && fateflow.Scheduled(doc) && scheduler != s.Node
	if fateFlow {
		if ref.TaskName != "" {
			return bfia.Errorf(bfia.CodeRefused,
				"task_name: %s schedules by the FATE-Flow protocol, which can stop a job, but not a task",
				scheduler)
		}
		stop = func() error { return fateflow.SendStop(ctx, s.remote, scheduler, ref.JobID) }
	}
	if err := s.recordAct(ctx); err != nil {
		return err
	}
	err = stop()
	if scheduler != s.Node && ref.TaskName == "" {
		err = s.stopHere(ctx, ref.JobID, scheduler, fateFlow, err)
	}
	if bfia.CodeOf(err) == bfia.CodePartnerDown {
		return err
	}
	if err != nil {
		return partnerError(err, "the scheduler")
	}
	return nil
}

// stopHere stops this party's part of a job whose scheduler, another party, will not: it has ended the job,
// and its job/stop did not arrive; it does not know the job; or it can't be reached. sent is the outcome of
// the request to the scheduler. A FATE-Flow that speaks its own protocol can't be asked for the job's state.
func (s *Server) stopHere(ctx context.Context, jobID, scheduler string, fateFlow bool, sent error) error {
	job, err := s.store.Job(ctx, jobID)
	if err != nil || job.State.Terminal() {
		return sent
	}

	var outcome *client.Error
	failed := errors.As(sent, &outcome)
	unreachable := failed && outcome.Outcome != client.Refused
	stop := workflows.Stop{By: s.Node}
	if unknown := failed && outcome.Code == bfia.CodeNotFound; !unreachable && !unknown {
		if fateFlow {
			return sent
		}
		status, err := s.remote.StatusAll(ctx, scheduler, jobID)
		if err != nil || !status.State.Terminal() {
			return sent // if it was taken, job/stop follows
		}
		stop = workflows.Stop{By: scheduler, Failure: status.Failure.Truncate(),
			Rejected: status.State == bfia.JobRejected, Reason: status.Reason}
	}

	if _, err := s.signal(ctx, workflows.ParticipantJobID(jobID), workflows.SignalStop, stop); err != nil {
		return err
	}
	if unreachable {
		return bfia.Wrap(bfia.CodePartnerDown, sent, "%s, the scheduler, did not answer: %s. "+
			"The job is being stopped at %s only; the other parties end it once %[1]s learns of that",
			scheduler, outcome.Cause, s.Node)
	}
	return nil
}

// health succeeds as long as the process serves requests.
func (s *Server) health(c *fiber.Ctx) error { return ok(c, map[string]any{"node_id": s.Node}) }

// ready succeeds if the database and Temporal answer.
func (s *Server) ready(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(c.UserContext(), 5*time.Second)
	defer cancel()
	var missing []string
	if err := s.store.Ping(ctx); err != nil {
		s.logger.Warn("not ready", "part", "database", "error", err)
		missing = append(missing, "the database")
	}
	if _, err := s.temporal.CheckHealth(ctx, nil); err != nil {
		s.logger.Warn("not ready", "part", "temporal", "error", err)
		missing = append(missing, "Temporal")
	}
	if len(missing) > 0 {
		return bfia.Errorf(bfia.CodeUnavailable, "no answer from %s", strings.Join(missing, " and "))
	}
	return ok(c, map[string]any{"node_id": s.Node})
}
