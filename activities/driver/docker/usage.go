package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
)

// Usage returns what a running container has used so far. Its cgroup disappears with its last process, so an
// ended container's use is unknown.
func (d *Driver) Usage(ctx context.Context, name string) (driver.Usage, error) {
	usage, err := d.usage(ctx, name)

	return usage, driver.WrapError("measure", name, err)
}

func (d *Driver) usage(ctx context.Context, name string) (driver.Usage, error) {
	if err := driver.CheckName(name); err != nil {
		return driver.Usage{}, err
	}
	c, err := d.find(ctx, name, name)
	if err != nil || !c.State.Running {
		return driver.Usage{}, err
	}

	response, err := d.calls.ContainerStatsOneShot(ctx, c.ID)
	if err != nil {
		if err = classify(err); errors.Is(err, driver.ErrNotFound) {
			return driver.Usage{}, nil // it has ended meanwhile
		}
		return driver.Usage{}, err
	}
	defer func() { _ = response.Body.Close() }()
	var stats container.StatsResponse
	if err := json.NewDecoder(response.Body).Decode(&stats); err != nil {
		return driver.Usage{}, fmt.Errorf("failed to read the statistics: %w", err)
	}
	usage := usageOf(stats)
	if usage.CPU != nil && stats.MemoryStats.MaxUsage == 0 {
		// With cgroup version 2 Docker Engine leaves out the peak, which the kernel has.
		if peak, ok := peakMemory(cgroupRoot, c.ID); ok {
			usage.PeakMemory = &peak
		}
	}

	return usage, nil
}

// usageOf returns the use of resources in Docker Engine's statistics. They are all zero for a container that
// has ended.
func usageOf(stats container.StatsResponse) (usage driver.Usage) {
	if used := stats.CPUStats.CPUUsage.TotalUsage; used > 0 {
		usage.CPU = new(time.Duration(used))
	}
	if peak := max(stats.MemoryStats.MaxUsage, stats.MemoryStats.Usage); peak > 0 {
		usage.PeakMemory = new(int64(peak))
	}

	return usage
}

const cgroupRoot = "/sys/fs/cgroup"

// peakMemory reads the peak of a container's memory from its cgroup of version 2, if this process sees it.
func peakMemory(root, id string) (peak int64, ok bool) {
	for _, group := range []string{"system.slice/docker-" + id + ".scope", "docker/" + id} {
		raw, err := os.ReadFile(filepath.Join(root, group, "memory.peak"))
		if err != nil {
			continue
		}
		peak, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)

		return peak, err == nil
	}

	return 0, false
}
