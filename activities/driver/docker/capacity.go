package docker

import (
	"context"
	"os"

	"github.com/docker/docker/api/types/system"

	"hutong/activities/driver"
	"hutong/bfia"
)

// Capacity returns the resources that Docker Engine reports for its machine. If the data directory of Docker
// Engine is on this machine, it adds the size of that file system, and applies the limits of the outermost
// cgroup that this process sees. That cgroup belongs to a container around both this process and Docker
// Engine.
func (d *Driver) Capacity(ctx context.Context) (driver.Capacity, error) {
	info, err := d.calls.Info(ctx)
	if err != nil {
		return driver.Capacity{}, driver.WrapError("get the capacity of Docker Engine", "", classify(err))
	}

	return capacityOf(info)
}

func capacityOf(info system.Info) (driver.Capacity, error) {
	c := driver.Capacity{Resources: bfia.Resources{CPUMilli: int64(info.NCPU) * 1000, Memory: info.MemTotal}}
	if stat, err := os.Stat(info.DockerRootDir); err != nil || !stat.IsDir() {
		return c, nil
	}

	c.Limit(driver.CgroupLimits("/", "/"))
	var err error
	c.Disk, c.DiskFree, err = driver.DiskSpace(info.DockerRootDir)

	return c, err
}
