package party

import (
	"context"
	"math"

	"hutong/activities/driver"
)

// Offered is what of a machine's capacity runs may use: what the configuration says, else what there is.
func (c RunnerConfig) Offered(has driver.Capacity) driver.Capacity {
	if c.CPU > 0 {
		has.CPUMilli = int64(math.Round(c.CPU * 1000))
	}
	if c.Memory > 0 {
		has.Memory = int64(c.Memory * (1 << 30))
	}
	if c.Disk > 0 {
		has.Disk = int64(c.Disk * (1 << 30))
	}
	return has
}

// offered asks a device for the capacity, unless the configuration says all of it.
func (c RunnerConfig) offered(device driver.Driver) func(context.Context) (driver.Capacity, error) {
	return func(ctx context.Context) (driver.Capacity, error) {
		if c.CPU > 0 && c.Memory > 0 && c.Disk > 0 {
			return c.Offered(driver.Capacity{}), nil
		}
		has, err := device.Capacity(ctx)
		return c.Offered(has), err
	}
}
