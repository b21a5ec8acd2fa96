package docker

import (
	"context"
	"fmt"

	"hutong/activities/driver"
)

// ControlPort returns the default port where containers have addresses of their own, and a free port on the
// host network.
func (d *Driver) ControlPort() (int, error) {
	if d.opts.HostNetwork {
		return driver.FreePort()
	}

	return driver.ContainerControlPort, nil
}

// Address returns the container's own address, or the loopback address on the host network.
func (d *Driver) Address(ctx context.Context, name string) (string, error) {
	if d.opts.HostNetwork {
		return driver.Loopback, nil
	}
	address, err := d.address(ctx, name)

	return address, driver.WrapError("find the address of", name, err)
}

func (d *Driver) address(ctx context.Context, name string) (string, error) {
	if err := driver.CheckName(name); err != nil {
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

	return "", fmt.Errorf("it does not run and has no address: %w", driver.ErrNotFound)
}
