package docker_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/test/testenv/dockerd"
)

// TestEngineDiesDuringStart kills Docker Engine while it starts containers. Some of them it can then neither
// start nor call started. Each must end nevertheless, and none may run again.
func TestEngineDiesDuringStart(t *testing.T) {
	needDocker(t)
	if os.Geteuid() != 0 || prog.path == "" {
		t.Skip("needs root, and the test's own image")
	}
	engine := startEngine(t)
	t.Setenv("DOCKER_HOST", "unix://"+engine.Socket())
	_, err := importImage(prog.path, prog.image)
	require.NoError(t, err)

	d, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), HostNetwork: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })

	// Whether a start is cut off at the right moment depends on the kernel's scheduling, and whether Docker
	// Engine repairs it on its version.
	unknown := 0
	for range 3 {
		unknown += startDuringKill(t, d, engine)
	}
	t.Logf("for %d of 12 containers it is unknown whether they ran", unknown)
}

// startDuringKill starts containers, kills Docker Engine meanwhile, and waits for the end of each. It returns
// for how many it is unknown whether they ran.
func startDuringKill(t *testing.T, d *docker.Driver, engine *killableEngine) (unknown int) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var names, ids []string
	for range 4 {
		spec := driver.Spec{Name: "test-" + rand.Text(), Image: prog.image,
			Command: []string{"/prog", "exit", "0"}}
		id, err := d.Create(ctx, spec)
		require.NoError(t, err)
		names, ids = append(names, spec.Name), append(ids, id)
	}

	started := make(chan error, len(names))
	for _, name := range names {
		go func() { started <- d.Start(ctx, name) }()
	}
	for _, id := range ids {
		for !dockerd.HasShim(id) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	engine.kill()
	for range names {
		<-started // most fail, since the connection breaks
	}
	engine.start()

	for _, name := range names {
		require.NoError(t, d.Start(ctx, name))
		exit, err := d.Wait(ctx, name)
		require.NoError(t, err)
		if exit.Code != 0 {
			assert.True(t, exit.Killed, "%+v", exit)
			assert.Contains(t, exit.Reason, "Docker Engine died while it started the container")
			unknown++
		}
		require.NoError(t, d.Start(ctx, name), "a container that has ended stays so")
		require.NoError(t, d.Stop(ctx, name, 0))
		require.NoError(t, d.Remove(ctx, name))
	}

	return unknown
}

// killableEngine is a Docker Engine of this test.
type killableEngine struct {
	*dockerd.Daemon
	t   *testing.T
	log *os.File
	cmd *exec.Cmd
}

func startEngine(t *testing.T) *killableEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "hutong-kill-") // short, for the paths of sockets
	require.NoError(t, err)
	log, err := os.CreateTemp(t.TempDir(), "log")
	require.NoError(t, err)
	e := &killableEngine{t: t, log: log, Daemon: &dockerd.Daemon{Dir: dir, LiveRestore: true,
		Bridge: fmt.Sprintf("ht%d-kill", os.Getpid()%1e6)}}
	require.NoError(t, e.Prepare())
	e.start()
	t.Cleanup(func() {
		e.kill()
		e.Remove()
		_ = log.Close()
		_ = os.RemoveAll(dir)
	})

	return e
}

func (e *killableEngine) start() {
	e.t.Helper()
	e.Clean()
	e.cmd = e.Command()
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	require.NoError(e.t, e.cmd.Start())

	cli, err := client.NewClientWithOpts(client.WithHost("unix://"+e.Socket()),
		client.WithAPIVersionNegotiation())
	require.NoError(e.t, err)
	defer func() { _ = cli.Close() }()
	require.Eventually(e.t, func() bool {
		_, err := cli.Ping(e.t.Context())
		return err == nil
	}, time.Minute, 20*time.Millisecond, "Docker Engine does not answer")
}

func (e *killableEngine) kill() {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
}
