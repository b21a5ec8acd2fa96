package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/evidence"
	"hutong/store"
	"hutong/store/dataset"
)

// archivedMargin is how long before the creation of a job an entry may be about it, by the clocks of several
// processes: the job may have waited as a submission.
const archivedMargin = time.Hour

// jobEvidence returns the signed archive of evidence about an ended job.
func (s *Server) jobEvidence(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	jobID := get("job_id")
	if err := bfia.CheckID("job_id", jobID); err != nil {
		return err
	}
	ctx := c.UserContext()
	on(ctx, audit.Job, jobID)
	job, err := s.store.Job(ctx, jobID)
	if err != nil {
		return unknownJob(err, jobID, s.Node)
	}
	if !job.State.Terminal() {
		return bfia.Errorf(
			bfia.CodeConflict,
			"job_id: job %s is %s; its evidence is complete after its end",
			jobID,
			job.State,
		)
	}
	signer, err := s.signer()
	if err != nil {
		return err
	}
	if err := s.recordAct(ctx); err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := s.writeEvidence(ctx, &archive, &job, signer); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "application/zip")
	return c.Send(archive.Bytes())
}

// signer returns the key with which this party signs archives.
func (s *Server) signer() (certs.Signer, error) {
	if s.Signer == nil {
		return certs.Signer{}, bfia.Errorf(bfia.CodeUnavailable, "%s has no key to sign archives", s.Node)
	}
	signer, err := s.Signer()
	if err != nil {
		return signer, bfia.Wrap(bfia.CodeUnavailable, err,
			"failed to read the key with which %s signs archives", s.Node)
	}
	return signer, nil
}

// writeEvidence collects the facts of a job and writes the archive.
func (s *Server) writeEvidence(
	ctx context.Context,
	w io.Writer,
	job *store.Job,
	signer certs.Signer,
) error {
	record, err := s.store.JobRecord(ctx, job.JobID)
	if err != nil {
		return err
	}
	document := record.Document.Bytes()
	content, err := evidence.ContentDigest(document)
	if err != nil {
		return err
	}
	facts := evidence.Facts{
		NodeID:         s.Node,
		JobID:          job.JobID,
		FlowID:         job.FlowID,
		Initiator:      job.InitiatorNode,
		Scheduler:      job.SchedulerNode,
		Parties:        job.PartyNodes,
		Roles:          job.Roles,
		Software:       s.Software,
		DocumentSHA256: evidence.Digest(document),
		ContentSHA256:  content,
		State:          string(job.State),
		Outcome: string(
			job.Outcome,
		),
		CreatedAt: job.CreatedAt,
		StartedAt: job.StartedAt,
		EndedAt:   job.EndedAt,
		Approvals: []evidence.Approval{},
	}
	// The head comes first, and only entries up to it: others follow meanwhile.
	if facts.TrailHead, err = s.store.AuditHead(ctx); err != nil {
		return err
	}
	trail, err := s.store.AuditOfJob(ctx, job.JobID)
	if err != nil {
		return err
	}
	// After the entries: what is archived meanwhile is missed.
	base, err := s.store.AuditBase(ctx)
	if err != nil {
		return err
	}
	if base.Seq > 0 && job.CreatedAt.Before(base.Time.Add(archivedMargin)) {
		facts.TrailArchived = &base
	}
	trail = slices.DeleteFunc(trail, func(e audit.Entry) bool { return e.Seq > facts.TrailHead.Seq })
	for i := range trail {
		e := &trail[i]
		if (e.Act == audit.Approve || e.Act == audit.Reject) && e.Outcome == audit.Allowed {
			facts.Approvals = append(facts.Approvals,
				evidence.Approval{Act: e.Act, Principal: e.Principal(), At: e.Time, Seq: e.Seq})
		}
	}
	if facts.Components, err = componentFacts(record); err != nil {
		return err
	}
	if facts.Parts, facts.Data, err = s.partFacts(ctx, job.JobID); err != nil {
		return err
	}
	transfers, complete, err := s.store.Transfers(ctx, job.JobID)
	if err != nil {
		return err
	}
	facts.TransfersComplete, facts.Transfers = complete, []evidence.Transfer{}
	for _, t := range transfers {
		facts.Transfers = append(facts.Transfers, evidence.Transfer{SessionID: t.SessionID, NodeID: t.NodeID,
			Sent: t.Sent, SentMessages: t.SentMessages,
			Received: t.Received, ReceivedMessages: t.ReceivedMessages,
			Unconfirmed: t.Unconfirmed, Incomplete: t.Incomplete})
	}
	return evidence.Write(w, facts, document, trail, signer)
}

// componentFacts returns the components of a job as they are recorded with it.
func componentFacts(record *store.JobRecord) ([]evidence.Component, error) {
	list := []evidence.Component{}
	for _, c := range record.Document.DAG.Components {
		for _, p := range record.Registry.Entries(c.Provider, c.Version, c.ComponentName) {
			image, err := activities.ImageInJob(record, p, c.ComponentName)
			if err != nil {
				return nil, err
			}
			var metadata bfia.Metadata
			if len(p.Metadata) > 0 {
				if err := json.Unmarshal(p.Metadata, &metadata); err != nil {
					return nil, fmt.Errorf(
						"failed to read the metadata of provider %s:%s: %w",
						p.Name,
						p.Version,
						err,
					)
				}
			}
			description, err := evidence.ContentDigest(p.Components[c.ComponentName])
			if err != nil {
				return nil, err
			}
			ids := slices.Sorted(maps.Values(image.IDs))
			f := evidence.Component{
				Provider:          providerID(p.Name, p.Version, p.Device),
				Component:         c.ComponentName,
				Image:             image.Reference,
				ImageIDs:          slices.Compact(ids),
				Command:           metadata.Command,
				DescriptionSHA256: description,
			}
			if !slices.ContainsFunc(list, func(o evidence.Component) bool {
				return o.Provider == f.Provider && o.Component == f.Component
			}) {
				list = append(list, f)
			}
		}
	}
	return list, nil
}

// partFacts returns the parts of a job with their inputs and outputs.
func (s *Server) partFacts(ctx context.Context, jobID string) ([]evidence.Part, []evidence.Data, error) {
	tasks, err := s.store.Tasks(ctx, jobID)
	if err != nil {
		return nil, nil, err
	}
	outputs, err := s.store.Outputs(ctx, jobID)
	if err != nil {
		return nil, nil, err
	}
	parts, data := []evidence.Part{}, []evidence.Data{}
	for _, t := range tasks {
		role := bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self()
		parts = append(
			parts,
			evidence.Part{Task: t.Name, Role: role, TaskID: t.TaskID, Component: t.Component,
				Provider: t.Provider + ":" + t.Version, State: string(t.State), Attempt: t.Attempt,
				StartedAt: t.StartedAt, EndedAt: t.EndedAt, ReusedJobID: t.ReusedJobID},
		)
		if t.Dataset == "" {
			continue
		}
		namespace, name, _ := strings.Cut(t.Dataset, "#")
		address := bfia.Address{Namespace: namespace, Name: name}
		if t.DatasetGeneration != "" {
			address = dataset.GenerationAddress(namespace, name, t.DatasetGeneration)
		}
		input := evidence.Data{Task: t.Name, Role: role, Kind: "input", Namespace: namespace, Name: name,
			Generation: t.DatasetGeneration}
		// The count of rows is that of the upload that the job has read.
		if table, err := s.store.DataTable(ctx, namespace, name); err == nil &&
			table.Generation == t.DatasetGeneration {
			input.Rows = &table.Rows
		}
		if err := s.hashObjects(ctx, &input, address); err != nil {
			return nil, nil, err
		}
		data = append(data, input)
	}
	for _, o := range outputs {
		output := evidence.Data{Task: o.TaskName, Role: bfia.Part{Role: o.Role, Index: o.RoleIndex}.Self(),
			Kind: "output", Type: o.Type, Key: o.Key, Namespace: o.Namespace, Name: o.Name}
		address := bfia.Address{Namespace: o.Namespace, Name: o.Name}
		if m, err := s.datasets.Metadata(ctx, o.Namespace, o.Name); err == nil && m.Count > 0 {
			rows := int64(m.Count)
			output.Rows = &rows
		}
		if err := s.hashObjects(ctx, &output, address); err != nil {
			return nil, nil, err
		}
		data = append(data, output)
	}
	return parts, data, nil
}

// hashObjects sets the digests of the objects of an input or output.
func (s *Server) hashObjects(ctx context.Context, d *evidence.Data, address bfia.Address) error {
	prefix := address.Namespace + "/" + address.Name
	objects, err := s.blobs.List(ctx, prefix)
	if err != nil {
		return bfia.Wrap(
			bfia.CodeUnavailable,
			err,
			"the storage of %s does not answer; try again later",
			s.Node,
		)
	}
	d.Objects, d.Missing = []evidence.Object{}, len(objects) == 0
	for _, o := range objects {
		object, err := s.blobs.Get(ctx, o.Key)
		if err != nil {
			return fmt.Errorf("failed to read %s#%s for the evidence: %w", d.Namespace, d.Name, err)
		}
		sum := sha256.New()
		n, err := io.Copy(sum, object)
		if err = errors.Join(err, object.Close()); err != nil {
			return fmt.Errorf("failed to read %s#%s for the evidence: %w", d.Namespace, d.Name, err)
		}
		d.Bytes += n
		d.Objects = append(
			d.Objects,
			evidence.Object{Name: strings.TrimPrefix(strings.TrimPrefix(o.Key, prefix), "/"),
				Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))},
		)
	}
	return nil
}
