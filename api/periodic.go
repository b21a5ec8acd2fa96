package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"
	temporal "go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/calendar"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/workflows"
)

const (
	// listedRuns and shownRuns are how many of its last runs a list and a single periodic job show.
	listedRuns, shownRuns = 10, 100
	// upcomingRuns is how many of the next times are shown.
	upcomingRuns = 5
	// maxPeriodicName bounds the length of a periodic job's name.
	maxPeriodicName = 64
)

// addPeriodic adds a periodic job. Its document is checked as if it were submitted now.
func (s *Server) addPeriodic(c *fiber.Ctx) error {
	request, doc, err := s.readPeriodic(c)
	if err != nil {
		return err
	}
	if doc == nil {
		return bfia.Errorf(bfia.CodeBadRequest, "document: is required: the document of each job")
	}
	times, err := calendar.Parse(request.Recurrence)
	if err != nil {
		return err
	}
	now := time.Now()
	project, err := s.chooseProject(c.UserContext(), request.Project)
	if err != nil {
		return err
	}
	ctx := store.WithProjects(c.UserContext(), project)
	upcoming := times.Upcoming(now, upcomingRuns)
	if len(upcoming) == 0 {
		return bfia.Errorf(bfia.CodeBadRequest, "ends_at: no run comes before it; choose a later time")
	}
	warnings, err := s.checkPeriodic(ctx, doc, upcoming[0], request.Timezone)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	if err := s.store.AddPeriodicJob(ctx,
		store.PeriodicJob{PeriodicID: id, Name: request.Name, Project: project,
			Recurrence: request.Recurrence, NextAt: &upcoming[0], AfterAt: now, CreatedAt: now},
		store.PeriodicDocument{Document: doc.Bytes(), Owner: ownerOfPeriodic(ctx), ProvedAt: now},
	); err != nil {
		return err
	}
	in := workflows.PeriodicJobInput{PeriodicID: id, Name: request.Name}
	if err := workflows.StartPeriodicJob(ctx, s.temporal, in, true); err != nil {
		// A control worker starts it soon. The periodic job is added.
		s.logger.Warn("failed to start the workflow of a new periodic job; a control worker starts it",
			"periodic", request.Name, "error", err)
	}
	return ok(c, bfia.PeriodicAdded{Name: request.Name, Upcoming: upcoming, Warnings: warnings})
}

// readPeriodic reads the body of an addition or a change. The document is nil if there is none.
func (s *Server) readPeriodic(c *fiber.Ctx) (request bfia.AddPeriodic, doc *bfia.Document, err error) {
	if err := s.readJSON(c, &request); err != nil {
		return request, nil, err
	}
	if err := checkPeriodicName(request.Name); err != nil {
		return request, nil, err
	}
	on(c.UserContext(), audit.Periodic, request.Name)
	if len(request.Document) == 0 || string(request.Document) == "null" {
		return request, nil, nil
	}
	if doc, err = bfia.ParseDocument(request.Document); err != nil {
		return request, nil, bfia.PrefixPlace("document", err)
	}
	if doc.OldJobID != "" {
		return request, nil, bfia.Errorf(bfia.CodeBadRequest,
			"document.old_job_id: each run of a periodic job computes everything; leave the field out")
	}
	return request, doc.WithoutJobID(), nil
}

// checkPeriodic checks the document of a periodic job as if its run of a scheduled time were submitted now.
// The context is that of its project.
func (s *Server) checkPeriodic(ctx context.Context, doc *bfia.Document, at time.Time, timezone string,
) ([]bfia.Warning, error) {
	text, err := calendar.Expand(doc.Bytes(), at, timezone)
	if err != nil {
		return nil, err
	}
	if doc, err = bfia.ParseDocument(text); err != nil {
		return nil, bfia.PrefixPlace("document", err)
	}
	warnings, err := s.checkSubmission(ctx, doc.WithJobID(bfia.NewJobID(time.Now(), s.jobSalt)))
	if err != nil {
		return nil, bfia.PrefixPlace("document", err)
	}
	return warnings, nil
}

func checkPeriodicName(name string) error {
	if err := bfia.CheckID("name", name); err != nil {
		return err
	}
	if len(name) > maxPeriodicName {
		return bfia.Errorf(bfia.CodeTooLarge, "name: is longer than %d characters", maxPeriodicName)
	}
	return nil
}

// ownerOfPeriodic returns the caller as the owner of a periodic job.
func ownerOfPeriodic(ctx context.Context) store.PeriodicOwner {
	p := identity.From(ctx)
	return store.PeriodicOwner{Name: p.Name, Proof: p.Proof, Credential: p.Credential, Roles: p.Roles}
}

// changePeriodic changes when a periodic job runs, and what it submits. The caller becomes its owner: nobody
// changes what runs in the name of somebody else.
func (s *Server) changePeriodic(c *fiber.Ctx) error {
	request, doc, err := s.readPeriodic(c)
	if err != nil {
		return err
	}
	times, err := calendar.Parse(request.Recurrence)
	if err != nil {
		return err
	}
	ctx, now := c.UserContext(), time.Now()
	job, err := s.store.PeriodicJobNamed(ctx, request.Name)
	if err != nil {
		return err
	}
	if request.Project != "" && request.Project != job.Project {
		return bfia.Errorf(bfia.CodeConflict, "project: the periodic job %s stays in its project; delete it, and "+
			"add it again", job.Name)
	}
	ctx = store.WithProjects(ctx, job.Project)
	row := store.PeriodicDocument{PeriodicID: job.PeriodicID, Owner: ownerOfPeriodic(ctx), ProvedAt: now}
	var warnings []bfia.Warning
	if doc != nil {
		row.Document = doc.Bytes()
		next := now
		if upcoming := times.Upcoming(now, 1); len(upcoming) > 0 {
			next = upcoming[0]
		}
		if warnings, err = s.checkPeriodic(ctx, doc, next, request.Timezone); err != nil {
			return err
		}
	}
	if job.State == bfia.PeriodicEnded {
		return periodicEnded(job.Name)
	}
	revision, err := s.store.AddPeriodicDocument(ctx, row)
	if err != nil {
		return err
	}
	if err := s.updatePeriodic(ctx, job, workflows.UpdatePeriodicChange, nil,
		workflows.PeriodicChange{Recurrence: request.Recurrence, Revision: revision}); err != nil {
		return err
	}
	return ok(c, bfia.PeriodicAdded{Name: job.Name, Upcoming: times.Upcoming(now, upcomingRuns),
		Warnings: warnings})
}

func periodicEnded(name string) error {
	return bfia.Errorf(bfia.CodeConflict, "name: the periodic job %s has ended: delete it, and add it again",
		name)
}

// pausePeriodic pauses a periodic job.
func (s *Server) pausePeriodic(c *fiber.Ctx) error {
	var request bfia.PausePeriodic
	job, err := s.readPeriodicRef(c, &request, &request.Name)
	if err != nil {
		return err
	}
	if len(request.Reason) > store.MaxReason {
		return bfia.Errorf(bfia.CodeTooLarge, "reason: is longer than %d bytes", store.MaxReason)
	}
	reason := request.Reason
	if name := identity.From(c.UserContext()).Name; name != "" && reason != "" {
		reason = name + ": " + reason
	} else if reason == "" {
		reason = "paused by " + orSomebody(name)
	}
	if err := s.actOnPeriodic(c.UserContext(), job, workflows.UpdatePeriodicPause, nil, reason); err != nil {
		return err
	}
	return ok(c, nil)
}

func orSomebody(name string) string {
	if name == "" {
		return "a client"
	}
	return name
}

// resumePeriodic resumes a paused periodic job.
func (s *Server) resumePeriodic(c *fiber.Ctx) error {
	var request bfia.PeriodicRef
	job, err := s.readPeriodicRef(c, &request, &request.Name)
	if err != nil {
		return err
	}
	if err := s.actOnPeriodic(c.UserContext(), job, workflows.UpdatePeriodicResume, nil); err != nil {
		return err
	}
	return ok(c, nil)
}

// runPeriodic submits a job of a periodic job now, in the name of its owner. A request that arrives again
// with its id submits no second one.
func (s *Server) runPeriodic(c *fiber.Ctx) error {
	var request bfia.RunPeriodic
	job, err := s.readPeriodicRef(c, &request, &request.Name)
	if err != nil {
		return err
	}
	if request.RequestID != "" {
		if err := bfia.CheckID("request_id", request.RequestID); err != nil {
			return err
		}
	}
	var started bfia.PeriodicStarted
	if err := s.actOnPeriodic(c.UserContext(), job, workflows.UpdatePeriodicRun, &started.JobID,
		workflows.PeriodicRunInput{RequestID: request.RequestID}); err != nil {
		return err
	}
	return ok(c, started)
}

// deletePeriodic deletes a periodic job with its history. Its jobs stay.
func (s *Server) deletePeriodic(c *fiber.Ctx) error {
	var request bfia.PeriodicRef
	job, err := s.readPeriodicRef(c, &request, &request.Name)
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	if err := s.recordAct(ctx); err != nil {
		return err
	}
	err = s.updatePeriodic(ctx, job, workflows.UpdatePeriodicDelete, nil)
	if code := bfia.CodeOf(err); code == bfia.CodeNotFound || code == bfia.CodeConflict {
		err = s.store.DeletePeriodicJob(ctx, job.PeriodicID) // its workflow has ended
	}
	if err != nil {
		return err
	}
	return ok(c, nil)
}

// readPeriodicRef reads a request about a periodic job that exists. name is the request's field.
func (s *Server) readPeriodicRef(c *fiber.Ctx, request any, name *string) (store.PeriodicJob, error) {
	if err := s.readJSON(c, request); err != nil {
		return store.PeriodicJob{}, err
	}
	if err := checkPeriodicName(*name); err != nil {
		return store.PeriodicJob{}, err
	}
	on(c.UserContext(), audit.Periodic, *name)
	return s.store.PeriodicJobNamed(c.UserContext(), *name)
}

// actOnPeriodic writes the entry of the pending act and sends an update to a periodic job's workflow. If the
// caller is the owner, it has proved again who it is.
func (s *Server) actOnPeriodic(ctx context.Context, job store.PeriodicJob, update string, result any,
	args ...any) error {
	if job.State == bfia.PeriodicEnded {
		return periodicEnded(job.Name)
	}
	if err := s.recordAct(ctx); err != nil {
		return err
	}
	if err := s.store.RenewPeriodicProof(ctx, job.PeriodicID, ownerOfPeriodic(ctx), time.Now()); err != nil {
		return err
	}
	return s.updatePeriodic(ctx, job, update, result, args...)
}

// updateTimeout bounds the wait for an update. That of a run includes the creation of its job.
const updateTimeout = 90 * time.Second

// updatePeriodic sends an update to a periodic job's workflow and waits for its result. It returns
// CodeNotFound if the workflow does not run.
func (s *Server) updatePeriodic(ctx context.Context, job store.PeriodicJob, update string, result any,
	args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	handle, err := s.temporal.UpdateWorkflow(ctx, temporal.UpdateWorkflowOptions{
		WorkflowID: workflows.PeriodicJobID(job.Name), UpdateName: update, Args: args,
		WaitForStage: temporal.WorkflowUpdateStageCompleted})
	if err == nil {
		err = handle.Get(ctx, result)
	}
	var gone *serviceerror.NotFound
	switch code, message, refused := workflows.RefusalCode(err); {
	case err == nil:
		return nil
	case errors.As(err, &gone):
		return bfia.Wrap(bfia.CodeNotFound, err,
			"name: the workflow of the periodic job %s does not run; a control worker starts it within %s",
			job.Name, time.Minute)
	case refused:
		return bfia.Wrap(code, err, "%s", message)
	}
	return bfia.Wrap(bfia.CodeUnavailable, err, "the workflow of the periodic job %s does not answer; is a "+
		"control worker running? try again later", job.Name)
}

// queryPeriodic lists the periodic jobs, or describes the one of a name with its document.
func (s *Server) queryPeriodic(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	ctx, name := c.UserContext(), get("name")
	if name != "" {
		job, err := s.store.PeriodicJobNamed(ctx, name)
		if err != nil {
			return err
		}
		views, err := s.viewPeriodic(ctx, []store.PeriodicJob{job}, job.PeriodicID, shownRuns)
		if err != nil {
			return err
		}
		return ok(c, views)
	}
	jobs, err := s.store.PeriodicJobs(ctx)
	if err != nil {
		return err
	}
	views, err := s.viewPeriodic(ctx, jobs, "", listedRuns)
	if err != nil {
		return err
	}
	return ok(c, views)
}

// viewPeriodic describes periodic jobs with their last runs. If id is not empty, it is that of the only one.
func (s *Server) viewPeriodic(ctx context.Context, jobs []store.PeriodicJob, id string, runs int,
) ([]bfia.Periodic, error) {
	last, err := s.store.LastPeriodicRuns(ctx, id, runs)
	if err != nil {
		return nil, err
	}
	views := make([]bfia.Periodic, 0, len(jobs))
	for _, job := range jobs {
		document, err := s.store.PeriodicDocument(ctx, job.PeriodicID, job.Revision)
		if bfia.CodeOf(err) == bfia.CodeNotFound {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		view := bfia.Periodic{Name: job.Name, Project: viewProject(job.Project),
			Recurrence: job.Recurrence, Owner: document.Owner.Name, State: job.State, Reason: job.Reason,
			NextAt: job.NextAt, Submitted: job.Submitted, Failures: job.Failures, CreatedAt: job.CreatedAt,
			UpdatedAt: job.UpdatedAt, LastRuns: []bfia.PeriodicRun{}}
		for _, r := range last[job.PeriodicID] {
			view.LastRuns = append(view.LastRuns, bfia.PeriodicRun{ScheduledAt: r.ScheduledAt,
				Manual: r.Manual, JobID: r.JobID, Outcome: r.Outcome, Reason: r.Reason, Count: r.Count,
				EndedAt: r.EndedAt})
		}
		next := job.UpdatedAt
		if job.NextAt != nil {
			next = *job.NextAt
		}
		text, err := calendar.Expand(document.Document, next, job.Recurrence.Timezone)
		if err != nil {
			text = document.Document // of a time zone that does not exist any more
		}
		if doc, err := bfia.ParseDocument(text); err == nil {
			view.FlowID, view.Parties = doc.FlowID, doc.Config.Nodes()
		}
		if times, err := calendar.Parse(job.Recurrence); err == nil && job.State == bfia.PeriodicActive &&
			job.NextAt != nil {
			view.Upcoming = times.Upcoming(job.NextAt.Add(-time.Second), upcomingRuns)
		}
		if id != "" {
			view.Document = json.RawMessage(document.Document)
		}
		views = append(views, view)
	}
	return views, nil
}

// SubmitPeriodic submits a job of a periodic job in the name of its owner: as if the owner submitted it now,
// with the roles that the owner has now, and with an entry in the audit trail.
func (s *Server) SubmitPeriodic(ctx context.Context, name string, owner store.PeriodicDocument,
	doc *bfia.Document) error {
	o := owner.Owner
	p := identity.Principal{Kind: identity.KindClient, Name: o.Name, Roles: o.Roles, Proof: o.Proof,
		Credential: o.Credential, Address: "periodic job " + name}
	pending := audit.NewPending(p, audit.Submit, func() string { return digestOf(doc.Bytes()) })
	pending.On(audit.Job, doc.JobID)
	job, err := s.store.PeriodicJob(ctx, owner.PeriodicID)
	if err == nil {
		err = s.submitAs(audit.With(ctx, pending), p, owner.ProvedAt, job.Project, doc)
	}
	if err != nil {
		s.recordFailure(p, pending, err)
	}
	return err
}

// submitAs submits a job of a project in the name of a client that proved at an earlier time who it is.
func (s *Server) submitAs(ctx context.Context, p identity.Principal, provedAt time.Time, project string,
	doc *bfia.Document) error {
	if s.Recheck == nil {
		return bfia.Errorf(bfia.CodeForbidden, "this process can't check who may submit jobs")
	}
	now, err := s.Recheck(ctx, p, provedAt)
	if err != nil {
		return ownerRefused(err)
	}
	operators := memberWith(identity.Operator)
	if err := operators.check(now); err != nil {
		return ownerRefused(err)
	}
	if !store.InProject(operators.scope(ctx, now), project) {
		return ownerRefused(bfia.Errorf(bfia.CodeForbidden, "%s lacks the role %s in the project %s", now,
			identity.Operator, project))
	}
	now.Address = p.Address
	if err := s.Callers.Request(now); err != nil {
		return tooMany(err)
	}
	_, err = s.submit(store.WithProjects(identity.With(ctx, now), project), doc, false)
	return err
}

// ownerRefused explains the refusal of a periodic job's owner.
func ownerRefused(err error) error {
	switch code := bfia.CodeOf(err); code.HTTPStatus() {
	case http.StatusUnauthorized, http.StatusForbidden:
		return bfia.Wrap(code, err, "%s; someone with the role %s must change the periodic job, "+
			"and so become its owner", bfia.MessageOf(err), identity.Operator)
	}
	return fmt.Errorf("failed to check the owner of a periodic job: %w", err)
}
