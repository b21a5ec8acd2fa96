package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/store"
	"hutong/workflows"
)

// fateFlowRoutes returns the routes of FATE-Flow's own protocol. Package fateflow implements it.
func (s *Server) fateFlowRoutes() []route {
	var routes []route
	for _, e := range fateflow.Endpoints() {
		routes = append(routes, route{http.MethodPost, e.Path, s.fateFlowCommand(e), anyPartner})
	}
	return append(routes,
		route{http.MethodPost, fateflow.PathSchedulerJobCreate, s.refuseFateFlowJob, anyPartner},
		route{http.MethodPost, fateflow.PathSchedulerJobStop, s.stopAll, anyPartner},
		route{http.MethodPost, fateflow.PathSchedulerJobRerun, s.refuseFateFlowJob, anyPartner},
		route{http.MethodPost, fateflow.PathSchedulerTaskReport, s.receiveFateFlowReport, anyPartner},
	)
}

// fateFlowCommand returns the handler of a command to a participant.
func (s *Server) fateFlowCommand(e fateflow.Endpoint) fiber.Handler {
	return func(c *fiber.Ctx) error {
		var cmd fateflow.Command
		if err := s.readJSON(c, &cmd); err != nil {
			return err
		}

		from, err := s.origin(c)
		if err != nil {
			return err
		}
		party := fateFlowParty{s, from.sender, from.permits}
		data, err := e.Serve(c.UserContext(),
			&fateflow.Participant{Node: s.Node, Sender: from.sender, Party: party}, &cmd)
		switch code := bfia.CodeOf(err); code {
		case bfia.CodeOK:
			return ok(c, data)
		// an expected answer, not an error to log
		case fateflow.CodeInsufficient, fateflow.CodeNeverAvailable:
			return c.JSON(map[string]any{"code": code, "message": cut(bfia.MessageOf(err)),
				"data": struct{}{}})
		}
		return err
	}
}

// refuseFateFlowJob refuses to schedule a job in FATE-Flow's own language.
func (s *Server) refuseFateFlowJob(c *fiber.Ctx) error {
	if _, err := s.readBody(c, s.MaxDocumentBytes); err != nil {
		return err
	}
	c.Locals(localBodyRead, true)
	return fateflow.RefuseJob(s.Node)
}

// receiveFateFlowReport receives a participant's report of the state of its part of a task.
func (s *Server) receiveFateFlowReport(c *fiber.Ctx) error {
	var report fateflow.Report
	if err := s.readJSON(c, &report); err != nil {
		return err
	}
	if err := fateflow.ReceiveReport(c.UserContext(), fateFlowScheduler{s}, s.sender(c), report); err != nil {
		return err
	}
	return ok(c, nil)
}

// fateFlowScheduler implements [fateflow.Scheduler].
type fateFlowScheduler struct{ *Server }

func (s fateFlowScheduler) ReceiveCallback(ctx context.Context, participant string, r bfia.TaskReport) error {
	task, err := s.scheduledTaskFor(ctx, participant, r.TaskID, r.Role)
	if err != nil {
		return err
	}
	return s.reportPart(ctx, task,
		workflows.Callback{Node: participant, TaskID: r.TaskID, Role: r.Role, State: r.Status}, false)
}

// fateFlowParty implements [fateflow.Party] for the requests of one sender.
type fateFlowParty struct {
	*Server
	from    string
	permits []bfia.Permit // that the request presents
}

func (p fateFlowParty) Catalog(ctx context.Context, jobID string) (fateflow.Catalog, error) {
	registry, err := p.registry(ctx, jobID)
	if err != nil {
		return fateflow.Catalog{}, err
	}

	return catalogOf(registry), nil
}

// registry returns the providers of a job's record, or all that are registered now if the job is new.
func (p fateFlowParty) registry(ctx context.Context, jobID string) (*store.Registry, error) {
	record, err := p.store.JobRecord(ctx, jobID)
	switch {
	case err == nil:
		return record.Registry, nil
	case bfia.CodeOf(err) != bfia.CodeNotFound:
		return nil, err
	}
	registered, err := p.store.Providers(ctx, store.ProviderFilter{})
	return store.NewRegistry(registered), err
}

func (p fateFlowParty) CreateJob(ctx context.Context, doc *bfia.Document, scheduler string,
	ownProtocol bool) (bfia.JobAccepted, error) {
	return p.acceptJob(ctx, doc, origin{sender: scheduler, permits: p.permits}, ownProtocol)
}

func (p fateFlowParty) JobState(ctx context.Context, jobID string) (bfia.JobState, error) {
	job, err := p.jobFor(ctx, p.from, bfia.VerbStart, jobID)
	if err != nil {
		return "", err
	}
	return job.State, nil
}

func (p fateFlowParty) StartJob(ctx context.Context, jobID string) error {
	return p.beginJob(ctx, p.from, jobID)
}

func (p fateFlowParty) StopJob(ctx context.Context, jobID string) error {
	return p.stop(ctx, jobID, workflows.Stop{})
}

func (p fateFlowParty) ReopenJob(ctx context.Context, jobID string) error {
	job, err := p.jobFor(ctx, p.from, bfia.VerbStart, jobID)
	if err != nil {
		return err
	}
	return p.reopen(ctx, job)
}

func (p fateFlowParty) Reserve(ctx context.Context, jobID string) (bfia.Grant, error) {
	job, err := p.approvedJob(ctx, jobID)
	if err != nil {
		return bfia.Grant{}, err
	}

	var grant bfia.Grant
	gone, err := p.update(ctx, workflows.ParticipantJobID(jobID), workflows.UpdateReserve,
		bfia.ReserveRequest{JobID: jobID, Created: job.CreatedAt}, &grant)
	if gone {
		grant = bfia.Grant{State: bfia.JobFinished}
	}
	return grant, err
}

func (p fateFlowParty) Release(ctx context.Context, jobID string) error {
	if _, err := p.jobFor(ctx, p.from, bfia.VerbRelease, jobID); err != nil {
		return err
	}
	// A workflow that has ended holds no reservation.
	_, err := p.update(ctx, workflows.ParticipantJobID(jobID), workflows.UpdateRelease,
		bfia.ReleaseRequest{JobID: jobID}, nil)
	return err
}

func (p fateFlowParty) Tasks(ctx context.Context, jobID string) ([]fateflow.Part, error) {
	if _, err := p.jobFor(ctx, p.from, bfia.VerbTaskPoll, jobID); err != nil {
		return nil, err
	}
	tasks, err := p.store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}

	var parts []fateflow.Part
	for _, t := range tasks {
		parts = append(parts, fateflow.Part{Task: t.Name, Role: t.Role, Attempt: t.Attempt, State: t.State})
	}
	return parts, nil
}

func (p fateFlowParty) StartTask(ctx context.Context, ref bfia.TaskRef) error {
	return p.beginTask(ctx, p.from, ref)
}

func (p fateFlowParty) StopTask(ctx context.Context, jobID, task string, attempt int) error {
	return p.stop(ctx, jobID, workflows.Stop{Task: task, Attempt: attempt})
}

// stop signals a stop, in the name of the job's scheduler.
func (p fateFlowParty) stop(ctx context.Context, jobID string, stop workflows.Stop) error {
	job, err := p.jobFor(ctx, p.from, bfia.VerbStop, jobID)
	if err != nil {
		return err
	}
	stop.By = p.from
	if job.State.Terminal() {
		return nil
	}
	_, err = p.signalLimited(ctx, fmt.Sprint(p.from, " ", stop.Task, " ", stop.Attempt),
		workflows.ParticipantJobID(jobID), workflows.SignalStop, stop)
	return err
}

// approvedJob returns a job that this party has approved.
func (p fateFlowParty) approvedJob(ctx context.Context, jobID string) (*store.Job, error) {
	job, err := p.jobFor(ctx, p.from, bfia.VerbReserve, jobID)
	if err != nil {
		return nil, err
	}
	return job, p.checkApproved(job)
}
