package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestQuotaAtOnce lets jobs of projects ask for reservations at the same moment, from two processes. No
// project ever holds more than its quota, and one without a quota gets all that it asks for.
func TestQuotaAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{withProjects(t, address), storetest.Open(t, address)}
		quota := bfia.ProjectQuota{Jobs: 3, CPUMilli: 3000}
		_, err := stores[0].SetProject(ctx, bfia.SetProject{Name: "b", Quota: quota.Change()})
		require.NoError(t, err)
		require.NoError(t, stores[0].PutRunner(ctx,
			store.Runner{RunnerID: "h", Devices: []string{"docker"}, Slots: 40}))
		var all sync.WaitGroup
		for i := range 12 {
			for _, project := range []string{"a", "b"} {
				id := fmt.Sprintf("%s-%02d", project, i)
				projectJob(t, stores[0], id, project)
				all.Go(func() {
					own := request(id)
					own.Demand.Parallelism = 1
					_, _, err := stores[i%2].Reserve(ctx, own, times(at),
						func(view store.ReservationView) ([]string, string) {
							own.Project = view.Project
							p := admission.Party{Runners: view.Runners, Running: view.Holders,
								UsedSlots: view.UsedSlots, Quotas: view.Quotas, Held: view.Held}
							for _, w := range view.Waiting {
								p.Waiting = append(p.Waiting, w.AdmissionRequest())
							}
							grant, denial := p.Decide(own.AdmissionRequest(), at)
							if denial != nil {
								return nil, denial.Reason
							}
							return grant.Runners, ""
						})
					assert.NoError(t, err)
				})
			}
		}
		all.Wait()
		view, err := stores[0].ReservationView(ctx, times(at))
		require.NoError(t, err)
		require.Equal(t, 2, view.Held["b"].Jobs, "1.5 of 3 cores each")
		require.EqualValues(t, 3000, view.Held["b"].CPUMilli)
		require.Equal(t, 12, view.Held["a"].Jobs)
		require.Len(t, view.Waiting, 10)
		for _, w := range view.Waiting {
			require.Equal(t, "b", w.Project)
			require.Contains(t, w.Reason, "its jobs have 3 of 3 CPU cores")
		}

		// What a job of the project releases the next one gets.
		require.NoError(t, stores[0].ReleaseReservation(ctx, view.Holders[len(view.Holders)-1].JobID))
		view, err = stores[1].ReservationView(ctx, times(at))
		require.NoError(t, err)
		p := admission.Party{Runners: view.Runners, Running: view.Holders, UsedSlots: view.UsedSlots,
			Quotas: view.Quotas, Held: view.Held}
		for _, w := range view.Waiting {
			p.Waiting = append(p.Waiting, w.AdmissionRequest())
		}
		require.Len(t, p.Grantable(at), 1)
	})
}

// TestExpiredJobsOfProjects checks that the retention of a project counts for its jobs, shorter or longer
// than the party's.
func TestExpiredJobsOfProjects(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), withProjects(t, address)
		for _, project := range []string{"default", "a", "b"} {
			for name, ended := range map[string]time.Time{"old": at, "new": at.Add(10 * time.Hour)} {
				id := name + "-" + project
				projectJob(t, s, id, project)
				require.NoError(t, s.UpdateJob(ctx, id, bfia.JobFinished, "", ended))
			}
		}
		scheduledJob(t, s, "scheduled")
		_, err := s.AddSubmission(ctx, "scheduled", "digest", "default")
		require.NoError(t, err)
		require.NoError(t, s.UpdateScheduleJob(ctx, "scheduled", bfia.JobFinished, "", at))
		endedJob(t, s, "without-project", at)
		expired := func(before time.Time, projects map[string]time.Time, after string, limit int) []string {
			t.Helper()
			ids, err := s.ExpiredJobsOfProjects(ctx, before, projects, after, limit)
			require.NoError(t, err)
			return ids
		}
		own := map[string]time.Time{"a": at.Add(24 * time.Hour), "b": at.Add(-time.Hour)}
		require.Equal(t, []string{"new-a", "old-a", "old-default", "scheduled", "without-project"},
			expired(at.Add(time.Hour), own, "", 10))
		require.Equal(t, []string{"old-default", "scheduled"}, expired(at.Add(time.Hour), own, "old-a", 2))
		require.Equal(t, []string{"new-a", "old-a"}, expired(time.Time{}, own, "", 10),
			"the party keeps all for ever")
	})
}

// TestStorageQuota checks that what a project stores never exceeds its quota of storage by an upload or an
// import, also if many come at once, and that a project which has used it up can delete, and continue.
func TestStorageQuota(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		stores := []*store.Store{withProjects(t, address), storetest.Open(t, address)}
		s := stores[0]
		quota := bfia.ProjectQuota{Storage: 1000}
		_, err := s.SetProject(ctx, bfia.SetProject{Name: "b", Quota: quota.Change()})
		require.NoError(t, err)
		put := func(s *store.Store, name, project string, bytes int64) error {
			generation := "g-" + name + fmt.Sprint(bytes)
			require.NoError(t, s.CreateGeneration(ctx, "n", name, generation, time.Now()))
			return s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: name, Generation: generation,
				Project: project, Bytes: bytes})
		}
		var all sync.WaitGroup
		var stored atomic.Int64
		for i := range 12 {
			all.Go(func() {
				switch err := put(stores[i%2], fmt.Sprint("d", i), "b", 300); bfia.CodeOf(err) {
				case bfia.CodeConflict:
					assert.ErrorContains(t, err, "the quota of storage at this party is used up")
				default:
					assert.NoError(t, err)
					stored.Add(300)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 900, stored.Load())
		require.NoError(t, put(s, "other", "a", 5000), "another project has no quota")
		require.NoError(t, s.CheckStorage(ctx, "b"))

		projectJob(t, s, "job", "b")
		require.NoError(t, s.PutOutputs(ctx, []store.Output{{JobID: "job", TaskName: "t", Role: "guest",
			Type: "model", Key: "m", Namespace: "out", Name: "m", Bytes: 100}}))
		trained := trainedModel("job", "m")
		trained.Namespace, trained.Name, trained.Bytes = "out", "m", 100
		require.NoError(t, s.PutModels(ctx, []store.Model{trained}))
		err = s.CheckStorage(ctx, "b")
		requireCode(t, bfia.CodeConflict, err)
		require.NotContains(t, err.Error(), `"b"`)
		projects, err := s.Projects(store.WithProjects(ctx, "b"))
		require.NoError(t, err)
		require.EqualValues(t, 1000, projects[0].StoredBytes, "an output that is a model counts once")

		project, err := s.SetProject(ctx, bfia.SetProject{Name: "b", Quota: &bfia.QuotaChange{Jobs: new(5)}})
		require.NoError(t, err)
		require.Equal(t, bfia.ProjectQuota{Jobs: 5, Storage: 1000}, project.Quota, "other limits stay")

		imported := trainedModel("imported", "m")
		imported.Bytes = 1
		_, err = s.BeginModelImport(ctx, imported, "b")
		requireCode(t, bfia.CodeConflict, err)
		_, recorded, err := s.JobProject(ctx, "imported")
		require.NoError(t, err)
		require.False(t, recorded, "a refusal leaves nothing")

		// A model that stays when its job is removed still counts.
		require.NoError(t, s.UpdateJob(ctx, "job", bfia.JobFinished, "", at))
		require.NoError(t, s.RemoveJob(ctx, "job"))
		requireCode(t, bfia.CodeConflict, s.CheckStorage(ctx, "b"))
		require.NoError(t, s.DeleteModelRow(ctx, trained))
		_, err = s.BeginModelImport(ctx, imported, "b")
		require.NoError(t, err)
	})
}
