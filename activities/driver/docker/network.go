package docker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"hutong/activities/driver"
)

// EnsureNetwork creates the party's network if it does not exist. It returns the address at which its
// containers reach the machine, where the party must listen. On the host network that is 127.0.0.1. Create
// calls it on demand.
func (d *Driver) EnsureNetwork(ctx context.Context) (gateway netip.Addr, err error) {
	d.forgetNetwork()
	info, err := d.ensureNetwork(ctx)

	return info.gateway, driver.WrapError("create the network "+d.opts.Network, "", err)
}

func (d *Driver) forgetNetwork() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.network = nil
}

func (d *Driver) ensureNetwork(ctx context.Context) (networkInfo, error) {
	if d.opts.HostNetwork {
		return networkInfo{id: hostNetwork, gateway: netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.network != nil {
		return *d.network, nil
	}

	unlock, err := d.locks.Lock(ctx, "network "+d.opts.Network)
	if err != nil {
		return networkInfo{}, err
	}
	defer unlock()

	found, err := d.findNetwork(ctx)
	if err == nil && !d.named && len(networkDeviations(found)) > 0 {
		err = d.replaceNetwork(ctx, found)
	}
	if errors.Is(err, driver.ErrNotFound) {
		if err = d.createNetwork(ctx); err == nil {
			found, err = d.findNetwork(ctx)
		}
	}
	if err != nil {
		return networkInfo{}, err
	}

	gateway, err := gatewayOf(found)
	if err != nil {
		return networkInfo{}, err
	}
	d.network = &networkInfo{id: found.ID, gateway: gateway, bridge: bridgeOf(found),
		internal: found.Internal}
	if deviations := networkDeviations(found); len(deviations) > 0 {
		slog.WarnContext(ctx, "the network that runner.docker.network names isolates containers less than one "+
			"that Hutong creates", "node_id", d.opts.NodeID, "network", d.opts.Network, "deviations",
			strings.Join(deviations, "; "))
	}

	return *d.network, nil
}

// findNetwork finds the party's network, by its name and label.
//
// Docker Engine allows several networks of one name. Without a common lock, such as from two machines that
// share a remote Docker Engine, several can be created at once. Everybody picks the oldest one with the
// party's label and removes the others with that label. A container that was created on one of those fails to
// start and is removed, and the caller's next attempt creates it on the right one. A network without the
// label is somebody else's: it is left alone.
func (d *Driver) findNetwork(ctx context.Context) (network.Inspect, error) {
	// The filter also matches parts of names.
	list, err := d.calls.NetworkList(ctx, network.ListOptions{
		Filters: filters.NewArgs(filters.Arg("name", d.opts.Network)),
	})
	if err != nil {
		return network.Inspect{}, classify(err)
	}

	var own, foreign []network.Summary
	for _, n := range list {
		switch {
		case n.Name != d.opts.Network:
		case n.Labels[labelNode] == d.opts.NodeID:
			own = append(own, n)
		default:
			foreign = append(foreign, n)
		}
	}
	switch {
	case len(own) == 0 && len(foreign) == 0:
		return network.Inspect{}, driver.ErrNotFound
	case len(own) == 0:
		return network.Inspect{}, driver.NonRetryablef(
			"the network %s (id %.12s) was not created by Hutong for node %s: remove it with "+
				"'docker network rm %.12[2]s', or give another name as runner.docker.network",
			d.opts.Network, foreign[0].ID, d.opts.NodeID)
	}

	slices.SortFunc(own, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range foreign {
		if _, known := d.foreign.LoadOrStore(n.ID, true); !known {
			slog.WarnContext(ctx,
				"another network has the name of the party's network; Hutong does not use it",
				"node_id", d.opts.NodeID, "network", d.opts.Network, "foreign", n.ID, "own", own[0].ID)
		}
	}
	for _, other := range own[1:] {
		// It may be in use, or gone already. Both are fine.
		_ = d.calls.NetworkRemove(ctx, other.ID)
	}

	return own[0], nil
}

const (
	// hostNetwork is the id and mode of the machine's own network.
	hostNetwork = "host"

	optionICC    = "com.docker.network.bridge.enable_icc"
	optionBridge = "com.docker.network.bridge.name"
)

// bridgePrefix begins the names of the interfaces of parties' networks.
const bridgePrefix = "ht-"

// bridgeName returns the name of the interface of the party's network. It stays the same if the network is
// created again, so that rules of a firewall still match. Linux allows 15 characters.
func (d *Driver) bridgeName() string {
	sum := sha256.Sum256([]byte(d.opts.Network))

	return fmt.Sprintf("%s%x", bridgePrefix, sum[:6])
}

// createNetwork creates the party's network. Its containers reach the machine at the gateway's address, and
// neither other networks nor each other.
func (d *Driver) createNetwork(ctx context.Context) error {
	_, err := d.calls.NetworkCreate(ctx, d.opts.Network, network.CreateOptions{
		Driver:   "bridge",
		Internal: true,
		Labels:   map[string]string{labelNode: d.opts.NodeID},
		Options:  map[string]string{optionICC: "false", optionBridge: d.bridgeName()},
	})
	if cerrdefs.IsConflict(err) {
		return nil // another process was faster
	}

	return classify(err)
}

// replaceNetwork removes the party's network because it isolates containers too little, so that it is created
// again. It returns ErrNotFound once the network is gone.
func (d *Driver) replaceNetwork(ctx context.Context, found network.Inspect) error {
	slog.WarnContext(ctx, "replacing the party's network, which isolates containers too little",
		"node_id", d.opts.NodeID, "network", d.opts.Network, "deviations",
		strings.Join(networkDeviations(found), "; "))
	if err := d.calls.NetworkRemove(ctx, found.ID); err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("the network %s isolates containers too little (%s) and is in use: stop its containers, "+
			"then run 'docker network rm %.12s': %w", d.opts.Network,
			strings.Join(networkDeviations(found), "; "), found.ID, classify(err))
	}

	return driver.ErrNotFound
}

// networkDeviations returns how a network isolates containers less than one that createNetwork creates.
func networkDeviations(n network.Inspect) (deviations []string) {
	if !n.Internal {
		deviations = append(deviations, "it is not internal, so containers reach the internet")
	}
	if n.Options[optionICC] != "false" {
		deviations = append(deviations, "containers reach each other ("+optionICC+" is not false)")
	}

	return deviations
}

// bridgeOf returns the name of a network's interface.
func bridgeOf(n network.Inspect) string {
	if name := n.Options[optionBridge]; name != "" {
		return name
	}

	return fmt.Sprintf("br-%.12s", n.ID)
}

// gatewayOf returns the address of the machine on a network. A network may list none, such as one that was
// created with a subnet only: the bridge has it then, or it is the first address of the subnet, which Docker
// Engine takes by default.
func gatewayOf(n network.Inspect) (netip.Addr, error) {
	for _, config := range n.IPAM.Config {
		if addr, err := netip.ParseAddr(config.Gateway); err == nil && addr.Is4() {
			return addr, nil
		}

		// After a restart, Docker Engine returns it as a prefix.
		if prefix, err := netip.ParsePrefix(config.Gateway); err == nil && prefix.Addr().Is4() {
			return prefix.Addr(), nil
		}
	}

	for _, config := range n.IPAM.Config {
		subnet, err := netip.ParsePrefix(config.Subnet)
		if err != nil || !subnet.Addr().Is4() {
			continue
		}
		if addr, found := bridgeAddress(n, subnet); found {
			return addr, nil
		}
		pool := subnet
		if within, err := netip.ParsePrefix(config.IPRange); err == nil && within.Addr().Is4() {
			pool = within
		}
		first := pool.Masked().Addr()
		if first == subnet.Masked().Addr() {
			first = first.Next() // the subnet's own address is no machine's
		}
		return first, nil
	}

	return netip.Addr{}, fmt.Errorf("the network %s has no IPv4 gateway and no IPv4 subnet", n.Name)
}

// bridgeAddress returns the address of the network's bridge in a subnet. This process sees the bridge only if
// it runs on the machine of Docker Engine, outside of a container.
func bridgeAddress(n network.Inspect, subnet netip.Prefix) (netip.Addr, bool) {
	bridge, err := net.InterfaceByName(bridgeOf(n))
	if err != nil {
		return netip.Addr{}, false
	}
	addresses, err := bridge.Addrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil && subnet.Contains(prefix.Addr()) {
			return prefix.Addr(), true
		}
	}

	return netip.Addr{}, false
}

// RemoveNetwork removes the party's network. Containers on it must be removed first.
func (d *Driver) RemoveNetwork(ctx context.Context) error {
	d.forgetNetwork()
	if d.opts.HostNetwork {
		return nil
	}

	found, err := d.findNetwork(ctx)
	if err == nil {
		err = classify(d.calls.NetworkRemove(ctx, found.ID))
	}
	if err == nil {
		removeGuard(networkInfo{bridge: bridgeOf(found)})
	}
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}

	return driver.WrapError("remove the network "+d.opts.Network, "", err)
}
