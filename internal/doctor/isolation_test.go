package doctor_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/doctor"
	"hutong/internal/party"
)

// TestIsolation checks that the doctor names each way in which Docker containers are isolated less than they
// should be, and changes nothing.
func TestIsolation(t *testing.T) {
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	defer func() { _ = engine.Close() }()
	if _, err := engine.Ping(t.Context()); err != nil && os.Getenv("HUTONG_REQUIRE_DOCKER") != "1" {
		t.Skipf("no Docker Engine answers: %v", err)
	}
	isolation := func(change func(cfg *party.Config)) doctor.Check {
		cfg := party.Default()
		cfg.NodeID, cfg.DataDir = "T"+rand.Text(), t.TempDir()
		cfg.Security.Mode = party.SecurityOpen
		cfg.Temporal.Address = freeAddress(t)
		cfg.Runner.Docker.Enabled = party.SwitchOn
		change(cfg)
		found := examine(t, cfg)["isolation"]
		networks, err := engine.NetworkList(t.Context(), network.ListOptions{})
		require.NoError(t, err)
		for _, n := range networks {
			require.NotEqual(t, "hutong-"+strings.ToLower(cfg.NodeID), n.Name)
		}
		return found
	}

	usual := isolation(func(*party.Config) {})
	require.NotEqual(t, doctor.Failed, usual.State, usual)
	require.Contains(t, usual.Detail, "runtime runc, userns-remap off")
	require.NotContains(t, usual.Detail, "internet")

	found := isolation(func(cfg *party.Config) { cfg.Runner.Docker.Runtime = "runsc-not-there" })
	assert.Equal(t, doctor.Failed, found.State)
	assert.Contains(t, found.Detail, "Docker Engine has no runtime runsc-not-there, only ")
	assert.Contains(t, found.Fix, "runner.docker.runtime")

	found = isolation(func(cfg *party.Config) { cfg.Runner.Docker.HostNetwork = true })
	assert.Equal(t, doctor.Warning, found.State)
	assert.Contains(t, found.Detail, "containers use the machine's network")

	found = isolation(func(cfg *party.Config) {
		name := "test-" + strings.ToLower(rand.Text())
		made, err := engine.NetworkCreate(t.Context(), name, network.CreateOptions{Driver: "bridge",
			Labels: map[string]string{"hutong.node_id": cfg.NodeID}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, engine.NetworkRemove(context.Background(), made.ID)) })
		cfg.Runner.Docker.Network = name
	})
	assert.Equal(t, doctor.Warning, found.State)
	assert.Contains(t, found.Detail, "it is not internal, so containers reach the internet")
	assert.Contains(t, found.Detail, "containers reach each other")
	assert.Contains(t, found.Fix, "leave runner.docker.network empty")

	found = isolation(func(cfg *party.Config) {
		storage := t.TempDir()
		cfg.Storage.URL = party.Secret("file://" + storage)
	})
	if strings.Contains(found.Detail, "storage") { // the machine's temporary folder may be mounted so
		assert.Equal(t, doctor.Warning, found.State)
		assert.Contains(t, found.Detail, "without nosuid")
	}
}
