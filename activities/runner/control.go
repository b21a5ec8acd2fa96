package runner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
)

// containerControlPort is the one that the protocol names as the usual, for a run that has an address of its own.
const containerControlPort = 10086

// ControlPort is the usual port where containers have addresses of their own, and a free one on the host's network.
func (d *Docker) ControlPort() (int, error) {
	if d.opts.HostNetwork {
		return freePort()
	}
	return containerControlPort, nil
}

// Address is the container's own, or the host's.
func (d *Docker) Address(ctx context.Context, name string) (string, error) {
	if d.opts.HostNetwork {
		return loopback, nil
	}
	address, err := d.address(ctx, name)
	return address, opError("find the address of", name, err)
}

func (d *Docker) address(ctx context.Context, name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	c, err := d.find(ctx, name, name)
	if err != nil {
		return "", err
	}
	for _, n := range c.NetworkSettings.Networks {
		if n.IPAddress != "" {
			return n.IPAddress, nil
		}
	}
	return "", fmt.Errorf("it has none: %w", ErrNotFound) // it does not run
}

// ControlPort is a free port of the host.
func (p *Process) ControlPort() (int, error) { return freePort() }

// Address is the host's own.
func (p *Process) Address(context.Context, string) (string, error) { return loopback, nil }

const loopback = "127.0.0.1"

// The ports that runs on the host's network are given: below those that systems hand out by themselves, so that hardly
// anybody takes one before its run listens.
const firstPort, lastPort = 12000, 32000

// freePort finds a port of the host on which nothing listens now. It is any of many, since nothing keeps it free.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}
