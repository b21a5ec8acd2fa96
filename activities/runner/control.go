package runner

import (
	"context"
	"fmt"
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

// freePort finds a port of the host on which nothing listens now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
