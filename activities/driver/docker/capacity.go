package docker

import (
	"context"
	"os"

	"hutong/activities/driver"
)

// Capacity is what the Docker Engine tells of its machine, and the size of the file system under its data, where that is
// this machine's: an Engine elsewhere tells no disk. An Engine whose data lie here is also bound by the control groups
// that this process sees as the outermost, those of a container that holds both.
func (d *Driver) Capacity(ctx context.Context) (driver.Capacity, error) {
	info, err := d.calls.Info(ctx)
	if err != nil {
		return driver.Capacity{}, driver.WrapError("ask the Docker Engine for its capacity", "", classify(err))
	}
	c := driver.Capacity{CPUMilli: int64(info.NCPU) * 1000, Memory: info.MemTotal}
	if stat, err := os.Stat(info.DockerRootDir); err != nil || !stat.IsDir() {
		return c, nil
	}
	c.Limit(driver.CgroupLimits("/", "/"))
	c.Disk, c.DiskFree, err = driver.DiskSpace(info.DockerRootDir)
	return c, err
}
