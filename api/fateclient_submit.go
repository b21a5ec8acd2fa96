package api

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
)

// fateSubmit submits a job of FATE's clients: a DAG of theirs, or a whole BFIA document.
func (s *Server) fateSubmit(c *fiber.Ctx) error {
	body, err := s.readBody(c, s.MaxDocumentBytes)
	if err != nil {
		return err
	}
	submission, err := fateclient.ParseSubmission(body)
	if err != nil {
		return err
	}
	catalog, err := s.catalog(c.UserContext())
	if err != nil {
		return err
	}
	doc, err := submission.Document(s.Node, catalog)
	if err != nil {
		return err
	}
	if doc.JobID == "" {
		doc = doc.WithJobID(bfia.NewJobID(time.Now(), s.jobSalt))
	}
	ctx, err := s.submissionContext(c.UserContext(), "")
	if err != nil {
		return err
	}
	if _, err := s.submit(ctx, doc, true); err != nil {
		return err
	}
	return okFATE(c, map[string]any{"model_id": doc.JobID, "model_version": fateclient.ModelVersion},
		map[string]any{"job_id": doc.JobID})
}

// fateStop stops a job at all its parties.
func (s *Server) fateStop(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := s.stop(c.UserContext(), bfia.JobRef{JobID: ref.JobID}); err != nil {
		return err
	}
	return okFATE(c, nil, nil)
}
