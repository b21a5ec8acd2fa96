package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/bfia/client"
)

// checkJob checks a client's job at this party and at the partners, and creates nothing. This party's refusal
// is the answer's error; a partner's refusal is a part of the answer.
func (s *Server) checkJob(c *fiber.Ctx) error {
	ctx, err := s.submissionContext(c.UserContext(), c.Query("project"))
	if err != nil {
		return err
	}
	doc, err := s.readSubmission(c)
	if err != nil {
		return err
	}
	warnings, err := s.checkSubmission(ctx, doc)
	if err != nil {
		return err
	}
	if len(doc.Config.PartsOf(s.Node)) > 0 {
		if _, err := s.checkOwnPart(ctx, doc, s.own(), ""); err != nil {
			return err
		}
	}

	permits, err := s.permitsOf(ctx, doc)
	if err != nil {
		return err
	}
	answer := bfia.JobCheck{Warnings: warnings, Parties: []bfia.PartyCheck{}}
	for _, node := range doc.Config.Nodes() {
		answer.Parties = append(answer.Parties, bfia.PartyCheck{NodeID: node})
	}
	var asked sync.WaitGroup
	for i := range answer.Parties {
		if answer.Parties[i].NodeID == s.Node {
			yes := true
			answer.Parties[i].Accepts = &yes
			continue
		}
		asked.Go(func() { answer.Parties[i] = s.askPartner(ctx, doc, answer.Parties[i].NodeID, permits) })
	}
	asked.Wait()
	for i := range answer.Parties { // which this party reports itself
		answer.Parties[i].Warnings = slices.DeleteFunc(answer.Parties[i].Warnings, func(w bfia.Warning) bool {
			return slices.Contains(warnings, w)
		})
	}
	return ok(c, answer)
}

// askPartner asks a partner whether it would accept a job.
func (s *Server) askPartner(ctx context.Context, doc *bfia.Document, node string, permits []bfia.Permit,
) bfia.PartyCheck {
	if _, known := s.remote.Route(node); !known {
		no := false
		return bfia.PartyCheck{NodeID: node, Accepts: &no,
			Reason: bfia.MessageOf(client.NoRoute(node, s.Node))}
	}
	check, err := s.remote.Check(ctx, node, doc, bfia.PermitsFor(node, permits)...)
	var sent *client.Error
	var foreign *client.ForeignAnswer
	switch {
	case err == nil && check.Accepts != nil:
	case err == nil, errors.As(err, &sent) && sent.Outcome == client.Refused:
		check = bfia.PartyCheck{Reason: "its software can't check a job before the creation"}
	case errors.As(err, &foreign) && (foreign.Status == 404 || foreign.Status == 405):
		// Other software without this endpoint, or a gateway without its backend.
		check = bfia.PartyCheck{Reason: fmt.Sprintf("its software can't check a job before the creation, "+
			"or a gateway answered in its place: HTTP %d %s, %.100s", foreign.Status,
			http.StatusText(foreign.Status), foreign.Type)}
	case errors.As(err, &sent):
		check = bfia.PartyCheck{Reason: fmt.Sprintf("it did not answer: %v", sent.Cause)}
	default:
		check = bfia.PartyCheck{Reason: "it did not answer"}
	}
	check.NodeID = node
	return check
}

// checkPart checks a job for another party: whether this participant would accept it. It creates nothing.
func (s *Server) checkPart(c *fiber.Ctx) error {
	doc, err := s.readSubmission(c)
	if err != nil {
		return err
	}
	if err := s.mayCreate(s.sender(c), bfia.VerbCheck, doc, ""); err != nil {
		return err
	}
	from, err := s.origin(c)
	if err != nil {
		return err
	}
	warnings, err := s.checkOwnPart(c.UserContext(), doc, from, s.sender(c))
	accepts := err == nil
	check := bfia.PartyCheck{NodeID: s.Node, Accepts: &accepts, Warnings: warnings}
	if err != nil {
		var known *bfia.Error
		if !errors.As(err, &known) || known.Code >= bfia.CodeInternal {
			return err
		}
		check.Reason = known.Message
	}
	return ok(c, check)
}

// checkOwnPart checks whether this party can run its part of a job. Unless scheduler is
// empty, it must have routes to it and to the parties of its tasks.
func (s *Server) checkOwnPart(ctx context.Context, doc *bfia.Document, from origin, scheduler string,
) ([]bfia.Warning, error) {
	if len(doc.Config.PartsOf(s.Node)) == 0 {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "config.role: %s has no role in this job", s.Node)
	}
	record, err := s.record(ctx, doc)
	if err != nil {
		return nil, err
	}
	plan, project, err := s.plan(ctx, record, s.Node, from)
	if err != nil {
		return nil, err
	}
	if scheduler != "" {
		if err := s.checkRoutesBack(plan, scheduler); err != nil {
			return nil, err
		}
	}
	warnings, err := s.checkParameters(record, plan, s.Node)
	if err != nil {
		return nil, err
	}
	if err := s.store.CheckStorage(ctx, project); err != nil {
		return nil, err
	}
	return warnings, participant.CheckFeasible(ctx, s.store, s.Node, s.Limits, project, record, plan)
}

// readSubmission reads a job's document, and gives it an id if it has none.
func (s *Server) readSubmission(c *fiber.Ctx) (*bfia.Document, error) {
	doc, err := s.readDocument(c)
	if err != nil {
		return nil, err
	}
	if doc.JobID == "" {
		doc = doc.WithJobID(bfia.NewJobID(time.Now(), s.jobSalt))
	}
	return doc, nil
}

// checkSubmission checks a client's job as far as this party can.
func (s *Server) checkSubmission(ctx context.Context, doc *bfia.Document) ([]bfia.Warning, error) {
	if doc.Config.Initiator.NodeID != s.Node {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "config.initiator.node_id: is %q, this party is %s",
			doc.Config.Initiator.NodeID, s.Node)
	}
	record, err := s.record(ctx, doc)
	if err != nil {
		return nil, err
	}
	plan, _, err := s.plan(ctx, record, "", s.own())
	if err != nil {
		return nil, err
	}
	warnings, err := s.checkParameters(record, plan, "")
	if err != nil {
		return nil, err
	}
	if err := s.checkOldJob(ctx, doc); err != nil {
		return nil, err
	}
	return append(bfia.CheckDocument(doc, plan), warnings...), s.checkInitiator(doc)
}

// jobDocument returns the document with which a job was created.
func (s *Server) jobDocument(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	jobID := get("job_id")
	if err := bfia.CheckID("job_id", jobID); err != nil {
		return err
	}
	doc, err := s.document(c.UserContext(), jobID)
	if err != nil {
		return unknownJob(err, jobID, s.Node)
	}
	return ok(c, map[string]any{"document": json.RawMessage(doc.Bytes())})
}
