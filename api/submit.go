package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// submitJob accepts a job from a client (part 2, 5.1), checks it as far as this party can, and sends it to
// its scheduler. A client that chooses the job_id may repeat the request if the answer was lost; nothing
// starts twice.
func (s *Server) submitJob(c *fiber.Ctx) error {
	ctx, err := s.submissionContext(c.UserContext(), c.Query("project"))
	if err != nil {
		return err
	}
	doc, err := s.readSubmission(c)
	if err != nil {
		return err
	}
	warnings, err := s.submit(ctx, doc, false)
	if err != nil {
		return err
	}
	return ok(c, bfia.JobCreated{JobID: doc.JobID, Warnings: warnings})
}

// submit checks a client's job and sends it to its scheduler. The context is that of the job's project; see
// [Server.submissionContext]. A caller that waits is not refused because of the number of others'
// submissions; see [submissions].
func (s *Server) submit(ctx context.Context, doc *bfia.Document, waits bool) ([]bfia.Warning, error) {
	on(ctx, audit.Job, doc.JobID)
	warnings, err := s.checkSubmission(ctx, doc)
	if err != nil {
		return nil, err
	}
	permits, err := s.permitsOf(ctx, doc)
	if err != nil {
		return nil, err
	}
	done, err := s.submissions.enter(ctx, s.Node, identity.From(ctx).Name, waits)
	if err != nil {
		return nil, err
	}
	defer done()
	// The submission first: it refuses the id of another project's job, of which no act is recorded then.
	undoSubmission, err := s.recordSubmission(ctx, doc)
	if err != nil {
		return nil, err
	}
	undo, err := s.recordSubmitter(ctx, doc.JobID)
	if err != nil {
		undoSubmission(ctx)
		return nil, err
	}
	if err := s.remote.CreateAll(ctx, s.Scheduler, doc, permits...); err != nil {
		var sent *client.Error
		if errors.As(err, &sent) && sent.Outcome == client.Refused {
			undo(ctx)
			undoSubmission(ctx)
		}
		return nil, partnerError(err, "the scheduler")
	}
	return warnings, nil
}

// checkInitiator refuses a job about which this party would get no reports: an initiator that does not
// schedule the job itself must hold a role.
func (s *Server) checkInitiator(doc *bfia.Document) error {
	if s.Scheduler == s.Node || len(doc.Config.PartsOf(s.Node)) > 0 {
		return nil
	}
	return bfia.Errorf(
		bfia.CodeBadRequest,
		"config.role: the initiator %s holds no role; it needs one, since another party, %s, schedules its jobs",
		s.Node,
		s.Scheduler,
	)
}

// readDocument reads a job's document from the body.
func (s *Server) readDocument(c *fiber.Ctx) (*bfia.Document, error) {
	body, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return nil, err
	}
	doc, err := bfia.ParseDocument(body)
	if err != nil {
		return nil, err
	}
	c.Locals(localBodyRead, true)
	return doc, nil
}

// record returns the record of a job that this party knows. For a new job it returns the record that the job
// will have: with the providers that are registered now.
func (s *Server) record(ctx context.Context, doc *bfia.Document) (*store.JobRecord, error) {
	known, err := s.store.JobRecord(ctx, doc.JobID)
	switch {
	case err == nil:
		return &store.JobRecord{Document: doc, Registry: known.Registry, Images: known.Images}, nil
	case bfia.CodeOf(err) != bfia.CodeNotFound:
		return nil, err
	}
	registry, err := s.store.RegistryFor(ctx, doc)
	return &store.JobRecord{Document: doc, Registry: registry}, err
}

// plan checks that a job can run with the providers in its record, that a partner's job is granted what it
// uses here, and that the root datasets of its own parts exist in the job's project, which it returns. node
// limits the check of parameters to the parts of one node.
func (s *Server) plan(ctx context.Context, record *store.JobRecord, node string, from origin,
) (plan *bfia.Plan, project string, err error) {
	doc := record.Document
	if plan, err = bfia.NewPlan(doc, record.Registry.Describe, node); err != nil {
		return nil, "", err
	}
	// Before the datasets: a partner without a grant does not learn which exist.
	if err := s.checkGrants(ctx, record, plan, from); err != nil {
		return nil, "", err
	}
	_, granted, err := s.needsGrants(ctx, doc, from)
	if err != nil {
		return nil, "", err
	}
	datasets := s.newKnownDatasets()
	if project, err = s.projectOf(ctx, record, plan, from, datasets); err != nil {
		return nil, "", err
	}
	ctx = store.WithProjects(ctx, project)
	// What is not registered belongs to default. Clients of default must not learn from it which names other
	// projects have.
	caller := identity.From(ctx)
	scoped := caller.Kind == identity.KindClient && !caller.Can(identity.Operator)
	required := s.CheckDatasets || granted || project != identity.DefaultProject || scoped
	if err := bfia.CheckRehearsal(doc, plan, record.Registry.Describe); err != nil {
		return nil, "", err
	}
	for _, t := range plan.Tasks {
		for _, part := range t.PartsOf(s.Node) {
			address, err := doc.RootDataset(record.Registry.Describe, t.Name, part)
			if err != nil || address == nil {
				continue // NewPlan refuses malformed ones
			}
			if err := s.checkDataset(ctx, doc, *address, required, datasets); err != nil {
				place := fmt.Sprintf("config.task_params.%s.%d.%s.dataset_id", part.Role, part.Index, t.Name)
				return nil, "", bfia.PrefixPlace(place, err)
			}
		}
	}
	return plan, project, s.checkModels(ctx, record, plan)
}

// checkDataset refuses a root dataset of a new job that is an output of another one, or that is not
// registered although that is required. It makes the synthetic dataset that a rehearsal reads.
func (s *Server) checkDataset(ctx context.Context, doc *bfia.Document, address bfia.Address, required bool,
	datasets *knownDatasets) error {
	if real, synthetic := address.Rehearsed(); synthetic {
		if err := s.checkDataset(ctx, doc, real, true, datasets); err != nil {
			return err
		}
		return s.datasets.Rehearse(ctx, real)
	}
	if err := s.refuseOutput(ctx, address); err != nil {
		return err
	}
	unknown := func(err error) error {
		if _, known := s.store.Job(ctx, doc.JobID); known == nil {
			return nil // the job keeps what it read
		}
		return err
	}
	err := s.refuseOtherProject(ctx, address, datasets)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return unknown(err)
	}
	if err != nil || !required {
		return err
	}
	_, err = datasets.table(ctx, address)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return unknown(bfia.Errorf(bfia.CodeNotFound,
			"%s has no dataset %q; upload it with 'hutong data upload'", s.Node, address.String()))
	}
	if err != nil {
		return err
	}
	exists, err := s.datasets.Exists(ctx, address.Namespace, address.Name)
	if err == nil && !exists {
		return bfia.Errorf(bfia.CodeNotFound, "%s has lost the dataset %q from its storage; upload it again",
			s.Node, address.String())
	}
	if err != nil {
		return bfia.Wrap(bfia.CodeUnavailable, err, "the storage of %s does not answer; try again later",
			s.Node)
	}
	return nil
}

// checkParameters compares the parameters of one node's parts, or of all, with their descriptions. It returns
// contradictions as warnings, or as an error if this party is strict.
func (s *Server) checkParameters(record *store.JobRecord, plan *bfia.Plan, node string) ([]bfia.Warning,
	error) {
	warnings, err := bfia.CheckParameters(record.Document, plan, record.Registry.Describe, node)
	if err == nil && s.StrictParameters {
		err = bfia.RefuseWarnings(warnings)
	}
	return warnings, err
}

// partnerError converts the outcome of a command to a partner into an answer for the caller.
func partnerError(err error, who string) error {
	var sent *client.Error
	if !errors.As(err, &sent) {
		return err
	}
	if sent.Outcome == client.Refused {
		code := sent.Code
		if code < bfia.CodeBadRequest || code >= bfia.CodeInternal && code < bfia.CodeUnavailable {
			code = bfia.CodeRefused
		}
		return bfia.Wrap(code, err, "%s", sent.Text)
	}
	if sent.Outcome == client.NotDelivered {
		return bfia.Wrap(bfia.CodeUnavailable, err, "failed to reach %s, %s; try again later", who, sent.Node)
	}
	var foreign *client.ForeignAnswer
	if errors.As(err, &foreign) {
		return bfia.Wrap(bfia.CodeUnavailable, err, "%s, %s, did not answer: %v; try again later", who,
			sent.Node,
			foreign)
	}
	return bfia.Wrap(bfia.CodeUnavailable, err,
		"%s, %s, did not answer; query the job's status before you submit it again", who, sent.Node)
}
