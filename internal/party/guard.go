package party

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"hutong/activities/driver/docker"
)

// guardBridge closes this machine's ports to the containers of the party's bridge network, except those at
// which the party serves them, before the first container starts. It repeats that until the party stops,
// because the network may be created again with another address, and a reload of the machine's firewall may
// remove the rules. Without the right to do so, containers run all the same, and hutong doctor reports it.
func (p *Party) guardBridge(ctx context.Context, d *docker.Driver) error {
	if d == nil {
		return nil
	}
	switch removed, err := d.RemoveStaleGuards(ctx); {
	case err != nil && !errors.Is(err, docker.ErrNoGuard):
		p.logger.Warn("failed to remove rules of networks that are gone", "error", err)
	case len(removed) > 0:
		p.logger.Info("removed rules of networks that are gone", "tables", removed)
	}
	if p.cfg.Runner.Docker.HostNetwork {
		return nil
	}
	ports, err := p.cfg.containerPorts()
	if err != nil {
		return err
	}
	err = d.Guard(ctx, ports)
	if errors.Is(err, docker.ErrNoGuard) {
		p.logger.Warn("containers of this party reach all ports of this machine: "+
			"run the worker as root, or give it CAP_NET_ADMIN (docs/operators/containers.md)", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to close the ports of party %s's machine to its containers: %w",
			p.cfg.NodeID, err)
	}

	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.followGuard(ctx, d, ports)
	}()
	p.onStop(func(context.Context) error {
		cancel()
		<-done
		return nil // the rules stay: containers may still run
	})

	return nil
}

func (p *Party) followGuard(ctx context.Context, d *docker.Driver, ports []uint16) {
	gateway, _ := d.EnsureNetwork(ctx)
	ticker := time.NewTicker(bridgeCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		current, err := d.EnsureNetwork(ctx)
		if err != nil {
			continue // Docker Engine may be away for a moment; the check of the bridge logs it
		}
		if guarded, err := d.IsGuarded(ctx); err == nil && guarded && current == gateway {
			continue
		}
		if err := d.Guard(ctx, ports); err != nil && ctx.Err() == nil {
			p.logger.Error("failed to close this machine's ports to containers", "error", err)
			continue
		}
		gateway = current
		p.logger.Warn("closed this machine's ports to containers again", "gateway", gateway)
	}
}

// containerPorts returns the TCP ports at which the party serves containers on its bridge network.
func (c *Config) containerPorts() (ports []uint16, err error) {
	_, text, err := net.SplitHostPort(c.Containers.Listen)
	if err != nil {
		return nil, fmt.Errorf("failed to read the port of containers.listen: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("failed to read the port of containers.listen: %w", err)
	}

	return []uint16{uint16(port)}, nil
}
