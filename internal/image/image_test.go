package image

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// reference is the folder of the reference provider, a Go module of its own.
var reference = filepath.Join("..", "..", "providers", "reference")

// TestLoad builds the image with a real Docker Engine, runs it and checks its callback.
func TestLoad(t *testing.T) {
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	if _, err := cli.Ping(ctx); err != nil {
		t.Skipf("no Docker Engine answers: %v", err)
	}
	binary := filepath.Join(t.TempDir(), "provider")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Dir = reference
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	repository := "hutong/provider-test-" + uuid.NewString()[:8]
	tags := []string{repository + ":1", repository + ":2"}
	t.Cleanup(func() {
		for _, tag := range tags {
			_, err := cli.ImageRemove(context.Background(), tag, image.RemoveOptions{PruneChildren: true})
			require.NoError(t, err)
		}
	})
	require.NoError(t, Load(ctx, cli, binary, tags[0]))
	first, err := cli.ImageInspect(ctx, tags[0])
	require.NoError(t, err)
	require.NoError(t, Load(ctx, cli, binary, tags...))
	for _, tag := range tags {
		again, err := cli.ImageInspect(ctx, tag)
		require.NoError(t, err)
		require.Equal(t, first.ID, again.ID, "the same program has the same image")
	}

	called := make(chan map[string]string, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body map[string]string
		_ = json.NewDecoder(r.Body).Decode(&body)
		called <- body
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	created, err := cli.ContainerCreate(ctx, &container.Config{
		Image: tags[0],
		Env: []string{
			"runtime.component.name=CallbackOnly", "config.task_id=task-1", "config.self_role=host.0",
			"system.callback=http://" + listener.Addr().String() + "/callback",
		},
	}, &container.HostConfig{
		NetworkMode: "host", CapDrop: []string{"ALL"}, ReadonlyRootfs: true,
	}, nil, nil, "")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(
			t, cli.ContainerRemove(context.Background(), created.ID, container.RemoveOptions{Force: true}),
		)
	})
	require.NoError(t, cli.ContainerStart(ctx, created.ID, container.StartOptions{}))
	ended, failed := cli.ContainerWait(ctx, created.ID, container.WaitConditionNotRunning)
	select {
	case end := <-ended:
		require.Zero(t, end.StatusCode)
	case err := <-failed:
		require.NoError(t, err)
	}
	require.Equal(t, map[string]string{"task_id": "task-1", "status": "SUCCESS", "role": "host.0"}, <-called)

	// As process 1 of a container it receives SIGTERM.
	sleeper, err := cli.ContainerCreate(ctx, &container.Config{
		Image: tags[0],
		Env:   []string{"runtime.component.name=Sleep", "runtime.component.parameter.seconds=600"},
	}, &container.HostConfig{NetworkMode: "none"}, nil, nil, "")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(
			t, cli.ContainerRemove(context.Background(), sleeper.ID, container.RemoveOptions{Force: true}),
		)
	})
	require.NoError(t, cli.ContainerStart(ctx, sleeper.ID, container.StartOptions{}))
	logs, err := cli.ContainerLogs(ctx, sleeper.ID, container.LogsOptions{ShowStdout: true, Follow: true})
	require.NoError(t, err)
	_, err = logs.Read(make([]byte, 1)) // its first line: it has started
	require.NoError(t, err)
	require.NoError(t, logs.Close())
	grace := 30
	require.NoError(t, cli.ContainerStop(ctx, sleeper.ID, container.StopOptions{Timeout: &grace}))
	stopped, err := cli.ContainerInspect(ctx, sleeper.ID)
	require.NoError(t, err)
	require.Equal(t, 143, stopped.State.ExitCode)
}

// TestDockerfile checks that the Dockerfile of the provider equals the one in Load.
func TestDockerfile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(reference, "Dockerfile"))
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	require.Equal(t, dockerfile, strings.Join(lines, ""))
}

func TestLoadRefuses(t *testing.T) {
	cli, err := client.NewClientWithOpts(client.FromEnv)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	require.ErrorContains(t, Load(t.Context(), cli, "nothing"), "no tag")
	require.ErrorContains(
		t, Load(t.Context(), cli, filepath.Join(t.TempDir(), "nothing"), "a:1"), "no such file",
	)
}

func TestWaitForBuild(t *testing.T) {
	require.NoError(t, waitForBuild(strings.NewReader(`{"stream":"Step 1"}{"aux":{"ID":"sha256:1"}}`)))
	require.ErrorContains(
		t, waitForBuild(strings.NewReader(`{"stream":"Step 1"}{"error":"disk full"}`)), "disk full",
	)
	require.Error(t, waitForBuild(strings.NewReader(`{"stream":`)))
}
