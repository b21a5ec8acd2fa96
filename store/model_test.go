package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// trainedModel returns the model of task t of a job, as the guest has it.
func trainedModel(jobID, key string) store.Model {
	return store.Model{JobID: jobID, TaskName: "t", Role: "guest", Key: key, Type: "model", Port: "model",
		Component: "Boost", Provider: "p", Version: "1", Images: []string{"sha256:1"},
		Datasets: []string{"n#d@g1"}, Document: []byte(`{"job_id":"` + jobID + `"}`),
		Namespace: "guest-A-model-" + key, Name: "id-" + jobID, Bytes: 3, SHA256: "ab"}
}

func guestTask(model string) []store.Task {
	return []store.Task{{Name: "t", Role: "guest", Model: model}}
}

func TestModels(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		create := func(id string, tasks []store.Task) {
			t.Helper()
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, State: bfia.JobReady}, tasks))
		}
		end := func(id string) {
			t.Helper()
			require.NoError(t, s.UpdateJob(ctx, id, bfia.JobFinished, "", time.Now()))
		}
		code := func(want bfia.Code, err error, words ...string) {
			t.Helper()
			require.Equal(t, want, bfia.CodeOf(err), "%v", err)
			for _, w := range words {
				require.ErrorContains(t, err, w)
			}
		}
		ref := func(job string) bfia.ModelRef { return bfia.ModelRef{JobID: job, Task: "t"} }

		create("old", guestTask(""))
		require.NoError(t, s.PutModels(ctx, []store.Model{trainedModel("old", "m")}))
		_, err := s.ClaimModelRemoval(ctx, ref("old"))
		code(bfia.CodeConflict, err, "job old is READY")
		code(bfia.CodeConflict, s.KeepModel(ctx, ref("old")), "job old is READY")
		end("old")

		// A later attempt replaces the model, and nothing else of its row.
		again := trainedModel("old", "m")
		again.Name, again.SHA256 = "id-2", "cd"
		require.NoError(t, s.PutModels(ctx, []store.Model{again}))
		parts, err := s.ModelParts(ctx, bfia.ModelRef{JobID: "old", Task: "t", Output: "m"})
		require.NoError(t, err)
		require.Len(t, parts, 1)
		require.Equal(t, "guest-A-model-m#id-2", parts[0].Address().String())
		require.Equal(t, `{"job_id":"old"}`, string(parts[0].Document))
		require.Equal(t, []string{"n#d@g1"}, parts[0].Datasets)
		list, err := s.Models(ctx, "")
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Empty(t, list[0].Document, "lists are short")

		// A job has the address that the model had at its creation, and no model that is not there.
		create("user", guestTask("old:t"))
		task, err := s.Task(ctx, store.TaskKey{JobID: "user", Name: "t", Role: "guest"})
		require.NoError(t, err)
		require.Equal(t, "guest-A-model-m#id-2", task.ModelAddress)
		for _, model := range []string{"none:t", "old:u", "old:t.other"} {
			code(bfia.CodeNotFound, s.CreateJob(ctx, store.Job{JobID: "bad"}, guestTask(model)))
		}
		code(bfia.CodeNotFound, s.CreateJob(ctx, store.Job{JobID: "bad"},
			[]store.Task{{Name: "t", Role: "host", Model: "old:t"}}), "no part of model old:t as host.0")

		// It is not deleted, nor swept when its job is gone, while an unfinished job uses it.
		_, err = s.ClaimModelRemoval(ctx, ref("old"))
		code(bfia.CodeConflict, err, "model old:t is used by job user (READY)")
		uses, err := s.JobsWithModel(ctx, parts)
		require.NoError(t, err)
		require.Equal(t, "user", uses[0].JobID)
		require.NoError(t, s.RemoveJob(ctx, "old"))
		_, err = s.ModelParts(ctx, ref("old"))
		code(bfia.CodeNotFound, err)
		code(bfia.CodeNotFound, s.CreateJob(ctx, store.Job{JobID: "bad"}, guestTask("old:t")))
		sweep := func() []store.Model {
			t.Helper()
			unused, err := s.ClaimUnusedModels(ctx, "", time.Now().Add(-time.Hour))
			require.NoError(t, err)
			return unused
		}
		require.Empty(t, sweep())
		held, err := s.HoldsModel(ctx, parts[0].Address())
		require.NoError(t, err)
		require.True(t, held)
		end("user")
		require.Len(t, sweep(), 1)
		require.NoError(t, s.DeleteModelRow(ctx, parts[0]))
		require.Empty(t, sweep())

		// A kept model stays without its job, and the task of a job that reused its task names it too.
		create("kept", guestTask(""))
		_, err = s.StartTask(ctx, "kept", "t", "id-kept", 1, time.Now())
		require.NoError(t, err)
		require.NoError(t, s.PutModels(ctx, []store.Model{trainedModel("kept", "m")}))
		end("kept")
		create("heir", guestTask(""))
		require.NoError(t, s.ReuseTask(ctx, "heir", "t", "kept"))
		end("heir")
		parts, err = s.ModelParts(ctx, ref("heir"))
		require.NoError(t, err)
		require.Equal(t, "kept", parts[0].JobID)
		require.NoError(t, s.KeepModel(ctx, ref("kept")))
		require.NoError(t, s.RemoveJob(ctx, "kept"))
		require.Empty(t, sweep())
		create("late", guestTask("kept:t"))
		end("late")
		claimed, err := s.ClaimModelRemoval(ctx, ref("kept"))
		require.NoError(t, err)
		require.Len(t, claimed, 1)
		_, err = s.ClaimModelRemoval(ctx, ref("kept"))
		code(bfia.CodeNotFound, err)
		require.NoError(t, s.DeleteModelRow(ctx, claimed[0]))

		// A task with several models.
		create("two", guestTask(""))
		both := []store.Model{trainedModel("two", "a"), trainedModel("two", "b")}
		require.NoError(t, s.PutModels(ctx, both))
		end("two")
		_, err = s.ModelParts(ctx, ref("two"))
		code(bfia.CodeBadRequest, err, "name one of them: two:t.a, two:t.b")

		// An import that was never completed is swept after a while.
		part := trainedModel("new", "m")
		part.CreatedAt = time.Now().Add(-2 * time.Hour)
		existing, err := s.BeginModelImport(ctx, part, "")
		require.NoError(t, err)
		require.Nil(t, existing)
		_, err = s.ModelParts(ctx, ref("new"))
		code(bfia.CodeNotFound, err)
		existing, err = s.BeginModelImport(ctx, part, "")
		require.NoError(t, err)
		require.True(t, existing.Removing)
		require.Equal(t, "new", sweep()[0].JobID)
		require.NoError(t, s.DeleteModelRow(ctx, part))
		code(bfia.CodeConflict, s.CompleteModelImport(ctx, []store.Model{part}), "import it again")
	})
}

// TestModelRemovalAndCreation deletes models while jobs that use them are created: each model is either
// deleted or used.
func TestModelRemovalAndCreation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
			require.NoError(t, s.CreateJob(ctx, store.Job{JobID: id, State: bfia.JobReady}, guestTask("")))
			require.NoError(t, s.PutModels(ctx, []store.Model{trainedModel(id, "m")}))
			require.NoError(t, s.UpdateJob(ctx, id, bfia.JobFinished, "", time.Now()))
			var deleted, created error
			var both errgroup.Group
			both.Go(func() error {
				_, deleted = s.ClaimModelRemoval(ctx, bfia.ModelRef{JobID: id, Task: "t"})
				return nil
			})
			both.Go(func() error {
				created = s.CreateJob(ctx, store.Job{JobID: "use-" + id}, guestTask(id+":t"))
				return nil
			})
			require.NoError(t, both.Wait())
			require.True(t, (deleted == nil) != (created == nil), "%v, %v", deleted, created)
		}
	})
}
