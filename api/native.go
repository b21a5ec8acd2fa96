package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// nativeCommand is the body of FATE-Flow's own commands to a partner (the seed, steps 10 and 20 of the
// execution): one call for each role and party, where the protocol has one for each party.
type nativeCommand struct {
	JobID       string `json:"job_id"`
	Role        string `json:"role"`
	PartyID     string `json:"party_id"`
	TaskID      string `json:"task_id"`
	TaskVersion int    `json:"task_version"` // from 0; the protocol's attempt, which counts from 1
	NewVersion  int    `json:"new_version"`
	Status      string `json:"status"`
	// DAG is the job in FATE's own language, as 2.2.0 sends it.
	DAG json.RawMessage `json:"dag"`
	// Schema holds a job of the BFIA protocol, where one comes by this way: dag, config, flow_id and
	// old_job_id.
	Schema struct {
		DAG map[string]json.RawMessage `json:"dag"`
	} `json:"dag_schema"`
}

// native serves one of FATE-Flow's own commands to a participant.
func (s *Server) native(handle func(*fiber.Ctx, *nativeCommand) error) fiber.Handler {
	return func(c *fiber.Ctx) error {
		var in nativeCommand
		if err := s.readJSON(c, &in); err != nil {
			return err
		}
		if in.PartyID != s.Node {
			return bfia.Errorf(bfia.CodeBadRequest, "party_id: is %q, this party is %s", in.PartyID, s.Node)
		}
		for _, f := range []struct{ name, value string }{{"role", in.Role}, {"job_id", in.JobID}} {
			if err := bfia.CheckID(f.name, f.value); err != nil {
				return err
			}
		}
		for _, v := range []int{in.TaskVersion, in.NewVersion} {
			if v < 0 || v >= maxAttempts {
				return bfia.Errorf(bfia.CodeBadRequest, "task_version: %d is not between 0 and %d", v,
					maxAttempts-1)
			}
		}
		return handle(c, &in)
	}
}

// nativeCreate creates a job here. The second call, for another role of this party, finds it created.
func (s *Server) nativeCreate(c *fiber.Ctx, in *nativeCommand) error {
	if len(in.Schema.DAG) > 0 {
		return s.nativeDocument(c, in)
	}
	if len(in.DAG) == 0 {
		return bfia.Errorf(bfia.CodeBadRequest, "dag: is required")
	}
	job, err := bfia.TranslateFate(in.DAG, in.JobID, s.Node,
		bfia.FateCatalog{Describe: s.store.Describe(c.UserContext()), Find: s.findComponent(c.UserContext())})
	if err != nil {
		return err
	}
	if sender := s.sender(c); sender != "" && sender != job.Scheduler {
		return bfia.Errorf(bfia.CodeForbidden,
			"dag.conf.scheduler_party_id: is %s, and the job comes from %s", job.Scheduler, sender)
	}
	return s.acceptJob(c, job.Document, job.Scheduler, true)
}

// nativeDocument creates a job of the BFIA protocol that comes in FATE-Flow's envelope.
func (s *Server) nativeDocument(c *fiber.Ctx, in *nativeCommand) error {
	for _, field := range []string{"dag", "config"} {
		if len(in.Schema.DAG[field]) == 0 {
			return bfia.Errorf(
				bfia.CodeBadRequest,
				"dag_schema.dag.%s: is required: a job of the BFIA protocol; one in FATE's own language comes as dag",
				field,
			)
		}
	}
	raw, err := json.Marshal(in.Schema.DAG)
	if err != nil {
		return bfia.Wrap(bfia.CodeBadRequest, err, "dag_schema.dag: can't be read")
	}
	doc, err := bfia.ParseDocument(raw)
	if err != nil {
		return err
	}
	scheduler := s.sender(c)
	if scheduler == "" {
		scheduler = doc.Config.Initiator.NodeID
	}
	return s.acceptJob(c, doc.WithJobID(in.JobID), scheduler, false)
}

// findComponent finds who has a component here.
func (s *Server) findComponent(ctx context.Context) func(string) ([][2]string, error) {
	return func(component string) ([][2]string, error) {
		providers, err := s.store.Providers(ctx, store.ProviderFilter{})
		if err != nil {
			return nil, err
		}
		var found [][2]string
		for _, p := range providers {
			if _, has := p.Components[component]; has {
				// by name and version, several devices side by side
				found = append(found, [2]string{p.Name, p.Version})
			}
		}
		return slices.Compact(found), nil
	}
}

func (s *Server) nativeStart(c *fiber.Ctx, in *nativeCommand) error {
	job, err := s.jobCommandedBy(c, in.JobID)
	if err != nil {
		return err
	}
	if err := s.checkApproved(job); err != nil {
		return err
	}
	return s.signalParty(c, in.JobID, workflows.SignalStart, nil)
}

// nativeHeard takes what needs no doing here, of a job that is known.
func (s *Server) nativeHeard(c *fiber.Ctx, in *nativeCommand) error {
	if _, err := s.jobCommandedBy(c, in.JobID); err != nil {
		return err
	}
	return ok(c, nil)
}

// nativeJobStatus takes what the scheduler makes of the job. One that has ended there, ends here; FATE-Flow's
// scheduler tells it also of jobs that were not created everywhere.
func (s *Server) nativeJobStatus(c *fiber.Ctx, in *nativeCommand) error {
	switch {
	case bfia.FateEnded(in.Status):
		return s.nativeStop(c, in)
	case in.Status == bfia.FateWaiting:
		return s.nativeWaiting(c, in)
	}
	return s.nativeHeard(c, in)
}

// nativeApply answers the scheduler's application for the job's room here. It asks again by itself.
func (s *Server) nativeApply(c *fiber.Ctx, in *nativeCommand) error {
	job, err := s.jobCommandedBy(c, in.JobID)
	if err != nil {
		return err
	}
	if err := s.checkApproved(job); err != nil {
		return err
	}
	var grant bfia.Grant
	gone, err := s.update(c.UserContext(), workflows.PartyJobID(in.JobID), workflows.UpdateReserve,
		bfia.ReserveRequest{JobID: in.JobID, Created: job.CreatedAt}, &grant)
	switch {
	case err != nil:
		return err
	case gone, grant.State.Terminal():
		return nativeRefusal(c, bfia.FateNeverRoom,
			strings.TrimSuffix("the job has ended at "+s.Node+": "+grant.Reason, ": "))
	case !grant.Granted:
		return nativeRefusal(c, bfia.FateNoRoom, grant.Reason)
	}
	return ok(c, nil)
}

// nativeRefusal answers with a code by which FATE-Flow's scheduler knows what to do.
func nativeRefusal(c *fiber.Ctx, code bfia.Code, message string) error {
	return c.JSON(map[string]any{"code": code, "message": cut(message), "data": struct{}{}})
}

func (s *Server) nativeReturn(c *fiber.Ctx, in *nativeCommand) error {
	if _, err := s.jobCommandedBy(c, in.JobID); err != nil {
		return err
	}
	if _, err := s.update(c.UserContext(), workflows.PartyJobID(in.JobID), workflows.UpdateRelease,
		bfia.ReleaseRequest{JobID: in.JobID}, nil); err != nil {
		return err
	}
	return ok(c, nil) // what has ended holds nothing
}

// nativeStop stops a job here. For what has ended, and for a job that never came, there is nothing to do.
func (s *Server) nativeStop(c *fiber.Ctx, in *nativeCommand) error {
	job, err := s.jobCommandedBy(c, in.JobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return ok(c, nil)
	}
	if err != nil {
		return err
	}
	if _, err := s.signal(c.UserContext(), workflows.PartyJobID(in.JobID), workflows.SignalStop,
		workflows.Stop{By: job.SchedulerNode}); err != nil {
		return err
	}
	return ok(c, nil)
}

// nativeTask finds a task of a command: its name, and this party's part of it in the command's role.
func (s *Server) nativeTask(c *fiber.Ctx, in *nativeCommand) (*store.Job, *store.Task, error) {
	name, named := strings.CutPrefix(in.TaskID, in.JobID+"_")
	if !named || name == "" {
		return nil, nil, bfia.Errorf(bfia.CodeBadRequest,
			"task_id: %q is not of the form <job_id>_<task name>", in.TaskID)
	}
	job, err := s.jobCommandedBy(c, in.JobID)
	if err != nil {
		return nil, nil, err
	}
	tasks, err := s.store.Tasks(c.UserContext(), in.JobID)
	if err != nil {
		return nil, nil, err
	}
	for i, t := range tasks {
		if t.Name == name && t.Role == in.Role {
			return job, &tasks[i], nil
		}
	}
	return nil, nil, bfia.Errorf(bfia.CodeNotFound, "task_id: job %s has no task %q for %s of %s", in.JobID,
		name, in.Role, s.Node)
}

// nativeTaskHeard takes what needs no doing here, of a task that is known: the job holds the room for its
// tasks, which wait for their turn by themselves, and a party knows its tasks' states better than its
// scheduler.
func (s *Server) nativeTaskHeard(c *fiber.Ctx, in *nativeCommand) error {
	if _, _, err := s.nativeTask(c, in); err != nil {
		return err
	}
	return ok(c, nil)
}

// nativeTaskStart starts a version of a task, in all roles that this party plays: the call for the next role
// changes nothing.
func (s *Server) nativeTaskStart(c *fiber.Ctx, in *nativeCommand) error {
	_, t, err := s.nativeTask(c, in)
	if err != nil {
		return err
	}
	return s.beginTask(c, bfia.FateAttempt(in.JobID, t.Name, in.TaskVersion))
}

// nativeCollect tells the state of this party's part of a version of a task.
func (s *Server) nativeCollect(c *fiber.Ctx, in *nativeCommand) error {
	_, t, err := s.nativeTask(c, in)
	if err != nil {
		return err
	}
	state := t.State
	switch {
	case t.Attempt > in.TaskVersion+1:
		state = bfia.TaskFailed // another version has followed
	case t.Attempt < in.TaskVersion+1:
		state = bfia.TaskReady
	}
	return ok(c, bfia.FateReport{JobID: in.JobID, TaskID: in.TaskID, TaskVersion: in.TaskVersion,
		Role: in.Role, PartyID: in.PartyID,
		Status: bfia.FateState(state)})
}

// nativeTaskStop stops a version of a task, and only that: FATE-Flow may begin another. Of one that has ended
// it removes what is left.
func (s *Server) nativeTaskStop(c *fiber.Ctx, in *nativeCommand) error {
	job, t, err := s.nativeTask(c, in)
	if err != nil {
		return err
	}
	if _, err := s.signal(c.UserContext(), workflows.PartyJobID(in.JobID), workflows.SignalStop,
		workflows.Stop{Task: t.Name, By: job.SchedulerNode, Attempt: in.TaskVersion + 1}); err != nil {
		return err
	}
	return ok(c, nil)
}
