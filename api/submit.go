package api

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/bfia/client"
)

// submitJob takes a job from a client (part 2, 5.1), checks it as far as this party can, and hands it to its scheduler.
// A client that gives a job_id of its own may send the same again when an answer was lost: it starts nothing twice.
func (s *Server) submitJob(c *fiber.Ctx) error {
	doc, err := s.readDocument(c)
	if err != nil {
		return err
	}
	if doc.JobID == "" {
		doc = doc.WithJobID(bfia.NewJobID(time.Now(), s.jobSalt))
	}
	if doc.Config.Initiator.NodeID != s.Node {
		return bfia.Errorf(bfia.CodeBadRequest, "config.initiator.node_id: is %q, this party is %s", doc.Config.Initiator.NodeID, s.Node)
	}
	plan, err := s.plan(c.UserContext(), doc, "")
	if err != nil {
		return err
	}
	warnings, err := s.checkParameters(c.UserContext(), doc, plan, "")
	if err != nil {
		return err
	}
	if err := s.checkOldJob(c.UserContext(), doc); err != nil {
		return err
	}
	if err := s.checkInitiator(doc); err != nil {
		return err
	}
	done, err := s.admit(c.UserContext())
	if err != nil {
		return err
	}
	defer done()
	if err := s.remote.CreateAll(c.UserContext(), s.Scheduler, doc); err != nil {
		return partnerError(err, "the scheduler")
	}
	return ok(c, bfia.JobCreated{JobID: doc.JobID, Warnings: warnings})
}

// submissionsAtOnce is how many jobs of clients are being created at once. More would only take turns at each step of their
// creation, all of them for longer than parties are waited for.
func submissionsAtOnce() int64 { return int64(max(4, 2*runtime.NumCPU())) }

// submissionWait is how long a client waits for its job's creation to begin: less than clients do.
const submissionWait = 20 * time.Second

// admit waits until a job may be created, in the order of the requests.
func (s *Server) admit(ctx context.Context) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, submissionWait)
	defer cancel()
	if err := s.submissions.Acquire(ctx, 1); err != nil {
		return nil, bfia.Wrap(bfia.CodeUnavailable, err, "%s has more jobs submitted than it can create in %s: submit it again in a while", s.Node, submissionWait)
	}
	return func() { s.submissions.Release(1) }, nil
}

// checkInitiator refuses a job of which this party would never hear again: the specification's initiator holds a role,
// unless it schedules the job itself.
func (s *Server) checkInitiator(doc *bfia.Document) error {
	if s.Scheduler == s.Node || len(doc.Config.PartsOf(s.Node)) > 0 {
		return nil
	}
	return bfia.Errorf(bfia.CodeBadRequest, "config.role: the initiator, %s, holds no role; it must where another node, %s, schedules its jobs", s.Node, s.Scheduler)
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
	c.Locals(localReached, true)
	return doc, nil
}

// plan checks that a job can run, with the providers that are registered here, and that the root datasets of this
// party's own parts are there. node limits the check of parameters to one node's parts.
func (s *Server) plan(ctx context.Context, doc *bfia.Document, node string) (*bfia.Plan, error) {
	plan, err := bfia.NewPlan(doc, s.store.Describe(ctx), node)
	if err != nil {
		return nil, err
	}
	if !s.CheckDatasets {
		return plan, nil
	}
	for _, t := range plan.Tasks {
		for _, part := range t.PartsOf(s.Node) {
			values, err := doc.Config.TaskParameters(t.Name, part)
			if err != nil {
				return nil, err
			}
			address, err := bfia.RootDataset(values)
			if err != nil || address == nil {
				continue // NewPlan refused what is malformed
			}
			known, err := s.datasets.Exists(ctx, address.Namespace, address.Name)
			if err != nil {
				return nil, bfia.Wrap(bfia.CodeUnavailable, err, "the storage of %s does not answer", s.Node)
			}
			if !known {
				return nil, bfia.Errorf(bfia.CodeNotFound, "config.task_params.%s.%d.%s.dataset_id: %s has no dataset %q",
					part.Role, part.Index, t.Name, s.Node, address.String())
			}
		}
	}
	return plan, nil
}

// checkParameters holds the parameters of one node's parts, or of all, against their descriptions. What contradicts them
// is refused where this party is strict, and told otherwise.
func (s *Server) checkParameters(ctx context.Context, doc *bfia.Document, plan *bfia.Plan, node string) ([]bfia.Warning, error) {
	warnings, err := bfia.CheckParameters(doc, plan, s.store.Describe(ctx), node)
	if err == nil && s.StrictParameters {
		err = bfia.RefuseWarnings(warnings)
	}
	return warnings, err
}

// partnerError makes what became of a command to a partner an answer for our caller.
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
		return bfia.Wrap(bfia.CodeUnavailable, err, "%s, %s, can't be reached", who, sent.Node)
	}
	return bfia.Wrap(bfia.CodeUnavailable, err, "%s, %s, gave no answer; ask for the job's status before you submit it again", who, sent.Node)
}
