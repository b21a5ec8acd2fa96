package store

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

type projectsKey struct{}

// WithProjects returns a context in which the store knows the jobs, datasets and models of these projects
// only: it reads and lists no others, and an id of another project is as unknown as one that does not exist.
// A context without it knows all.
func WithProjects(ctx context.Context, projects ...string) context.Context {
	return context.WithValue(ctx, projectsKey{}, slices.Clone(projects))
}

// WithoutProjects returns a context that knows all, for what concerns the whole party.
func WithoutProjects(ctx context.Context) context.Context {
	return context.WithValue(ctx, projectsKey{}, nil)
}

// ProjectsOf returns the projects to which a context is restricted. all is true if it is not.
func ProjectsOf(ctx context.Context) (projects []string, all bool) {
	projects, restricted := ctx.Value(projectsKey{}).([]string)
	return projects, !restricted
}

// InProject reports whether a context knows the things of a project.
func InProject(ctx context.Context, project string) bool {
	projects, all := ProjectsOf(ctx)
	return all || slices.Contains(projects, project)
}

// condition is a part of a query with its arguments.
type condition struct {
	text string
	args []any
}

// The conditions of contexts that know all, and nothing.
const (
	knowsAll  = "1 = 1"
	knowsNone = "1 = 0"
)

// notRecorded is, in a context, the project of jobs without a row in t_job_project. No client has it.
const notRecorded = ""

// jobsOf returns the condition that the job, whose id is in a column, is of a project that the context knows.
func jobsOf(ctx context.Context, column string) condition {
	projects, all := ProjectsOf(ctx)
	switch {
	case all:
		return condition{text: knowsAll}
	case len(projects) == 0:
		return condition{text: knowsNone}
	case slices.Contains(projects, notRecorded):
		return condition{"NOT EXISTS (SELECT 1 FROM t_job_project AS jp WHERE jp.job_id = " + column +
			" AND jp.project NOT IN (?))", []any{bun.List(projects)}}
	}
	return condition{"EXISTS (SELECT 1 FROM t_job_project AS jp WHERE jp.job_id = " + column +
		" AND jp.project IN (?))", []any{bun.List(projects)}}
}

// ofJobRows adds to a query of t_job or t_schedule_job, with the alias j, that the jobs are of projects which
// the context knows. The column project has the indexes, by which no jobs of other projects are read.
// t_job_project decides, since a process of a version without projects does not fill the column.
func ofJobRows(ctx context.Context, q *bun.SelectQuery) *bun.SelectQuery {
	if !InProject(ctx, identity.DefaultProject) {
		q.Where("j.project <> 'default'") // as in the condition of an index
	}
	return jobsOf(ctx, "j.job_id").addTo(rowsOf(ctx, "j.project").addTo(q))
}

// rowsOf returns the condition that a row with a column project is of one that the context knows.
func rowsOf(ctx context.Context, column string) condition {
	projects, all := ProjectsOf(ctx)
	switch {
	case all:
		return condition{text: knowsAll}
	case len(projects) == 0:
		return condition{text: knowsNone}
	}
	return condition{column + " IN (?)", []any{bun.List(projects)}}
}

// addTo adds the condition to a query.
func (c condition) addTo(q *bun.SelectQuery) *bun.SelectQuery {
	if c.text == knowsAll {
		return q
	}
	return q.Where(c.text, c.args...)
}

// checkJobProject returns CodeNotFound if a job is of a project that the context does not know.
func checkJobProject(ctx context.Context, db bun.IDB, jobID string) error {
	if _, all := ProjectsOf(ctx); all {
		return nil
	}
	project, recorded, err := jobProject(ctx, db, jobID)
	if err == nil && !(recorded && InProject(ctx, project)) {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: job %q is not known", jobID)
	}
	return err
}
