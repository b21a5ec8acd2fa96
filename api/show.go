package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/gofiber/fiber/v2"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/workflows"
)

// showJob returns what a job will do, for the person who approves it: its components and their images, its
// datasets and parameters, and which party gets which output.
func (s *Server) showJob(c *fiber.Ctx) error {
	jobID, err := s.jobParam(c)
	if err != nil {
		return err
	}
	view, err := s.viewJob(c.UserContext(), jobID)
	if err != nil {
		return err
	}
	if p := identity.From(c.UserContext()); p.Can(identity.Operator) || p.Can(identity.RunnerAdmin) {
		view.Workflows = s.workflowsOf(view)
	}
	return ok(c, view)
}

// workflowsOf returns the workflows of a job at this party; none without the address of Temporal's UI.
func (s *Server) workflowsOf(view *bfia.JobView) []bfia.WorkflowView {
	if s.WorkflowsURL == "" {
		return nil
	}
	var all []bfia.WorkflowView
	add := func(side store.Side, id string) {
		all = append(all, bfia.WorkflowView{Side: string(side), WorkflowID: id,
			URL: s.WorkflowsURL + url.PathEscape(id)})
	}
	if view.Scheduler == s.Node {
		add(store.SideScheduler, workflows.SchedulerJobID(view.JobID))
	}
	if slices.ContainsFunc(view.Parts, func(p bfia.Part) bool { return p.NodeID == s.Node }) {
		add(store.SideParticipant, workflows.ParticipantJobID(view.JobID))
	}
	return all
}

// jobParam returns the parameter job_id of a request that has no other.
func (s *Server) jobParam(c *fiber.Ctx) (string, error) {
	get, err := s.params(c)
	if err != nil {
		return "", err
	}
	jobID := get("job_id")

	return jobID, bfia.CheckID("job_id", jobID)
}

// viewJob returns what a job will do.
func (s *Server) viewJob(ctx context.Context, jobID string) (*bfia.JobView, error) {
	record, err := s.store.JobRecord(ctx, jobID)
	if err != nil {
		return nil, unknownJob(err, jobID, s.Node)
	}
	view, err := s.viewRecord(ctx, record)
	if err != nil {
		return nil, err
	}
	status, err := s.jobStatus(ctx, jobID)
	if err != nil {
		return nil, err
	}
	if err := s.nameClients(ctx, status); err != nil {
		return nil, err
	}
	view.State, view.Waiting, view.Scheduler = status.State, status.Waiting, status.Scheduler
	view.SubmittedBy = status.SubmittedBy
	if view.Periodic, err = s.store.PeriodicJobOf(ctx, jobID); err != nil {
		return nil, err
	}
	return view, nil
}

// viewRecord returns what a job will do that need not exist yet, without its state.
func (s *Server) viewRecord(ctx context.Context, record *store.JobRecord) (*bfia.JobView, error) {
	view := &bfia.JobView{JobID: record.Document.JobID, FlowID: record.Document.FlowID, Self: s.Node,
		Initiator: record.Document.Config.Initiator, Parts: record.Document.Config.Parts(),
		Tasks:    []bfia.TaskView{},
		Document: record.Document.Bytes()}
	for _, component := range record.Document.DAG.Components {
		task, err := s.viewTask(ctx, record, component)
		if err != nil {
			return nil, err
		}
		view.Tasks = append(view.Tasks, task)
	}
	return view, nil
}

// viewTask returns what a task will do.
func (s *Server) viewTask(ctx context.Context, record *store.JobRecord, c bfia.Component,
) (bfia.TaskView, error) {
	task := bfia.TaskView{Name: c.Name, Component: c.ComponentName, Provider: c.Provider + ":" + c.Version,
		Images: []bfia.ImageView{}, DependsOn: append([]string{}, c.Upstreams()...), Parts: []bfia.PartView{},
		Outputs: []bfia.OutputView{}}
	description, err := record.Registry.Describe(c.Provider, c.Version, c.ComponentName)
	if err != nil {
		return task, bfia.PrefixPlace("task "+c.Name, err)
	}
	task.Title, task.Description = description.Title, string(description.Description)
	for _, p := range record.Registry.Entries(c.Provider, c.Version, c.ComponentName) {
		var metadata bfia.Metadata
		if err := json.Unmarshal(p.Metadata, &metadata); err != nil {
			return task, fmt.Errorf("failed to read the metadata of provider %s:%s: %w", p.Name, p.Version,
				err)
		}
		image := bfia.ImageView{Device: p.Device, Image: metadata.Image, Command: metadata.Command}
		if description.ImageURL != "" {
			image.Image = description.ImageURL
		}
		if p.Device == string(bfia.DeviceDocker) {
			fixed, err := activities.ImageInJob(record, p, c.ComponentName)
			if err != nil {
				return task, err
			}
			image.ImageIDs = slices.AppendSeq([]string{}, maps.Values(fixed.IDs))
			slices.Sort(image.ImageIDs)
			image.ImageIDs = slices.Compact(image.ImageIDs)
		}
		task.Images = append(task.Images, image)
	}

	var parties []string
	for _, part := range record.Document.Config.Parts() {
		if !slices.Contains(description.RoleList, part.Role) {
			continue
		}
		view, err := s.viewPart(ctx, record, c.Name, part)
		if err != nil {
			return task, err
		}
		task.Parts = append(task.Parts, view)
		parties = append(parties, fmt.Sprintf("%s (%s)", part.NodeID, part.Self()))
	}
	task.Outputs = append(task.Outputs, outputsOf(c, description, parties)...)
	return task, nil
}

// outputsOf returns the outputs of a task with the provider's texts on them. parties get them.
func outputsOf(c bfia.Component, description *bfia.Description, parties []string) []bfia.OutputView {
	views := make([]bfia.OutputView, len(c.Output))
	// Without a port for an output the job fails, but it can still be shown.
	ports, _ := bfia.BindOutputs(c, description)
	for i, out := range c.Output {
		views[i] = bfia.OutputView{Type: out.Type, Key: out.Key, Parties: parties}
		for _, port := range description.OutputData {
			if i < len(ports) && port.Name == ports[i].Port {
				views[i].Description = string(port.Description)
			}
		}
	}
	return views
}

// viewPart returns the parameters, the model and the dataset of a part.
func (s *Server) viewPart(ctx context.Context, record *store.JobRecord, task string, part bfia.Part,
) (bfia.PartView, error) {
	view := bfia.PartView{NodeID: part.NodeID, Role: part.Self()}
	var err error
	if view.Parameters, err = record.Document.Config.TaskParameters(task, part); err != nil {
		return view, err
	}
	ref, err := record.Document.RootModel(record.Registry.Describe, task, part)
	if err != nil {
		return view, err
	}
	if ref != nil {
		if view.Model, err = s.viewInputModel(ctx, *ref); err != nil {
			return view, err
		}
	}
	address, err := record.Document.RootDataset(record.Registry.Describe, task, part)
	if err != nil || address == nil {
		return view, err
	}
	view.Dataset = &bfia.DatasetView{Namespace: address.Namespace, Name: address.Name}
	if part.NodeID != s.Node {
		return view, nil
	}
	table, err := s.store.DataTable(ctx, address.Namespace, address.Name)
	if err != nil {
		if bfia.CodeOf(err) == bfia.CodeNotFound { // stored without an upload, or deleted
			err = nil
		}
		return view, err
	}
	view.Dataset.Rows, view.Dataset.Generation = table.Rows, table.Generation
	for _, column := range table.Columns {
		view.Dataset.Columns = append(view.Dataset.Columns,
			bfia.ColumnView{Name: column.Name, Type: column.Type})
	}
	return view, nil
}

// viewInputModel returns the model that a part uses, with what trained it if this party has a part of it. The
// model may be deleted once the job has ended.
func (s *Server) viewInputModel(ctx context.Context, ref bfia.ModelRef) (*bfia.InputModelView, error) {
	view := &bfia.InputModelView{Model: ref.String(), JobID: ref.JobID, Task: ref.Task}
	parts, err := s.store.ModelParts(ctx, ref)
	switch {
	case err == nil:
		// A task that reused the outputs of an earlier job has that job's model.
		m := parts[0]
		view.JobID, view.Task = m.JobID, m.TaskName
		view.Component, view.Provider = m.Component, m.Provider+":"+m.Version
	case bfia.CodeOf(err) != bfia.CodeNotFound && bfia.CodeOf(err) != bfia.CodeBadRequest:
		return nil, err
	}
	return view, nil
}
