package runner_test

import (
	"context"
	"crypto/rand"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/runner"
)

// BenchmarkDocker compares a whole run with the same by bare calls of the API.
func BenchmarkDocker(b *testing.B) {
	needDocker(b)
	docker := dockerClient(b)
	for _, network := range []string{"bridge", "host"} {
		opts := runner.DockerOptions{NodeID: "B" + rand.Text(), HostNetwork: network == "host"}
		r, err := runner.NewDocker(opts)
		require.NoError(b, err)
		b.Cleanup(func() {
			require.NoError(b, r.RemoveNetwork(context.Background()))
			require.NoError(b, r.Close())
		})
		b.Run(network+"/runner", func(b *testing.B) {
			for b.Loop() {
				whole(b, r, runner.Spec{Name: "bench-" + rand.Text(), Image: prog.image, Command: []string{"/prog"}})
			}
		})
		b.Run(network+"/bare", func(b *testing.B) {
			for b.Loop() {
				bare(b, docker, &container.HostConfig{NetworkMode: container.NetworkMode(network)})
			}
		})
	}
}

// BenchmarkDockerOptions tells what each option costs over bare calls on the host's network.
func BenchmarkDockerOptions(b *testing.B) {
	needDocker(b)
	docker := dockerClient(b)
	yes, pids := true, int64(4096)
	options := map[string]func(h *container.HostConfig){
		"none":       func(*container.HostConfig) {},
		"tmpfs":      func(h *container.HostConfig) { h.Tmpfs = map[string]string{"/hutong/logs": "size=64m"} },
		"init":       func(h *container.HostConfig) { h.Init = &yes },
		"pids":       func(h *container.HostConfig) { h.PidsLimit = &pids },
		"extrahosts": func(h *container.HostConfig) { h.ExtraHosts = []string{"hutong:127.0.0.1"} },
		"memory":     func(h *container.HostConfig) { h.Memory, h.MemorySwap, h.NanoCPUs = 1<<28, 1<<28, 1e9 },
		"security": func(h *container.HostConfig) {
			h.CapDrop, h.SecurityOpt = []string{"ALL"}, []string{"no-new-privileges"}
		},
		"no log": func(h *container.HostConfig) { h.LogConfig.Type = "none" },
	}
	for name, set := range options {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				host := &container.HostConfig{NetworkMode: "host"}
				set(host)
				bare(b, docker, host)
			}
		})
	}
}

// BenchmarkProcess runs one process after the other, then as many at once as there are cores times four.
func BenchmarkProcess(b *testing.B) {
	r, err := runner.NewProcess(processOptions(b))
	require.NoError(b, err)
	spec := func() runner.Spec {
		return runner.Spec{Name: "bench-" + rand.Text(), Command: []string{prog.path}}
	}
	whole(b, r, spec()) // the supervisor is there
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			whole(b, r, spec())
		}
	})
	b.Run("many", func(b *testing.B) {
		var done atomic.Int64
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				whole(b, r, spec())
				done.Add(1)
			}
		})
		b.ReportMetric(float64(done.Load())/b.Elapsed().Seconds(), "runs/s")
	})
}

func whole(b *testing.B, r runner.Driver, spec runner.Spec) {
	ctx := context.Background()
	if _, err := r.Create(ctx, spec); err != nil {
		b.Fatal(err)
	}
	if err := r.Start(ctx, spec.Name); err != nil {
		b.Fatal(err)
	}
	if exit, err := r.Wait(ctx, spec.Name); err != nil || exit.Code != 0 {
		b.Fatal(exit, err)
	}
	if err := r.Remove(ctx, spec.Name); err != nil {
		b.Fatal(err)
	}
}

func bare(b *testing.B, docker *client.Client, host *container.HostConfig) {
	ctx := context.Background()
	made, err := docker.ContainerCreate(ctx, &container.Config{Image: prog.image, Cmd: []string{"/prog"}}, host, nil, nil, "bench-"+rand.Text())
	require.NoError(b, err)
	ended, failed := docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	require.NoError(b, docker.ContainerStart(ctx, made.ID, container.StartOptions{}))
	select {
	case <-ended:
	case err := <-failed:
		b.Fatal(err)
	}
	require.NoError(b, docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}))
}
