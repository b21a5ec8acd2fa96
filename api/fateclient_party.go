package api

import (
	"encoding/json"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
	"hutong/store"
)

// fateRefuse returns the handler of an endpoint that has no meaning here. Its answer says what to use
// instead.
func (s *Server) fateRefuse(r fateclient.Refusal) fiber.Handler {
	return func(c *fiber.Ctx) error {
		// A client that still sends would not read the answer.
		_, _ = io.CopyN(io.Discard, s.bodyStream(c), s.MaxDocumentBytes)
		return r.Error()
	}
}

// fateSite returns this party's id. The pipeline uses it as that of its own site.
func (s *Server) fateSite(c *fiber.Ctx) error {
	return okFATE(c, map[string]any{"party_id": s.Node}, nil)
}

// fateServer returns this process in the form of FATE-Flow's service registry.
func (s *Server) fateServer(c *fiber.Ctx) error {
	host, port := c.Hostname(), 0
	if address, is := c.Context().LocalAddr().(*net.TCPAddr); is {
		host, port = address.IP.String(), address.Port
	}
	return okFATE(c, map[string]any{s.Node: map[string]any{"instance_id": s.Node, "host": host,
		"http_port": port, "grpc_port": 0, "timestamp": time.Now().UnixMilli(), "version": s.Software}}, nil)
}

// address reads the namespace and name of a request.
func fateAddress(get func(string) string) (bfia.Address, error) {
	address := bfia.Address{Namespace: get("namespace"), Name: get("name")}
	if err := bfia.CheckID("namespace", address.Namespace); err != nil {
		return address, err
	}
	return address, bfia.CheckID("name", address.Name)
}

// fateTable returns a dataset or the data that a task has written, and with display=true its first rows.
func (s *Server) fateTable(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	address, err := fateAddress(get)
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	display, err := strconv.ParseBool(strings.ToLower(get("display")))
	if err != nil && get("display") != "" {
		return bfia.Errorf(bfia.CodeBadRequest, "display: %q is none of true, false", get("display"))
	}

	var count any
	meta := map[string]any{}
	stored, err := s.store.DataTable(ctx, address.Namespace, address.Name)
	switch {
	case err == nil:
		header := []string{}
		for _, column := range stored.Columns {
			header = append(header, column.Name)
		}
		if len(stored.Meta) > 0 {
			if err := json.Unmarshal(stored.Meta, &meta); err != nil {
				return err
			}
		}
		meta["header"], count = header, stored.Rows
	case bfia.CodeOf(err) != bfia.CodeNotFound || !bfia.IsOutputNamespace(s.Node, address.Namespace):
		return err
	}

	body := map[string]any{"namespace": address.Namespace, "name": address.Name, "meta": meta,
		"engine": "hutong", "path": address.Namespace + "/" + address.Name, "source": map[string]any{},
		"data_type": "table"}
	if display || count == nil {
		on(ctx, audit.Dataset, address.String())
		if err := s.recordAct(ctx); err != nil {
			return err
		}
		rows, err := s.displayTable(ctx, address.Namespace, address.Name)
		if err != nil {
			return err
		}
		meta["header"], count = rows.Metadata.Header, rows.Total
		if display {
			body["display"] = rows.Data
		}
	}
	body["count"] = count
	return okFATE(c, body, nil)
}

// fateTableDelete deletes a dataset.
func (s *Server) fateTableDelete(c *fiber.Ctx) error {
	var address bfia.Address
	if err := s.readJSON(c, &address); err != nil {
		return err
	}
	if err := s.deleteTable(c.UserContext(), address); err != nil {
		return err
	}
	return okFATE(c, nil, nil)
}

// fateDependencies returns the tasks of a job in one of its roles, and how they depend on each other.
func (s *Server) fateDependencies(c *fiber.Ctx) error {
	record, err := s.fateRecord(c)
	if err != nil {
		return err
	}
	describe := func(task bfia.Component) *bfia.Description {
		desc, err := record.Registry.Describe(task.Provider, task.Version, task.ComponentName)
		if err != nil {
			return nil
		}
		return desc
	}
	return okFATE(c, fateclient.DependenciesOf(record.Document, describe, c.Query("role")), nil)
}

// fateDataView returns the datasets that the parts of a job read, by role and party, as the job names them.
func (s *Server) fateDataView(c *fiber.Ctx) error {
	record, err := s.fateRecord(c)
	if err != nil {
		return err
	}
	view := map[string]map[string][]bfia.Address{}
	for _, part := range record.Document.Config.Parts() {
		for _, component := range record.Document.DAG.Components {
			dataset, err := record.Document.RootDataset(record.Registry.Describe, component.Name, part)
			if err != nil {
				return err
			}
			if dataset == nil {
				continue
			}
			if view[part.Role] == nil {
				view[part.Role] = map[string][]bfia.Address{}
			}
			if !slices.Contains(view[part.Role][part.NodeID], *dataset) {
				view[part.Role][part.NodeID] = append(view[part.Role][part.NodeID], *dataset)
			}
		}
	}
	return okFATE(c, map[string]any{"data_view": view}, nil)
}

// fateRecord returns the record of the job that a request names.
func (s *Server) fateRecord(c *fiber.Ctx) (*store.JobRecord, error) {
	get, err := s.params(c)
	if err != nil {
		return nil, err
	}
	jobID := get("job_id")
	if err := bfia.CheckID("job_id", jobID); err != nil {
		return nil, err
	}
	record, err := s.store.JobRecord(c.UserContext(), jobID)
	if err != nil {
		return nil, unknownJob(err, jobID, s.Node)
	}
	return record, nil
}

// fateNote notes something on a job. It becomes the job's description.
func (s *Server) fateNote(c *fiber.Ctx) error {
	var note struct {
		JobID string  `json:"job_id"`
		Notes *string `json:"notes"`
	}
	if err := s.readJSON(c, &note); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", note.JobID); err != nil {
		return err
	}
	switch {
	case note.Notes == nil:
		return bfia.Errorf(bfia.CodeBadRequest, "notes: is required")
	case len(*note.Notes) > maxNote:
		return bfia.Errorf(bfia.CodeTooLarge, "notes: is longer than %d bytes", maxNote)
	}
	on(c.UserContext(), audit.Job, note.JobID)
	if err := s.store.PutJobNote(c.UserContext(), note.JobID, *note.Notes); err != nil {
		return unknownJob(err, note.JobID, s.Node)
	}
	return okFATE(c, nil, nil)
}

// maxNote bounds the bytes of a note.
const maxNote = 4 << 10

// fateClean stops a job and deletes what this party holds of it.
func (s *Server) fateClean(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	ctx := c.UserContext()
	on(ctx, audit.Job, ref.JobID)
	job, err := s.anyJob(ctx, ref.JobID)
	if err != nil {
		return unknownJob(err, ref.JobID, s.Node)
	}
	if !job.State.Terminal() {
		if err := s.stop(ctx, bfia.JobRef{JobID: ref.JobID}); err != nil {
			return err
		}
		if err := s.awaitJobEnd(ctx, ref.JobID); err != nil {
			return err
		}
	}
	if _, err := s.removeJob(ctx, ref.JobID); err != nil {
		return err
	}
	return okFATE(c, nil, nil)
}

// fateQueueClean stops the jobs of this party that wait to start. It answers with the outcome for each.
func (s *Server) fateQueueClean(c *fiber.Ctx) error {
	if _, err := s.readBody(c, s.MaxDocumentBytes); err != nil {
		return err
	}
	ctx := c.UserContext()
	jobs, err := s.allJobs(ctx)
	if err != nil {
		return err
	}
	outcomes := map[string]string{}
	for _, job := range slices.Backward(jobs) { // the oldest first
		if job.InitiatorNode != s.Node ||
			fateclient.StatusOfJob(job.State, job.Outcome) != fateclient.Waiting {
			continue
		}
		outcomes[job.JobID] = "success"
		// Each stop has an entry of its own in the audit trail.
		if err := s.stop(s.eachAct(c), bfia.JobRef{JobID: job.JobID}); err != nil {
			outcomes[job.JobID] = bfia.MessageOf(err)
		}
	}
	return okFATE(c, outcomes, nil)
}

// fateRerun submits a job again, under an id of its own. The new job reuses what went well.
func (s *Server) fateRerun(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	old, err := s.document(c.UserContext(), ref.JobID)
	if err != nil {
		return unknownJob(err, ref.JobID, s.Node)
	}
	doc, err := old.Rerun(bfia.NewJobID(time.Now(), s.jobSalt))
	if err != nil {
		return err
	}
	project, _, err := s.store.JobProject(c.UserContext(), ref.JobID)
	if err != nil {
		return err
	}
	if _, err := s.submit(store.WithProjects(c.UserContext(), project), doc, true); err != nil {
		return err
	}
	return okFATE(c, map[string]any{"model_id": doc.JobID, "model_version": fateclient.ModelVersion},
		map[string]any{"job_id": doc.JobID})
}
