package party

import (
	"context"
	"math"

	"hutong/activities/driver"
)

// Offered returns the capacity that tasks may use: the configured amounts, otherwise those of the machine.
func (c RunnerConfig) Offered(machine driver.Capacity) driver.Capacity {
	if c.CPU > 0 {
		machine.CPUMilli = int64(math.Round(c.CPU * 1000))
	}
	if c.Memory > 0 {
		machine.Memory = int64(c.Memory * (1 << 30))
	}
	if c.Disk > 0 {
		machine.Disk = int64(c.Disk * (1 << 30))
	}
	if len(c.GPUs) > 0 {
		machine.GPU = int64(len(c.GPUs))
	}
	return machine
}

// capacityOf returns a function that reads the capacity from a driver, unless all amounts are configured.
func (c RunnerConfig) capacityOf(d driver.Driver) func(context.Context) (driver.Capacity, error) {
	return func(ctx context.Context) (driver.Capacity, error) {
		if c.CPU > 0 && c.Memory > 0 && c.Disk > 0 && !c.K8s.Enabled { // GPUs are not configured there
			return c.Offered(driver.Capacity{}), nil
		}
		machine, err := d.Capacity(ctx)
		return c.Offered(machine), err
	}
}
