package activities_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver/docker"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/store/storetest"
)

// A component that listens on its control port is asked there: its progress is recorded, and its end is told, though it
// stays and calls nobody back.
func TestControlPort(t *testing.T) { eachDevice(t, askOnControlPort) }

func askOnControlPort(t *testing.T, d device) {
	h := newTestParty(t, storetest.SQLite(t), d, []string{"control", `{"code": 0, "status": "SUCCESS", "role": "guest", "progress": 0.42}`}, nil)
	told := make(chan bfia.TaskReport, 100)
	h.told = func(_ context.Context, job string, r bfia.TaskReport) error {
		require.Equal(t, jobID, job)
		told <- r
		return nil
	}
	h.begin()
	ended := make(chan error, 1)
	var last activities.PartResult // set before ended is
	go func() {
		result, err := h.run(t.Context(), d, nil)
		if err == nil && result.Failure == nil {
			err = errors.New("it ended well")
		}
		last = result
		ended <- err
	}()
	select {
	case r := <-told:
		require.Equal(t, bfia.TaskReport{TaskID: bfia.TaskID(jobID, "a"), Status: bfia.TaskSuccess, Role: "guest.0"}, r)
	case err := <-ended:
		t.Fatalf("it ended by itself: %v: %+v", err, last.Failure)
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing was told")
	}
	require.Equal(t, "42%", h.row("a").Progress)
	require.NoError(t, (&runner.Activities{Runner: h.runs}).StopTask(t.Context(), runner.StopTaskInput{PartRequest: h.request("a")}))
	require.NoError(t, <-ended)
	require.Empty(t, told, "it is told once")
}

// On a bridge a container has an address of its own. Not beside the other one: their containers have one name.
func TestControlPortOnABridge(t *testing.T) {
	if prog.dockerErr != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_DOCKER"), "Docker is required: %v", prog.dockerErr)
		t.Skipf("no Docker: %v", prog.dockerErr)
	}
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	t.Cleanup(func() { require.NoError(t, r.RemoveNetwork(context.Background())) })
	askOnControlPort(t, emptied(t, device{r, "/prog"}))
}
