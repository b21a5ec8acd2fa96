package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

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
		return networkInfo{id: "host", gateway: netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
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
	d.network = &networkInfo{id: found.ID, gateway: gateway}

	return *d.network, nil
}

// findNetwork finds the party's network.
//
// Docker Engine allows several networks of one name. Without a common lock, such as from two machines that
// share a remote Docker Engine, several can be created at once. Everybody picks the oldest one and removes
// the others. A container that was created on one of the others fails to start and is removed, and the
// caller's next attempt creates it on the right one.
func (d *Driver) findNetwork(ctx context.Context) (network.Inspect, error) {
	// The filter also matches parts of names.
	list, err := d.calls.NetworkList(ctx, network.ListOptions{
		Filters: filters.NewArgs(filters.Arg("name", d.opts.Network)),
	})
	if err != nil {
		return network.Inspect{}, classify(err)
	}

	list = slices.DeleteFunc(list, func(n network.Summary) bool { return n.Name != d.opts.Network })
	if len(list) == 0 {
		return network.Inspect{}, driver.ErrNotFound
	}

	slices.SortFunc(list, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range list {
		if n.Labels[labelNode] != d.opts.NodeID {
			return network.Inspect{}, driver.NonRetryablef(
				"the network %s was not created by Hutong for node %s; remove it or configure another name",
				d.opts.Network,
				d.opts.NodeID,
			)
		}
	}

	for _, other := range list[1:] {
		// It may be in use, or gone already. Both are fine.
		_ = d.calls.NetworkRemove(ctx, other.ID)
	}

	return list[0], nil
}

func (d *Driver) createNetwork(ctx context.Context) error {
	_, err := d.calls.NetworkCreate(ctx, d.opts.Network, network.CreateOptions{
		Driver: "bridge",
		Labels: map[string]string{labelNode: d.opts.NodeID},
		Options: map[string]string{
			// Containers reach their party and the Internet, but not each other.
			"com.docker.network.bridge.enable_icc": "false",
		},
	})
	if cerrdefs.IsConflict(err) {
		return nil // another process was faster
	}

	return classify(err)
}

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

	return netip.Addr{}, fmt.Errorf("the network %s has no IPv4 gateway", n.Name)
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
	if errors.Is(err, driver.ErrNotFound) {
		return nil
	}

	return driver.WrapError("remove the network "+d.opts.Network, "", err)
}
