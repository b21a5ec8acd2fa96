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

// A component that listens on its control port is polled there.
// Its progress is recorded and its end reported, although it keeps running and sends no callback.
func TestControlPort(t *testing.T) { eachDriver(t, testControlPort) }

func testControlPort(t *testing.T, d testDriver) {
	h := newTestParty(t, storetest.SQLite(t), d,
		[]string{"control", `{"code": 0, "status": "SUCCESS", "role": "guest", "progress": 0.42}`}, nil)
	reports := make(chan bfia.TaskReport, 100)
	h.onReport = func(_ context.Context, job string, r bfia.TaskReport) error {
		require.Equal(t, jobID, job)
		reports <- r
		return nil
	}
	h.claimTaskA()
	ended := make(chan error, 1)
	var last activities.PartResult // written before ended
	go func() {
		result, err := h.runTaskA(t.Context(), d, nil)
		if err == nil && result.Failure == nil {
			err = errors.New("the task succeeded")
		}
		last = result
		ended <- err
	}()
	select {
	case r := <-reports:
		require.Equal(t, bfia.TaskReport{TaskID: bfia.TaskID(jobID, "a"), Status: bfia.TaskSuccess,
			Role: "guest.0"}, r)
	case err := <-ended:
		t.Fatalf("the task ended before its report: %v: %+v", err, last.Failure)
	case <-time.After(2 * time.Minute):
		t.Fatal("no report within 2 minutes")
	}
	require.Equal(t, "42%", h.taskRow("a").Progress)
	require.NoError(t, (&runner.Activities{Runner: h.runner}).StopTask(t.Context(),
		runner.StopTaskInput{PartRequest: h.partRequest("a")}))
	require.NoError(t, <-ended)
	require.Empty(t, reports, "the end is reported once")
}

// On a bridge network a container has an address of its own.
// This test does not run in parallel to TestControlPort, since their containers have the same name.
func TestControlPortOnABridge(t *testing.T) {
	if prog.dockerErr != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_DOCKER"), "Docker is required: %v", prog.dockerErr)
		t.Skipf("no Docker Engine answers: %v", prog.dockerErr)
	}
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	t.Cleanup(func() { require.NoError(t, r.RemoveNetwork(context.Background())) })
	testControlPort(t, removeContainersAfter(t, testDriver{r, "/prog"}))
}
