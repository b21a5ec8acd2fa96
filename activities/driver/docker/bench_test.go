package docker_test

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
)

// BenchmarkDocker compares the driver with the same calls of the Docker API.
func BenchmarkDocker(b *testing.B) {
	needDocker(b)
	engine := dockerClient(b)
	for _, network := range []string{"bridge", "host"} {
		opts := docker.Options{NodeID: "B" + rand.Text(), HostNetwork: network == "host"}
		r, err := docker.New(opts)
		require.NoError(b, err)
		b.Cleanup(func() {
			require.NoError(b, r.RemoveNetwork(context.Background()))
			require.NoError(b, r.Close())
		})
		b.Run(network+"/driver", func(b *testing.B) {
			for b.Loop() {
				drivertest.RunOnce(b, r,
					driver.Spec{Name: "bench-" + rand.Text(), Image: prog.image, Command: []string{"/prog"}})
			}
		})
		b.Run(network+"/bare", func(b *testing.B) {
			for b.Loop() {
				bare(b, engine, &container.HostConfig{NetworkMode: container.NetworkMode(network)})
			}
		})
	}
}

// BenchmarkDockerOptions measures the cost of each option, on the host network.
func BenchmarkDockerOptions(b *testing.B) {
	needDocker(b)
	engine := dockerClient(b)
	yes, pids := true, int64(4096)
	options := map[string]func(h *container.HostConfig){
		"none": func(*container.HostConfig) {},
		"tmpfs": func(h *container.HostConfig) {
			h.Tmpfs = map[string]string{"/hutong/logs": "size=64m"}
		},
		"init":       func(h *container.HostConfig) { h.Init = &yes },
		"pids":       func(h *container.HostConfig) { h.PidsLimit = &pids },
		"extrahosts": func(h *container.HostConfig) { h.ExtraHosts = []string{"hutong:127.0.0.1"} },
		"memory": func(h *container.HostConfig) {
			h.Memory, h.MemorySwap, h.NanoCPUs = 1<<28, 1<<28, 1e9
		},
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
				bare(b, engine, host)
			}
		})
	}
}

func bare(b *testing.B, engine *client.Client, host *container.HostConfig) {
	ctx := context.Background()
	made, err := engine.ContainerCreate(ctx, &container.Config{Image: prog.image, Cmd: []string{"/prog"}},
		host, nil, nil, "bench-"+rand.Text())
	require.NoError(b, err)
	ended, failed := engine.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	require.NoError(b, engine.ContainerStart(ctx, made.ID, container.StartOptions{}))
	select {
	case <-ended:
	case err := <-failed:
		b.Fatal(err)
	}
	require.NoError(b, engine.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}))
}
