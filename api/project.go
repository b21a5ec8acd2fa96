package api

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

// viewProject returns a project as answers have it: default is left out.
func viewProject(project string) string {
	if project == identity.DefaultProject {
		return ""
	}
	return project
}

// singleProject returns the project of a context that knows one only, or "".
func singleProject(ctx context.Context) string {
	if projects, all := store.ProjectsOf(ctx); !all && len(projects) == 1 {
		return projects[0]
	}
	return ""
}

// chooseProject returns the project to which belongs what a client makes: the one that the request names, or
// the only one in which the client has the right, or default for a client who has it in all. A client of
// several projects names one, so that nothing of one project gets into another by mistake.
func (s *Server) chooseProject(ctx context.Context, named string) (string, error) {
	projects, all := store.ProjectsOf(ctx)
	switch {
	case named != "":
		return named, s.store.CheckProject(ctx, named)
	case all:
		return identity.DefaultProject, nil
	case len(projects) == 1:
		return projects[0], s.store.CheckProject(ctx, projects[0])
	}
	return "", bfia.Errorf(bfia.CodeBadRequest, "project: is required; you have this right in the projects %s",
		strings.Join(projects, ", "))
}

// uploadProject does the same for an upload or an import. One that names no project leaves a known dataset or
// model in its own, if the client may write in all projects; then it returns "".
func (s *Server) uploadProject(ctx context.Context, named string) (string, error) {
	if _, all := store.ProjectsOf(ctx); all && named == "" {
		return "", nil
	}
	return s.chooseProject(ctx, named)
}

// submissionContext returns the context in which a client submits or checks a job: it knows what the project
// of the job has, and nothing else.
func (s *Server) submissionContext(ctx context.Context, named string) (context.Context, error) {
	project, err := s.chooseProject(ctx, named)
	return store.WithProjects(ctx, project), err
}

// listContext returns the context of a list, which may be of one project.
func (s *Server) listContext(ctx context.Context, get func(string) string) (context.Context, error) {
	project := get("project")
	if project == "" {
		return ctx, nil
	}
	return store.WithProjects(ctx, project), s.store.CheckProject(ctx, project)
}

// checkKnown returns CodeNotFound for an address of which the context knows no project.
func (s *Server) checkKnown(ctx context.Context, namespace, name string) error {
	known, err := s.store.KnowsData(ctx, bfia.Address{Namespace: namespace, Name: name})
	if err == nil && !known {
		return bfia.Errorf(bfia.CodeNotFound, "dataset %q in namespace %q is not known", name, namespace)
	}
	return err
}

// knownDatasets are the registered datasets that a job reads, each read once: a job may have very many tasks
// of one dataset.
type knownDatasets struct {
	store *store.Store
	read  map[bfia.Address]knownDataset
}

type knownDataset struct {
	store.DataTable
	err error
}

func (s *Server) newKnownDatasets() *knownDatasets {
	return &knownDatasets{s.store, map[bfia.Address]knownDataset{}}
}

// table returns a registered dataset of any project, or CodeNotFound.
func (d *knownDatasets) table(ctx context.Context, at bfia.Address) (store.DataTable, error) {
	found, read := d.read[at]
	if !read {
		found.DataTable, found.err = d.store.DataTable(store.WithoutProjects(ctx), at.Namespace, at.Name)
		d.read[at] = found
	}
	return found.DataTable, found.err
}

// projectOf returns the project of a job at this party: that in which a client of this party submits it, or
// has submitted it, otherwise that of what its parts here read, or that which selects the partner's jobs. It
// refuses a job that reads things of two projects. The refusal does not name the projects, since partners get
// it.
func (s *Server) projectOf(ctx context.Context, record *store.JobRecord, plan *bfia.Plan, from origin,
	datasets *knownDatasets) (string, error) {
	if project := singleProject(ctx); project != "" {
		return project, nil
	}
	project, recorded, err := s.store.JobProject(ctx, plan.JobID)
	if err != nil || recorded {
		return project, err
	}
	projects, err := s.store.ProjectSettings(ctx)
	if err != nil || len(projects) == 0 {
		return project, err
	}
	var first, place string
	join := func(what, of, where string) error {
		switch {
		case first == "":
			first, project, place = what, of, where
		case of != project:
			return bfia.Errorf(bfia.CodeForbidden, "%s: %s belongs to another project of %s than %s, which "+
				"%s names; one job can read what one project has", where, what, s.Node, first, place)
		}
		return nil
	}
	for i := range plan.Tasks {
		t := &plan.Tasks[i]
		for _, part := range t.PartsOf(s.Node) {
			if err := s.joinInputs(ctx, record, t.Name, part, datasets, join); err != nil {
				return "", err
			}
		}
	}
	if first != "" {
		return project, nil
	}
	owner, err := s.ownerOf(ctx, record.Document, from)
	if err != nil || owner == s.Node {
		return project, err
	}
	return cmp.Or(bfia.ProjectOfPartner(projects, owner, record.Document.FlowID), project), nil
}

// joinInputs calls join with the dataset and the model that a part of this party reads, and their projects.
// It leaves out those that are not registered: what is missing is refused later, and the rest belongs to
// default.
func (s *Server) joinInputs(ctx context.Context, record *store.JobRecord, task string, part bfia.Part,
	datasets *knownDatasets, join func(what, project, place string) error) error {
	place := fmt.Sprintf("config.task_params.%s.%d.%s.", part.Role, part.Index, task)
	address, err := record.Document.RootDataset(record.Registry.Describe, task, part)
	if err == nil && address != nil { // NewPlan refuses malformed ones
		of := *address
		if real, synthetic := of.Rehearsed(); synthetic {
			of = real
		}
		table, err := datasets.table(ctx, of)
		switch {
		case err == nil:
			if err := join("dataset "+of.String(), table.Project, place+"dataset_id"); err != nil {
				return err
			}
		case bfia.CodeOf(err) != bfia.CodeNotFound:
			return err
		}
	}
	ref, err := record.Document.RootModel(record.Registry.Describe, task, part)
	if err != nil || ref == nil {
		return nil
	}
	parts, err := s.store.ModelParts(ctx, *ref)
	switch code := bfia.CodeOf(err); {
	case err == nil:
		project, _, err := s.store.JobProject(ctx, parts[0].JobID)
		if err != nil {
			return err
		}
		return join("model "+ref.String(), project, place+bfia.ModelParam)
	case code == bfia.CodeNotFound || code == bfia.CodeBadRequest: // refused later, with its reason
		return nil
	}
	return err
}

// refuseOtherProject refuses a dataset of another project than that of the job. Only a client who may submit
// in all projects learns that it exists.
func (s *Server) refuseOtherProject(ctx context.Context, address bfia.Address, datasets *knownDatasets,
) error {
	table, err := datasets.table(ctx, address)
	switch {
	case bfia.CodeOf(err) == bfia.CodeNotFound || err == nil && store.InProject(ctx, table.Project):
		return nil
	case err != nil:
		return err
	case identity.From(ctx).Can(identity.Operator):
		return bfia.Errorf(bfia.CodeNotFound, "the dataset %s belongs to the project %s; submit the job in that "+
			"project ('hutong job submit --project %[2]s')", address, table.Project)
	}
	return bfia.Errorf(bfia.CodeNotFound, "%s has no dataset %q; upload it with 'hutong data upload'", s.Node,
		address.String())
}
