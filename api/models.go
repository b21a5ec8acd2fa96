package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/model"
)

// queryModels lists this party's parts of models, of one job or all. With model it returns the parts of that
// one, with the document that trained it and the jobs that use it.
func (s *Server) queryModels(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	views := []bfia.ModelView{}
	if get("model") == "" {
		if ctx, err = s.listContext(ctx, get); err != nil {
			return err
		}
		models, err := s.store.Models(ctx, get("job_id"))
		if err != nil {
			return err
		}
		for _, m := range models {
			views = append(views, viewModel(m))
		}
		if err := s.addModelProjects(ctx, views); err != nil {
			return err
		}
		return answer(c, "success", views, nil)
	}

	ref, err := parseModel(get("model"))
	if err != nil {
		return err
	}
	parts, err := s.store.ModelParts(ctx, ref)
	if err != nil {
		return err
	}
	uses, err := s.store.JobsWithModel(ctx, parts)
	if err != nil {
		return err
	}
	for _, m := range parts {
		view := viewModel(m)
		doc, err := bfia.ParseDocument(m.Document)
		if err != nil {
			return fmt.Errorf("failed to read the document of model %s: %w", ref, err)
		}
		view.Document = doc.Bytes()
		if view.Parameters, err = doc.Config.TaskParameters(m.TaskName, m.Part()); err != nil {
			return err
		}
		for _, u := range uses {
			view.Jobs = append(view.Jobs, bfia.ModelUse{JobID: u.JobID, State: u.State})
		}
		views = append(views, view)
	}
	if err := s.addModelProjects(ctx, views); err != nil {
		return err
	}
	return answer(c, "success", views, nil)
}

// predictWithModel makes the document of a job that applies a model. It has the datasets of the training
// until its user chooses others. Nothing is submitted.
func (s *Server) predictWithModel(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	ref, err := parseModel(get("model"))
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	parts, err := s.store.ModelParts(ctx, ref)
	if err != nil {
		return err
	}
	training, err := bfia.ParseDocument(parts[0].Document)
	if err != nil {
		return fmt.Errorf("failed to read the document of model %s: %w", ref, err)
	}
	registry, err := s.store.RegistryFor(ctx, training)
	if err != nil {
		return err
	}
	document, tasks, err := bfia.Prediction{Model: ref, Training: training, Component: get("component"),
		Initiator: s.Node, TrainingDatasets: true, Describe: registry.Describe}.Document()
	if err != nil {
		return err
	}
	view := bfia.PredictionView{Document: document, Tasks: []bfia.PredictedTaskView{}}
	for _, t := range tasks {
		v := bfia.PredictedTaskView{Name: t.Name, Component: t.Component}
		if t.Model != nil {
			v.Model = t.Model.String()
		}
		view.Tasks = append(view.Tasks, v)
	}
	return answer(c, "success", view, nil)
}

// parseModel parses the name of a model in a request about it.
func parseModel(text string) (bfia.ModelRef, error) {
	ref, err := bfia.ParseModelRef(text)
	if err != nil {
		return ref, bfia.Errorf(bfia.CodeBadRequest,
			"model: %q is not of the form job:task or job:task.output", text)
	}
	return ref, nil
}

// addModelProjects adds the projects of models, which are those of their jobs.
func (s *Server) addModelProjects(ctx context.Context, views []bfia.ModelView) error {
	ids := make([]string, len(views))
	for i := range views {
		ids[i] = views[i].JobID
	}
	projects, err := s.store.JobProjects(ctx, ids)
	for i := range views {
		views[i].Project = projects[views[i].JobID]
	}
	return err
}

func viewModel(m store.Model) bfia.ModelView {
	return bfia.ModelView{Model: m.Ref().String(), JobID: m.JobID, Task: m.TaskName, Output: m.Key,
		Role: m.Part().Self(), Component: m.Component, Provider: m.Provider + ":" + m.Version,
		Images: m.Images, Datasets: m.Datasets, Bytes: m.Bytes, SHA256: m.SHA256, Kept: m.Kept,
		Imported: m.Imported, CreatedAt: m.CreatedAt}
}

// readModelName reads the body of a command about a model.
func (s *Server) readModelName(c *fiber.Ctx) (bfia.ModelRef, error) {
	var name bfia.ModelName
	if err := s.readJSON(c, &name); err != nil {
		return bfia.ModelRef{}, err
	}
	ref, err := parseModel(name.Model)
	if err == nil {
		on(c.UserContext(), audit.Model, ref.String())
	}
	return ref, err
}

// keepModel makes a model stay when its job is removed.
func (s *Server) keepModel(c *fiber.Ctx) error {
	ref, err := s.readModelName(c)
	if err != nil {
		return err
	}
	if err := s.store.KeepModel(c.UserContext(), ref); err != nil {
		return err
	}
	return answer(c, "success", map[string]any{"model": ref.String()}, nil)
}

// deleteModel deletes this party's parts of a model. It refuses one that an unfinished job uses.
func (s *Server) deleteModel(c *fiber.Ctx) error {
	ref, err := s.readModelName(c)
	if err != nil {
		return err
	}
	if err := s.models.Delete(c.UserContext(), ref); err != nil {
		return err
	}
	s.logger.Info("model deleted", "model", ref.String())
	return answer(c, "success", map[string]any{"model": ref.String()}, nil)
}

// exportModel sends this party's parts of a model as a zip archive with a manifest.
func (s *Server) exportModel(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	ref, err := parseModel(get("model"))
	if err != nil {
		return err
	}
	on(c.UserContext(), audit.Model, ref.String())
	signer, err := s.signer()
	if err != nil {
		return err
	}
	export, err := s.models.Export(c.UserContext(), ref, signer)
	if err != nil {
		return err
	}
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	ctx := c.UserContext()
	c.Set(fiber.HeaderContentType, "application/zip")
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		// The answer has begun: an archive that is cut off has no directory, so its reader notices.
		if err := errors.Join(export.Write(ctx, w), w.Flush()); err != nil {
			s.logger.Error("failed to send a model", "model", ref.String(), "error", err)
		}
	})
	return nil
}

// importModel stores the archive of a model that was exported. Without a parameter this party must have
// signed it.
func (s *Server) importModel(c *fiber.Ctx) error {
	trust, err := s.trust(c)
	if err != nil {
		return err
	}
	project, err := s.uploadProject(c.UserContext(), c.Query("project"))
	if err != nil {
		return err
	}
	caller := identity.From(c.UserContext())
	release, err := s.Callers.Upload(caller)
	if err != nil {
		return tooMany(err)
	}
	defer release()
	stream := s.bodyStream(c)
	form := uploadForm{server: s, caller: caller}
	defer form.close()
	if err := form.takeFile(stream, stream); err != nil {
		return err
	}
	size, err := form.file.Seek(0, io.SeekEnd)
	if err != nil {
		return bfia.Wrap(bfia.CodeInternal, err, "failed to read the archive again")
	}
	imported, err := s.models.Import(c.UserContext(), form.file, size, model.Importing{
		MaxBytes: s.MaxUploadBytes, Trust: trust, Project: project,
		Named: func(ref bfia.ModelRef) { on(c.UserContext(), audit.Model, ref.String()) }})
	if err != nil {
		return err
	}
	view := bfia.ModelImported{Model: imported.Model.String(), SignedBy: imported.SignedBy.Node}
	if key := imported.SignedBy.Key; key != nil {
		view.Key = key.Hex()
	}
	s.logger.Info("model imported", "model", view.Model, "signed_by", view.SignedBy, "key", view.Key)
	return answer(c, "success", view, nil)
}

// trust reads the parameters that say whose signature of an archive counts besides this party's. They are in
// the query, since the body is the archive.
func (s *Server) trust(c *fiber.Ctx) (model.Trust, error) {
	trust := model.Trust{Known: s.KnownSigner}
	switch text := c.Query("unsigned"); text {
	case "", "false":
	case "true":
		trust.Unsigned = true
	default:
		return trust, bfia.Errorf(bfia.CodeBadRequest, "unsigned: must be true or false, but is %.100q", text)
	}
	if text := c.Query("signer"); text != "" {
		pin, err := certs.ParsePin(text)
		if err != nil {
			return trust, bfia.Wrap(bfia.CodeBadRequest, err, "signer: %v", err)
		}
		if trust.Unsigned {
			return trust, bfia.Errorf(bfia.CodeBadRequest, "signer: names a key, but unsigned is true")
		}
		trust.Key = &pin
	}
	return trust, nil
}

// checkModel refuses a task that uses a model of which this party lacks its part, or which other parties
// trained. A partner that did not take part in the training does not learn which models exist.
func (s *Server) checkModel(ctx context.Context, doc *bfia.Document, task *bfia.PlannedTask, part bfia.Part,
	ref bfia.ModelRef) error {
	parts, err := s.store.ModelParts(ctx, ref)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		if _, known := s.store.Job(ctx, doc.JobID); known == nil {
			return nil // the job keeps what it uses
		}
		return s.noModel(ref, part)
	}
	if err != nil {
		return err
	}
	training, err := bfia.ParseDocument(parts[0].Document)
	if err != nil {
		return fmt.Errorf("failed to read the document of model %s: %w", ref, err)
	}
	initiator := doc.Config.Initiator.NodeID
	if initiator != training.Config.Initiator.NodeID &&
		!slices.Contains(training.Config.Nodes(), initiator) {
		return s.noModel(ref, part)
	}
	if err := bfia.CheckModelParties(ref, training, task); err != nil {
		return err
	}
	i := slices.IndexFunc(parts,
		func(m store.Model) bool { return m.Role == part.Role && m.RoleIndex == part.Index })
	if i < 0 {
		return s.noModel(ref, part)
	}
	if err := s.store.CheckTrainingEnded(ctx, parts[i]); err != nil {
		return err
	}
	return s.models.CheckStored(ctx, parts[i])
}

func (s *Server) noModel(ref bfia.ModelRef, part bfia.Part) error {
	return bfia.Errorf(bfia.CodeNotFound, "%s has no part of model %s as %s: it did not train it, or the "+
		"model was deleted; 'hutong model list' there shows what it has", s.Node, ref, part.Self())
}

// checkModels refuses a plan with a part at this party whose model it can't use; see [Server.checkModel].
func (s *Server) checkModels(ctx context.Context, record *store.JobRecord, plan *bfia.Plan) error {
	for i := range plan.Tasks {
		t := &plan.Tasks[i]
		for _, part := range t.PartsOf(s.Node) {
			ref, err := record.Document.RootModel(record.Registry.Describe, t.Name, part)
			if err != nil || ref == nil {
				continue // NewPlan refuses malformed ones
			}
			if err := s.checkModel(ctx, record.Document, t, part, *ref); err != nil {
				place := fmt.Sprintf("config.task_params.%s.%d.%s.%s", part.Role, part.Index, t.Name,
					bfia.ModelParam)
				return bfia.PrefixPlace(place, err)
			}
		}
	}
	return nil
}
