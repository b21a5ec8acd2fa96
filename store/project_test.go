package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// TestContextOfProjects reads the rows of a job by contexts of its project, of another one, and of both. The
// other one knows nothing.
func TestContextOfProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		for _, name := range []string{"a", "b"} {
			_, err := s.CreateProject(ctx, name, bfia.ProjectSettings{}, "admin")
			require.NoError(t, err)
		}
		for _, project := range []string{identity.DefaultProject, "b"} {
			id := "j-" + project
			require.NoError(t, s.PutDataTable(ctx,
				store.DataTable{Namespace: "n", Name: id, Project: project}))
			require.NoError(t, s.PutProjectJobRecord(ctx, id, []byte(`{}`), store.NewRegistry(nil), project))
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, FlowID: "f"}, []store.Task{
				{Name: "t", Role: "guest", Dataset: "n#" + id, RequireDataset: true}}))
			_, err := s.StartTask(ctx, id, "t", "id-"+id, 1, time.Now())
			require.NoError(t, err)
			require.NoError(t, s.PutOutputs(ctx, []store.Output{{JobID: id, TaskName: "t", Role: "guest",
				Type: "dataset", Key: "k", TaskID: "id-" + id, Namespace: "o", Name: id}}))
			require.NoError(t, s.PutModels(ctx, []store.Model{{JobID: id, TaskName: "t", Role: "guest",
				Key:      "k",
				Document: []byte(`{}`), Namespace: "m", Name: id}}))
			require.NoError(t, s.RecordUsage(ctx, store.Usage{JobID: id, Name: "t", Role: "guest",
				Attempt: 1}))
		}

		for _, c := range []struct {
			projects []string
			jobs     []string
		}{
			{nil, nil},
			{[]string{"a"}, nil},
			{[]string{"b"}, []string{"j-b"}},
			{[]string{"a", "b"}, []string{"j-b"}},
			{[]string{"default"}, []string{"j-default"}},
			{[]string{"a", "default"}, []string{"j-default"}},
			{[]string{"b", "default"}, []string{"j-b", "j-default"}},
		} {
			ctx := store.WithProjects(ctx, c.projects...)
			var listed, datasets []string
			page, err := s.Jobs(ctx, store.JobFilter{})
			require.NoError(t, err)
			for _, j := range page.Jobs {
				listed = append(listed, j.JobID)
			}
			tables, err := s.DataTables(ctx, "")
			require.NoError(t, err)
			for _, d := range tables {
				datasets = append(datasets, d.Name)
			}
			require.ElementsMatch(t, c.jobs, listed, "%v", c.projects)
			require.ElementsMatch(t, c.jobs, datasets, "%v", c.projects)
			counts, err := s.JobCounts(ctx)
			require.NoError(t, err)
			require.Equal(t, len(c.jobs), counts[bfia.JobPending], "%v", c.projects)
			for _, id := range []string{"j-b", "j-default"} {
				visible := assert.ObjectsAreEqual(c.jobs, []string{id}) || len(c.jobs) == 2
				requireVisible(t, s, ctx, id, visible)
			}
		}
	})
}

// requireVisible requires that each way to a job's rows finds them by a context, or that none does.
func requireVisible(t *testing.T, s *store.Store, ctx context.Context, id string, visible bool) {
	t.Helper()
	found := map[string]int{}
	count := func(what string, n int, err error) {
		if bfia.CodeOf(err) != bfia.CodeNotFound {
			require.NoError(t, err, what)
		}
		if err == nil {
			found[what] = n
		}
	}
	_, err := s.Job(ctx, id)
	count("job", 1, err)
	_, err = s.Document(ctx, id)
	count("document", 1, err)
	tasks, err := s.Tasks(ctx, id)
	count("tasks", len(tasks), err)
	tasks, err = s.TasksByID(ctx, "id-"+id)
	count("tasks by id", len(tasks), err)
	outputs, err := s.Outputs(ctx, id)
	count("outputs", len(outputs), err)
	usages, err := s.Usages(ctx, id)
	count("usages", len(usages), err)
	models, err := s.Models(ctx, id)
	count("models", len(models), err)
	parts, err := s.ModelParts(ctx, bfia.ModelRef{JobID: id, Task: "t"})
	count("model", len(parts), err)
	_, err = s.DataTable(ctx, "n", id)
	count("dataset", 1, err)
	uses, err := s.JobsWithDataset(ctx, "n", id)
	count("uses", len(uses), err)
	for _, at := range []bfia.Address{{Namespace: "n", Name: id}, {Namespace: "o", Name: id},
		{Namespace: "m", Name: id}} {
		known, err := s.KnowsData(ctx, at)
		require.NoError(t, err)
		if known {
			found[at.String()] = 1
		}
	}
	want := 0
	if visible {
		want = 1
	}
	for _, what := range []string{"job", "document", "tasks", "tasks by id", "outputs", "usages", "models",
		"model", "dataset", "uses", "n#" + id, "o#" + id, "m#" + id} {
		require.Equal(t, want, found[what], "%s of %s", what, id)
	}
	if !visible {
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.PutJobNote(ctx, id, "note")))
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.ClaimJobRemoval(ctx, id)))
		_, err := s.DeleteDataTable(ctx, "n", id)
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
		err = s.KeepModel(ctx, bfia.ModelRef{JobID: id, Task: "t"})
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
	}
}

// TestProjectOfJob checks that a job belongs to one project, that of its first submission, and reads only
// what that project has.
func TestProjectOfJob(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		const projects = 6
		for i := range projects {
			_, err := s.CreateProject(ctx, fmt.Sprint("p", i), bfia.ProjectSettings{}, "admin")
			require.NoError(t, err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		var accepted []string
		for i := range projects {
			all.Go(func() {
				project := fmt.Sprint("p", i)
				_, err := s.AddSubmission(ctx, "same", "digest", project)
				if err == nil {
					mu.Lock()
					accepted = append(accepted, project)
					mu.Unlock()
					return
				}
				assert.Equal(t, bfia.CodeConflict, bfia.CodeOf(err), "%v", err)
			})
		}
		all.Wait()
		require.Len(t, accepted, 1)
		project, recorded, err := s.JobProject(ctx, "same")
		require.NoError(t, err)
		require.True(t, recorded)
		require.Equal(t, accepted[0], project)
		require.NoError(t, s.DeleteSubmission(ctx, "same", "digest"))
		_, recorded, err = s.JobProject(ctx, "same")
		require.NoError(t, err)
		require.False(t, recorded)

		// A job that is older than its projects belongs to default.
		require.NoError(t, s.PutJobRecord(ctx, "old", []byte(`{}`), store.NewRegistry(nil)))
		_, err = s.AddSubmission(ctx, "old", "digest", "p1")
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(err))
		_, err = s.AddSubmission(ctx, "new", "digest", "none")
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))

		require.NoError(t, s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: "d", Project: "p1"}))
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.PutDataTable(ctx,
			store.DataTable{Namespace: "n", Name: "d", Project: "p2"})))
		require.NoError(t, s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: "d"}))
		table, err := s.DataTable(ctx, "n", "d")
		require.NoError(t, err)
		require.Equal(t, "p1", table.Project)
		for project, code := range map[string]bfia.Code{"p1": bfia.CodeOK, "p2": bfia.CodeNotFound,
			identity.DefaultProject: bfia.CodeNotFound} {
			for _, required := range []bool{true, false} {
				id := fmt.Sprint("reads-", project, required)
				require.NoError(t, s.PutProjectJobRecord(ctx, id, []byte(`{}`), store.NewRegistry(nil), project))
				err := s.CreateJob(ctx, store.Job{JobID: id}, []store.Task{{Name: "t", Role: "guest",
					Dataset: "n#d", RequireDataset: required}})
				require.Equal(t, code, bfia.CodeOf(err), "%s: %v", id, err)
			}
		}

		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.RemoveProject(ctx, "p1")))
		require.NoError(t, s.RemoveProject(ctx, "p3"))
		_, err = s.CreateProject(ctx, "p3", bfia.ProjectSettings{}, "admin")
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(err))
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.PutDataTable(ctx,
			store.DataTable{Namespace: "n", Name: "x", Project: "p3"})))
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.CreateToken(ctx, store.Token{TokenID: "t-1",
			Hash: []byte("h"), Name: "alice", Roles: []string{"viewer@p3"}})))
	})
}
