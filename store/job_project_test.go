package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// withProjects returns a store with the projects a and b.
func withProjects(t *testing.T, address string) *store.Store {
	t.Helper()
	s := storetest.Open(t, address)
	for _, name := range []string{"a", "b"} {
		_, err := s.CreateProject(t.Context(), name, bfia.ProjectSettings{}, "admin")
		require.NoError(t, err)
	}
	return s
}

// projectJob records a job of a project, with task t.
func projectJob(t *testing.T, s *store.Store, id, project string) {
	t.Helper()
	require.NoError(t, s.PutProjectJobRecord(t.Context(), id, []byte(`{}`), store.NewRegistry(nil), project))
	require.NoError(t, s.CreateJob(t.Context(), store.Job{JobID: id, FlowID: "f"}, guestTask("")))
}

// TestJobWithoutProject checks that nobody with roles in single projects learns of a job whose project is not
// recorded, and that the migration records default for everything of which something is left.
func TestJobWithoutProject(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "job"}, guestTask("")))
		require.NoError(t, s.CreateScheduleJob(ctx, store.ScheduleJob{JobID: "scheduled"}, nil, nil))
		require.NoError(t, s.PutJobRecord(ctx, "document", []byte("{}"), store.NewRegistry(nil)))
		require.NoError(t, s.RecordUsage(ctx, store.Usage{JobID: "removed", Name: "t", Role: "guest"}))
		require.NoError(t, s.PutModels(ctx, []store.Model{trainedModel("kept", "m")}))

		inDefault := store.WithProjects(ctx, identity.DefaultProject)
		ids := []string{"job", "scheduled", "document", "removed", "kept"}
		known := func() (found []string) {
			for _, id := range ids {
				known, err := s.KnowsJob(inDefault, id)
				require.NoError(t, err)
				if known {
					found = append(found, id)
				}
			}
			return found
		}
		require.Empty(t, known())
		_, err := s.Job(inDefault, "job")
		requireCode(t, bfia.CodeNotFound, err)
		_, err = s.Job(ctx, "job")
		require.NoError(t, err)
		usages, err := s.Usages(inDefault, "removed")
		require.NoError(t, err)
		require.Empty(t, usages)

		n, err := s.RecordMissingProjects(ctx, time.Time{})
		require.NoError(t, err)
		require.Zero(t, n, "a party without projects needs none")
		_, err = s.CreateProject(ctx, "a", bfia.ProjectSettings{}, "admin")
		require.NoError(t, err)
		n, err = s.RecordMissingProjects(ctx, time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Zero(t, n, "nothing is that new")
		n, err = s.RecordMissingProjects(ctx, time.Time{})
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.Equal(t, ids, known())
		_, err = rawDB(t, address).ExecContext(ctx, "DELETE FROM t_job_project")
		require.NoError(t, err)
		text, err := os.ReadFile(filepath.Join("migrations", "0013_projects.up.sql"))
		require.NoError(t, err)
		backfills := 0
		for statement := range strings.SplitSeq(string(text), "--bun:split") {
			if strings.Contains(statement, "INSERT INTO t_job_project") {
				_, err := rawDB(t, address).ExecContext(ctx, statement)
				require.NoError(t, err)
				backfills++
			}
		}
		require.Equal(t, 1, backfills)
		require.Equal(t, ids, known())
		usages, err = s.Usages(inDefault, "removed")
		require.NoError(t, err)
		require.Len(t, usages, 1)
	})
}

// TestProjectInRowOfJob checks that a row whose project a process of an older version did not fill is in no
// list of a project until it is corrected.
func TestProjectInRowOfJob(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		projectJob(t, s, "of-b", "b")
		scheduledJob(t, s, "of-b")
		list := func(project string) int {
			page, err := s.Jobs(store.WithProjects(ctx, project), store.JobFilter{})
			require.NoError(t, err)
			return len(page.Jobs)
		}
		require.Equal(t, 1, list("b"))
		for _, table := range []string{"t_job", "t_schedule_job"} {
			_, err := rawDB(t, address).ExecContext(ctx, "UPDATE "+table+" SET project = 'default'")
			require.NoError(t, err)
		}
		require.Zero(t, list("b"))
		require.Zero(t, list(identity.DefaultProject))
		n, err := s.RecordMissingProjects(ctx, time.Time{})
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, 1, list("b"))
		require.Zero(t, list(identity.DefaultProject))
		n, err = s.RecordMissingProjects(ctx, time.Time{})
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// TestIDOfFailedCreation checks that an id is free again once housekeeping has removed what a job that was
// never created left, and that a failed import takes no id.
func TestIDOfFailedCreation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		_, err := s.AddSubmission(ctx, "submitted", "digest", "a")
		require.NoError(t, err)
		require.NoError(t, s.PutProjectJobRecord(ctx, "stored", []byte("{}"), store.NewRegistry(nil), "a"))
		_, err = s.BeginModelImport(ctx, trainedModel("imported", "m"), "a")
		require.NoError(t, err)
		models, err := s.ClaimUnusedModels(ctx, "imported", time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Len(t, models, 1)
		require.NoError(t, s.DeleteModelRow(ctx, models[0]))
		later := time.Now().Add(time.Hour)
		n, err := s.RemoveUnusedSubmissions(ctx, later)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		n, err = s.RemoveUnusedDocuments(ctx, later)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		for _, id := range []string{"submitted", "stored", "imported"} {
			_, recorded, err := s.JobProject(ctx, id)
			require.NoError(t, err)
			require.False(t, recorded, id)
		}
	})
}

// TestIDOfRemovedJob checks that the id of a removed job stays with its project: its account and the models
// that are kept do too. A refused submission under it takes nothing away.
func TestIDOfRemovedJob(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		for _, project := range []string{identity.DefaultProject, "b"} {
			id := "gone-" + project
			projectJob(t, s, id, project)
			require.NoError(t, s.RecordUsage(ctx, store.Usage{JobID: id, Name: "t", Role: "guest"}))
			require.NoError(t, s.RemoveJob(ctx, id))
			_, err := s.AddSubmission(ctx, id, "digest", "a")
			requireCode(t, bfia.CodeConflict, err)

			added, err := s.AddSubmission(ctx, id, "digest", project)
			require.NoError(t, err)
			require.True(t, added)
			require.NoError(t, s.DeleteSubmission(ctx, id, "digest"))
			kept, recorded, err := s.JobProject(ctx, id)
			require.NoError(t, err)
			require.True(t, recorded)
			require.Equal(t, project, kept)
			usages, err := s.Usages(store.WithProjects(ctx, project), id)
			require.NoError(t, err)
			require.Len(t, usages, 1)
		}

		// An id under which nothing was ever recorded is free again.
		_, err := s.AddSubmission(ctx, "new", "digest", "a")
		require.NoError(t, err)
		require.NoError(t, s.DeleteSubmission(ctx, "new", "digest"))
		require.NoError(t, s.PutProjectJobRecord(ctx, "new", []byte("{}"), store.NewRegistry(nil), "b"))
		require.NoError(t, s.DeleteUnusedDocument(ctx, "new"))
		_, recorded, err := s.JobProject(ctx, "new")
		require.NoError(t, err)
		require.False(t, recorded)

		// It is not free while a model is imported under it.
		_, err = s.AddSubmission(ctx, "imported", "digest", "a")
		require.NoError(t, err)
		_, err = s.BeginModelImport(ctx, trainedModel("imported", "m"), "a")
		require.NoError(t, err)
		require.NoError(t, s.DeleteSubmission(ctx, "imported", "digest"))
		_, err = s.AddSubmission(ctx, "imported", "digest", "b")
		requireCode(t, bfia.CodeConflict, err)

		// A submission that has not become a job yet is one of the project's jobs.
		_, err = s.AddSubmission(ctx, "on-its-way", "digest", "a")
		require.NoError(t, err)
		require.ErrorContains(t, s.RemoveProject(ctx, "a"), "1 jobs")
	})
}

// TestModelOfOtherProject checks that an imported model belongs to the project of the job whose id it has:
// nobody gets the models that a job will train by importing one under its id.
func TestModelOfOtherProject(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		projectJob(t, s, "trains", "b")
		for _, project := range []string{"a", identity.DefaultProject} {
			_, err := s.BeginModelImport(ctx, trainedModel("trains", "m"), project)
			requireCode(t, bfia.CodeConflict, err)
			require.ErrorContains(t, err, "the name is in use")
		}
		require.NoError(t, s.PutModels(ctx, []store.Model{trainedModel("trains", "m")}))
		models := func(project string) int {
			models, err := s.Models(store.WithProjects(ctx, project), "")
			require.NoError(t, err)
			return len(models)
		}
		require.Zero(t, models("a"))
		require.Equal(t, 1, models("b"))

		// The other way round: the job comes after the model.
		existing, err := s.BeginModelImport(ctx, trainedModel("imported", "m"), "a")
		require.NoError(t, err)
		require.Nil(t, existing)
		require.NoError(t, s.CompleteModelImport(ctx, []store.Model{trainedModel("imported", "m")}))
		require.Equal(t, 1, models("a"))
		_, err = s.AddSubmission(ctx, "imported", "digest", "b")
		requireCode(t, bfia.CodeConflict, err)

		// Who may import into all projects leaves a model where its job is.
		_, err = s.BeginModelImport(ctx, trainedModel("trains", "other"), "")
		require.NoError(t, err)
		require.NoError(t, s.CompleteModelImport(ctx, []store.Model{trainedModel("trains", "other")}))
		require.Equal(t, 2, models("b"))
		require.Zero(t, models(identity.DefaultProject))
	})
}

// TestUndoneCreation repeats the creation of a job while it is undone: a job that is recorded afterwards has
// its project.
func TestUndoneCreation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		create := func(id string) error {
			return s.PutProjectJobRecord(ctx, id, []byte(`{}`), store.NewRegistry(nil), "a")
		}
		for i := range 50 {
			id := fmt.Sprint("undone", i)
			require.NoError(t, create(id))
			undone := make(chan error)
			go func() { undone <- s.DeleteUnusedDocument(ctx, id) }()
			require.NoError(t, create(id))
			require.NoError(t, <-undone)
			_, err := s.Document(ctx, id)
			if bfia.CodeOf(err) == bfia.CodeNotFound {
				continue
			}
			require.NoError(t, err)
			project, recorded, err := s.JobProject(ctx, id)
			require.NoError(t, err)
			require.True(t, recorded)
			require.Equal(t, "a", project)
		}
	})
}

// TestIDOfUnrecordedJob checks that what a process of a version without projects left of a job gives its id
// to no project but default.
func TestIDOfUnrecordedJob(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		require.NoError(t, s.RecordUsage(ctx, store.Usage{JobID: "account", Name: "t", Role: "guest"}))
		require.NoError(t, s.PutModels(ctx, []store.Model{trainedModel("model", "m")}))
		for _, id := range []string{"account", "model"} {
			_, err := s.AddSubmission(ctx, id, "digest", "a")
			requireCode(t, bfia.CodeConflict, err)
			_, err = s.AddSubmission(ctx, id, "digest", identity.DefaultProject)
			require.NoError(t, err)
		}
	})
}

// TestReuseOfOtherProject checks that the outputs of another project's job are as unknown as those of none.
func TestReuseOfOtherProject(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		for id, project := range map[string]string{"of-a": "a", "other-of-a": "a", "of-b": "b"} {
			projectJob(t, s, id, project)
			_, err := s.StartTask(ctx, id, "t", "id-"+id, 1, time.Now())
			require.NoError(t, err)
		}
		err := s.ReuseTask(ctx, "of-a", "t", "of-b")
		requireCode(t, bfia.CodeNotFound, err)
		require.ErrorContains(t, err, "does not exist at this party")
		require.NoError(t, s.ReuseTask(ctx, "of-a", "t", "other-of-a"))

		// A partner that names it knows no projects: its job runs all tasks again.
		require.NoError(t, s.PutProjectJobRecord(ctx, "rerun", []byte(`{}`), store.NewRegistry(nil), "a"))
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "rerun", OldJobID: "of-b"}, guestTask("")))
		requireCode(t, bfia.CodeNotFound, s.ReuseTask(ctx, "rerun", "t", "of-b"))
	})
}

// TestAlikeIDsOfProjects checks that no job gets an id under which its session would be one that a job of
// another project may use, and that the transfers of a removed job are nobody else's.
func TestAlikeIDsOfProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		projectJob(t, s, "risk", "b")
		for _, id := range []string{"risk_2026", "risk_2026_x"} {
			_, err := s.AddSubmission(ctx, id, "digest", "a")
			requireCode(t, bfia.CodeConflict, err)
			require.NotContains(t, err.Error(), "project")
			_, recorded, err := s.JobProject(ctx, id)
			require.NoError(t, err)
			require.False(t, recorded, "a refusal leaves nothing")
		}
		for _, id := range []string{"risk-2026", "risky_2026", "Risk_2026"} {
			_, err := s.AddSubmission(ctx, id, "digest", "a")
			require.NoError(t, err, id)
		}
		projectJob(t, s, "risk_2026", "b")

		// A job of a may get the shorter id: the longer one was there before, and stays apart.
		projectJob(t, s, "credit_1", "b")
		projectJob(t, s, "credit", "a")
		require.NoError(t, s.RecordTransfers(ctx, "session_credit_1",
			[]store.Transfer{{SessionID: "session_credit_1", NodeID: "B", Sent: 1, SentMessages: 1}}))
		transfers := func() int {
			rows, _, err := s.TaskTransfers(ctx, "credit")
			require.NoError(t, err)
			return len(rows)
		}
		require.Zero(t, transfers())
		require.NoError(t, s.RemoveJob(ctx, "credit_1"))
		require.Zero(t, transfers())

		require.NoError(t, s.RemoveJob(ctx, "risk"))
		_, err := s.AddSubmission(ctx, "risk_2027", "digest", "a")
		require.NoError(t, err, "the sessions of a removed job have ended")
	})
}

// TestGenerationOfOtherProject checks that the address under which a generation of a dataset is stored is no
// way around the dataset's project, where a party does not check that datasets are registered.
func TestGenerationOfOtherProject(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		for name, project := range map[string]string{"secret": "b", "ours": identity.DefaultProject} {
			require.NoError(t, s.CreateGeneration(ctx, "n", name, "g-"+name, time.Now()))
			require.NoError(t, s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: name,
				Generation: "g-" + name, Project: project}))
		}
		create := func(id, dataset string) error {
			require.NoError(t, s.PutProjectJobRecord(ctx, id, []byte("{}"), store.NewRegistry(nil),
				identity.DefaultProject))
			return s.CreateJob(ctx, store.Job{JobID: id}, []store.Task{{Name: "t", Role: "guest",
				Dataset: dataset}})
		}
		requireCode(t, bfia.CodeNotFound, create("j1", "n#secret"))
		requireCode(t, bfia.CodeNotFound, create("j2", "n#secret.g-secret"))
		require.NoError(t, create("j3", "n#ours.g-ours"))
		require.NoError(t, create("j4", "n#elsewhere.g-secret"), "what has no row belongs to default")
	})
}

// TestUsesOfOtherProject checks that a refused deletion does not name jobs of other projects.
func TestUsesOfOtherProject(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		reads := []store.Task{{Name: "t", Role: "guest", Dataset: "n#x"}}
		// A job of default reads what is not registered yet.
		require.NoError(t, s.PutProjectJobRecord(ctx, "theirs", []byte("{}"), store.NewRegistry(nil),
			identity.DefaultProject))
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "theirs"}, reads))
		require.NoError(t, s.CreateGeneration(ctx, "n", "x", "g", time.Now()))
		require.NoError(t, s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: "x", Generation: "g",
			Project: "b"}))
		inB := store.WithProjects(ctx, "b")
		_, err := s.DeleteDataTable(inB, "n", "x")
		requireCode(t, bfia.CodeConflict, err)
		require.NotContains(t, err.Error(), "theirs")
		_, err = s.DeleteDataTable(ctx, "n", "x")
		require.ErrorContains(t, err, "theirs")

		require.NoError(t, s.PutProjectJobRecord(ctx, "ours", []byte("{}"), store.NewRegistry(nil), "b"))
		require.NoError(t, s.CreateJob(ctx, store.Job{JobID: "ours"}, reads))
		_, err = s.DeleteDataTable(inB, "n", "x")
		require.ErrorContains(t, err, "job ours (PENDING) and jobs that you can't see")
		require.NotContains(t, err.Error(), "theirs")
	})
}

// TestRulesOfProjects checks that a rule decides on jobs of its project only, or of all, and that a context
// of one project knows the rules of that project.
func TestRulesOfProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		until := time.Now().Add(time.Hour)
		add := func(id, project, column string, until time.Time) {
			t.Helper()
			_, err := s.AddApprovalRule(ctx, bfia.ApprovalRule{ID: id, Project: project,
				Scope: ruleScope(column), Until: until, CreatedBy: "ann"})
			require.NoError(t, err)
		}
		accept := func(id, project, column string) string {
			t.Helper()
			rule, err := s.AcceptJob(ctx, id, []byte(id), store.NewRegistry(nil), store.Acceptance{
				Project: project, Rules: &store.RuleClaim{Scope: ruleScope(column)}})
			require.NoError(t, err)
			return rule
		}
		add("rule-b", "b", "id", until)
		require.Empty(t, accept("j1", "a", "id"))
		require.Empty(t, accept("j2", "", "id"))
		require.Equal(t, "rule-b", accept("j3", "b", "id"))
		add("rule-all", "", "age", until)
		require.Equal(t, "rule-all", accept("j4", "a", "age"))
		require.Equal(t, "rule-all", accept("j5", "", "age"))
		_, err := s.AddApprovalRule(ctx, bfia.ApprovalRule{ID: "r", Project: "none", Scope: ruleScope("id"),
			Until: until})
		requireCode(t, bfia.CodeNotFound, err)

		inA, inB := store.WithProjects(ctx, "a"), store.WithProjects(ctx, "b")
		for _, id := range []string{"rule-b", "rule-all"} {
			_, err := s.ApprovalRule(inA, id)
			requireCode(t, bfia.CodeNotFound, err)
			requireCode(t, bfia.CodeNotFound, s.RemoveApprovalRule(inA, id, "eve"))
		}
		rules, err := s.ApprovalRules(inA)
		require.NoError(t, err)
		require.Empty(t, rules)
		rules, err = s.ApprovalRules(inB)
		require.NoError(t, err)
		require.Len(t, rules, 1)
		require.Contains(t, rules[0].Text, "Only jobs of the project b")
		require.NoError(t, s.RemoveApprovalRule(inB, "rule-b", "ann"))
		require.Empty(t, accept("j6", "b", "id"))
	})
}

// TestPartnerJobsOfProjects checks that no two projects select the same jobs of a partner.
func TestPartnerJobsOfProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		set := func(name string, selected ...bfia.PartnerJobs) error {
			_, err := s.SetProject(ctx, bfia.SetProject{Name: name, PartnerJobs: &selected})
			return err
		}
		require.NoError(t, set("a", bfia.PartnerJobs{NodeID: "B"}))
		err := set("b", bfia.PartnerJobs{NodeID: "C"}, bfia.PartnerJobs{NodeID: "B"})
		requireCode(t, bfia.CodeConflict, err)
		require.ErrorContains(t, err, "partner_jobs[1]")
		require.NoError(t, set("b", bfia.PartnerJobs{NodeID: "B", FlowID: "f"}))
		requireCode(t, bfia.CodeBadRequest, set("b", bfia.PartnerJobs{FlowID: "f"}))

		projects, err := s.ProjectSettings(ctx)
		require.NoError(t, err)
		require.Equal(t, "b", bfia.ProjectOfPartner(projects, "B", "f"))
		require.Equal(t, "a", bfia.ProjectOfPartner(projects, "B", "g"))
		require.Empty(t, bfia.ProjectOfPartner(projects, "C", "f"))
		require.NoError(t, set("a"))
		require.NoError(t, set("b", bfia.PartnerJobs{NodeID: "B"}))
	})
}
