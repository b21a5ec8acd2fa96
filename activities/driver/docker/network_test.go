package docker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
)

// newBridged returns a driver with a network of its own, which is removed after the test.
func newBridged(t *testing.T) (*docker.Driver, docker.Options) {
	needDocker(t)
	opts := docker.Options{NodeID: "T" + rand.Text()}
	r, err := docker.New(opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.RemoveNetwork(context.Background()))
		require.NoError(t, r.Close())
	})
	drivertest.RemoveAllAfter(t, r)
	return r, opts
}

func networksNamed(t *testing.T, engine *client.Client, name string) (ids []string) {
	list, err := engine.NetworkList(context.Background(), network.ListOptions{})
	require.NoError(t, err)
	for _, n := range list {
		if n.Name == name {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func TestDockerEnsureNetwork(t *testing.T) {
	t.Parallel()
	r, opts := newBridged(t)
	ctx := t.Context()
	var group sync.WaitGroup
	gateways := make([]netip.Addr, 6)
	for i := range gateways {
		group.Go(func() {
			other, err := docker.New(opts)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = other.Close() }()
			if gateways[i], err = other.EnsureNetwork(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, gateway := range gateways {
		require.True(t, gateway.Is4())
		require.Equal(t, gateways[0], gateway)
	}
	engine := dockerClient(t)
	name := "hutong-" + strings.ToLower(opts.NodeID)
	ids := networksNamed(t, engine, name)
	require.Len(t, ids, 1)
	n, err := engine.NetworkInspect(ctx, ids[0], network.InspectOptions{})
	require.NoError(t, err)
	require.Equal(t, "false", n.Options["com.docker.network.bridge.enable_icc"])
	// Of two networks with the same name, the older one is kept.
	require.NoError(t, createDuplicate(ctx, engine, name, opts.NodeID))
	require.Len(t, networksNamed(t, engine, name), 2)
	gateway, err := r.EnsureNetwork(ctx)
	require.NoError(t, err)
	require.Equal(t, gateways[0], gateway)
	require.Equal(t, ids, networksNamed(t, engine, name))
}

// createDuplicate creates a second network of the same name, as a race would. The client library would
// request a check for duplicates.
func createDuplicate(ctx context.Context, engine *client.Client, name, nodeID string) error {
	body := `{"Name":"` + name + `","Driver":"bridge","Labels":{"hutong.node_id":"` + nodeID + `"},` +
		`"Internal":true,"Options":{"com.docker.network.bridge.enable_icc":"false"}}`
	conn, err := engine.Dialer()(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request := "POST /v1.41/networks/create HTTP/1.0\r\nHost: docker\r\n" +
		"Content-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	response, err := io.ReadAll(conn)
	if err == nil && !strings.Contains(string(response), " 201 ") {
		err = errors.New(string(response))
	}
	return err
}

func TestDockerForeignNetwork(t *testing.T) {
	t.Parallel()
	needDocker(t)
	engine := dockerClient(t)
	made, err := engine.NetworkCreate(t.Context(), "test-"+rand.Text(),
		network.CreateOptions{Driver: "bridge"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.NetworkRemove(context.Background(), made.ID)) })
	n, err := engine.NetworkInspect(t.Context(), made.ID, network.InspectOptions{})
	require.NoError(t, err)
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), Network: n.Name})
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	_, err = r.EnsureNetwork(t.Context())
	require.ErrorContains(t, err,
		"the network "+n.Name+" (id "+n.ID[:12]+") was not created by Hutong for node T")
	require.True(t, driver.IsNonRetryable(err))
}

// TestDockerForeignDuplicate runs containers while a network that is not the party's has the name of the
// party's network: the older one, and a newer one that appears after the container was created.
func TestDockerForeignDuplicate(t *testing.T) {
	t.Parallel()
	r, opts := newBridged(t)
	engine, ctx := dockerClient(t), t.Context()
	name := "hutong-" + strings.ToLower(opts.NodeID)
	foreign := func() {
		before := networksNamed(t, engine, name)
		require.NoError(t, createDuplicate(ctx, engine, name, "another"))
		for _, id := range networksNamed(t, engine, name) {
			if !slices.Contains(before, id) {
				t.Cleanup(func() { require.NoError(t, engine.NetworkRemove(context.Background(), id)) })
			}
		}
	}
	foreign()
	require.NoError(t, createDuplicate(ctx, engine, name, opts.NodeID))

	spec := dockerSpec("exit", "0")
	_, err := r.Create(ctx, spec)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Remove(context.Background(), spec.Name)) })
	foreign()
	require.Len(t, networksNamed(t, engine, name), 3)
	require.NoError(t, r.Start(ctx, spec.Name))
	require.Equal(t, 0, drivertest.Await(t, ctx, r, spec.Name).Code)
	c, err := engine.ContainerInspect(ctx, spec.Name)
	require.NoError(t, err)
	require.Len(t, c.NetworkSettings.Networks, 1)

	_, err = r.EnsureNetwork(ctx)
	require.NoError(t, err)
	require.Len(t, networksNamed(t, engine, name), 3, "a network of somebody else was removed")
}

// TestDockerNetworkWithSubnetOnly uses a network for which Docker Engine lists no gateway.
func TestDockerNetworkWithSubnetOnly(t *testing.T) {
	t.Parallel()
	r, opts := newBridged(t)
	engine, ctx := dockerClient(t), t.Context()
	_, err := engine.NetworkCreate(ctx, "hutong-"+strings.ToLower(opts.NodeID), network.CreateOptions{
		Driver: "bridge", Labels: map[string]string{"hutong.node_id": opts.NodeID}, Internal: true,
		Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
		IPAM:    &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.78.3.0/24"}}}})
	require.NoError(t, err)
	gateway, err := r.EnsureNetwork(ctx)
	require.NoError(t, err)
	require.Equal(t, "10.78.3.1", gateway.String())
}

func TestDockerReachesParty(t *testing.T) {
	t.Parallel()
	r, _ := newBridged(t)
	ctx := t.Context()
	gateway, err := r.EnsureNetwork(ctx)
	require.NoError(t, err)
	party, err := net.Listen("tcp", net.JoinHostPort(gateway.String(), "0"))
	require.NoError(t, err)
	defer func() { _ = party.Close() }()
	go func() {
		for {
			conn, err := party.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "welcome")
			_ = conn.Close()
		}
	}()
	_, port, err := net.SplitHostPort(party.Addr().String())
	require.NoError(t, err)
	spec := dockerSpec("get", "hutong:"+port)
	drivertest.Launch(t, ctx, r, spec)
	exit := drivertest.Await(t, ctx, r, spec.Name)
	require.Equal(t, []string{"welcome"}, drivertest.Logs(t, ctx, r, spec.Name, true))
	require.Equal(t, 0, exit.Code)
}

// TestDockerMissingNetwork removes the network between create and start.
func TestDockerMissingNetwork(t *testing.T) {
	t.Parallel()
	r, opts := newBridged(t)
	ctx := t.Context()
	spec := dockerSpec("exit", "3")
	_, err := r.Create(ctx, spec)
	require.NoError(t, err)
	other, err := docker.New(opts)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	require.NoError(t, other.RemoveNetwork(ctx))
	err = r.Start(ctx, spec.Name)
	require.ErrorContains(t, err, "network")
	require.False(t, driver.IsNonRetryable(err), "%v", err)
	require.NotErrorIs(t, err, driver.ErrNotFound)
	require.ErrorIs(t, err, driver.ErrCreateAgain)
	drivertest.Launch(t, ctx, r, spec) // the next attempt
	require.Equal(t, 3, drivertest.Await(t, ctx, r, spec.Name).Code)
}

func TestDockerIsolation(t *testing.T) {
	t.Parallel()
	r, _ := newBridged(t)
	ctx := t.Context()
	server := dockerSpec("listen", "8080", "address", "print", "ready", "forever")
	drivertest.Launch(t, ctx, r, server)
	drivertest.AwaitLine(t, ctx, r, server.Name, "ready")
	address := drivertest.Logs(t, ctx, r, server.Name, false)[0]
	// The machine reaches it, so the failure of the other container is due to the isolation.
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "8080"), 10*time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	spec := dockerSpec("cannotget", address+":8080")
	drivertest.Launch(t, ctx, r, spec)
	exit := drivertest.Await(t, ctx, r, spec.Name)
	require.Equal(t, 0, exit.Code, "%v", drivertest.Logs(t, ctx, r, spec.Name, false))
}
