package system

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/party"
	"hutong/test/testenv/apiclient"
)

// TestNetworkIsCreatedAgain removes the party's Docker network while no container runs, as docker network
// prune does. Within seconds the party's gate listens at the gateway of the next one, which has another
// address, without a restart.
func TestNetworkIsCreatedAgain(t *testing.T) {
	t.Parallel()
	cli := dockerClient(t)
	pair := newPartyPair(t, func(cfg *party.Config) {
		if cfg.NodeID == guestNode {
			cfg.Runner.Docker.Enabled = party.SwitchOn
			cfg.Runner.Docker.Network = "hutong-test-created-again"
		}
	})
	guest := pair.guest.cfg
	name := guest.Runner.Docker.Network
	t.Cleanup(func() { _ = cli.NetworkRemove(context.WithoutCancel(t.Context()), name) })
	stop := pair.guest.start()
	defer stop()
	gateway := func() string {
		found, err := cli.NetworkInspect(t.Context(), name, network.InspectOptions{})
		if err != nil || len(found.IPAM.Config) == 0 {
			return ""
		}
		return found.IPAM.Config[0].Gateway
	}
	serves := func(host string) bool {
		for _, path := range []string{"/v1/platform/schedule/task/callback", "/v1/interconn/chan/peek"} {
			_, port, err := net.SplitHostPort(guest.Containers.Listen)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			a, _ := apiclient.Send(ctx, http.MethodPost, "http://"+net.JoinHostPort(host, port)+path,
				[]byte("{}"))
			cancel()
			if a.Status == 0 {
				return false
			}
		}
		return true
	}
	first := gateway()
	require.NotEmpty(t, first)
	// A gate that has just started looks for an unknown caller for some seconds before it refuses it.
	require.Eventually(t, func() bool { return serves(first) }, time.Minute, 200*time.Millisecond,
		"containers can't reach the party")

	// Another network takes the addresses of the first one, unless the party is faster.
	subnet := &net.IPNet{IP: net.ParseIP(first).Mask(net.CIDRMask(24, 32)), Mask: net.CIDRMask(24, 32)}
	const other = "hutong-test-taken"
	t.Cleanup(func() { _ = cli.NetworkRemove(context.WithoutCancel(t.Context()), other) })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		err := cli.NetworkRemove(t.Context(), name)
		require.True(c, err == nil || cerrdefs.IsNotFound(err), err)
		_, err = cli.NetworkCreate(t.Context(), other, network.CreateOptions{IPAM: &network.IPAM{
			Config: []network.IPAMConfig{{Subnet: subnet.String()}}}})
		require.NoError(c, err)
	}, time.Minute, 10*time.Millisecond)

	require.Eventually(t, func() bool {
		second := gateway()
		return second != "" && second != first && serves(second)
	}, time.Minute, 200*time.Millisecond, "containers can't reach the party at the new network")
}
