package activities_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// requireGPULabel registers the provider of task a again, so that it requires a runner with the label gpu.
func (h *testParty) requireGPULabel() {
	found, err := h.db.Providers(h.t.Context(), store.ProviderFilter{Name: "vendor-a"})
	require.NoError(h.t, err)
	var metadata map[string]any
	require.NoError(h.t, json.Unmarshal(found[0].Metadata, &metadata))
	metadata["requires"] = map[string]string{"gpu": "1"}
	found[0].Metadata, err = json.Marshal(metadata)
	require.NoError(h.t, err)
	_, err = h.db.PutProvider(h.t.Context(), found[0])
	require.NoError(h.t, err)

	record, err := h.db.JobRecord(h.t.Context(), jobID)
	require.NoError(h.t, err)
	registry, err := h.db.RegistryFor(h.t.Context(), record.Document)
	require.NoError(h.t, err)
	require.NoError(h.t, h.db.DeleteDocument(h.t.Context(), jobID))
	require.NoError(h.t, h.db.PutJobRecord(h.t.Context(), jobID, record.Document.Bytes(), registry))
}

// A task that requires the label gpu reserves a GPU and gets one that no other container has. It waits while
// all are in use, with a reason.
func TestRunTaskWithGPU(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		gpus, program := []string{"/dev/fuse", "/dev/full"}, []string{"wait", "/dev/full"}
		if d.Device() == string(bfia.DeviceProcess) {
			gpus, program = []string{"0", "GPU-1f"}, []string{"env"}
		}
		h := newTestParty(t, storetest.SQLite(t), d, program, nil)
		h.requireGPULabel()
		h.gpus = gpus
		h.offers = store.Runner{Labels: map[string]string{"gpu": "1"}, GPU: 2}
		h.claimTaskA()
		slots, err := h.db.ReservedSlots(t.Context(), jobID)
		require.NoError(t, err)
		require.Contains(t, []int64{slots[0].GPU, slots[1].GPU}, int64(1), "a GPU is reserved for the label")

		occupy := func(gpu string) (name string) {
			spec := driver.Spec{Name: "other-" + rand.Text(), Image: prog.image,
				Command: []string{d.program, "forever"}, Labels: map[string]string{"gpus": gpu}}
			_, err := d.Create(t.Context(), spec)
			require.NoError(t, err)
			return spec.Name
		}
		occupy(gpus[0])
		second := occupy(gpus[1])
		var created driver.Spec
		var result activities.PartResult
		var running sync.WaitGroup
		running.Go(func() {
			result, err = h.runTaskA(t.Context(),
				&specObserver{testDriver: d, seen: func(s driver.Spec) { created = s }}, nil)
		})
		h.requireGPUWait("waits for 1 of the GPUs of runner runner-1: 0 of 2 are free", second)
		require.NoError(t, d.Remove(t.Context(), second))
		running.Wait()
		require.NoError(t, err)
		require.Nil(t, result.Failure)
		require.Nil(t, h.taskRow("a").Waiting)
		require.Equal(t, gpus[1:], created.GPUs)
		require.Equal(t, gpus[1], created.Labels["gpus"])
		if d.Device() == string(bfia.DeviceProcess) {
			require.Contains(t, h.readLog("a"), `"CUDA_VISIBLE_DEVICES" 6 `)
		}
	})
}

// requireGPUWait waits until task a waits for a GPU, with these words.
func (h *testParty) requireGPUWait(words ...string) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		w := h.taskRow("a").Waiting
		return w != nil && w.Kind == bfia.WaitsForGPU
	}, time.Minute, 10*time.Millisecond)
	for _, word := range words {
		require.Contains(h.t, h.taskRow("a").Waiting.Message, word)
	}
}

// A part that is stopped while it waits for a GPU ends as stopped, and never gets a container.
func TestStopWhileWaitingForGPU(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"env"}, nil)
		h.requireGPULabel()
		h.gpus = []string{"/dev/fuse"}
		h.offers = store.Runner{Labels: map[string]string{"gpu": "1"}, GPU: 1}
		h.claimTaskA()
		_, err := d.Create(t.Context(), driver.Spec{Name: "other-" + rand.Text(), Image: prog.image,
			Command: []string{d.program, "forever"}, Labels: map[string]string{"gpus": h.gpus[0]}})
		require.NoError(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		var result activities.PartResult
		var running sync.WaitGroup
		running.Go(func() { result, err = h.runTaskA(ctx, d, nil) })
		h.requireGPUWait("waits for 1 of the GPUs")
		require.NoError(t, h.participant.RequestStop(t.Context(),
			participant.RequestStopInput{Key: h.taskKey("a"), TaskID: bfia.TaskID(jobID, "a")}))
		cancel()
		running.Wait()
		if err == nil { // the worker may also report the cancellation
			require.Equal(t, bfia.FailedStopped, result.Failure.Kind)
		}
		containers, err := d.List(t.Context())
		require.NoError(t, err)
		require.Len(t, containers, 1, "only the one that has the GPU")
	})
}

// A job runs the image to which its runner had resolved the reference when the job was created, although the
// provider is registered again, and the reference names another image, while the job runs.
func TestRunTaskRunsResolvedImage(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) { testResolvedImage(t, d) })
}

func testResolvedImage(t *testing.T, d testDriver) {
	h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, nil)
	ctx := t.Context()
	found, err := h.db.Providers(ctx, store.ProviderFilter{Name: "vendor-a"})
	require.NoError(t, err)
	for runner, id := range map[string]string{"runner-1": "sha256:1", "runner-2": "sha256:2"} {
		require.NoError(t, h.db.ResolveImages(ctx, found[0], runner, map[string]string{prog.image: id}))
	}
	record, err := h.db.JobRecord(ctx, jobID)
	require.NoError(t, err)
	registry, err := h.db.RegistryFor(ctx, record.Document)
	require.NoError(t, err)
	require.NoError(t, h.db.DeleteDocument(ctx, jobID))
	require.NoError(t, h.db.PutJobRecord(ctx, jobID, record.Document.Bytes(), registry))

	_, err = h.db.PutProvider(ctx, found[0])
	require.NoError(t, err)
	require.NoError(t, h.db.ResolveImages(ctx, found[0], "runner-1",
		map[string]string{prog.image: "sha256:9"}))
	h.claimTaskA()
	var image string
	result, err := h.runTaskA(ctx,
		&specObserver{testDriver: d, seen: func(s driver.Spec) { image = s.Image }}, nil)
	require.NoError(t, err)
	require.Equal(t, "sha256:1", image)
	if d.Device() == string(bfia.DeviceDocker) {
		require.Equal(t, bfia.FailedImage, result.Failure.Kind,
			"the id is run, not what the reference names now")
	}
}
