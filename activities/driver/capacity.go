package driver

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"hutong/bfia"

	"golang.org/x/sys/unix"
)

// Capacity is the amount of resources that a runner has for containers. 0 means unknown.
type Capacity struct {
	bfia.Resources       // Disk is free and used space together
	DiskFree       int64 // the part of Disk that is free now, in bytes
}

// Machine returns the resources of this machine within the limits of this process's cgroups, and the size of
// the file system that holds a folder.
func Machine(dir string) (Capacity, error) { return machine("/", dir) }

// machine returns the capacity of a machine whose /proc and /sys are below root.
func machine(root, dir string) (Capacity, error) {
	c := Capacity{Resources: bfia.Resources{CPUMilli: int64(runtime.NumCPU()) * 1000}}

	info, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return c, fmt.Errorf("failed to read the machine's memory size: %w", err)
	}
	if c.Memory, err = memTotal(string(info)); err != nil {
		return c, err
	}

	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("failed to read this process's cgroups: %w", err)
	}
	for _, group := range cgroups(string(groups)) {
		c.Limit(CgroupLimits(root, group))
	}

	c.Disk, c.DiskFree, err = DiskSpace(dir)

	return c, err
}

// Limit lowers a capacity to limits. 0 means unlimited.
func (c *Capacity) Limit(cpuMilli, memory int64) {
	if cpuMilli > 0 {
		c.CPUMilli = min(c.CPUMilli, cpuMilli)
	}

	if memory > 0 {
		c.Memory = min(c.Memory, memory)
	}
}

// memTotal returns MemTotal of /proc/meminfo in bytes.
func memTotal(info string) (int64, error) {
	for line := range strings.Lines(info) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil || kib <= 0 || kib > math.MaxInt64>>10 {
				return 0, fmt.Errorf("failed to parse the machine's memory size: %q", strings.TrimSpace(line))
			}

			return kib << 10, nil
		}
	}

	return 0, errors.New("failed to read the machine's memory size: /proc/meminfo has no MemTotal")
}

// cgroups returns the paths of a process's cgroups, from /proc/self/cgroup, and of all their ancestors.
func cgroups(text string) []string {
	seen := map[string]bool{}
	var groups []string

	add := func(group string) {
		for {
			if !seen[group] {
				seen[group] = true
				groups = append(groups, group)
			}

			if group == "/" {
				return
			}
			group = path.Dir(group)
		}
	}

	add("/")
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && strings.HasPrefix(parts[2], "/") {
			add(path.Clean(parts[2]))
		}
	}

	return groups
}

// CgroupLimits returns the limits of CPU and memory of one cgroup below root, of version 1 or 2. 0 means
// unlimited.
func CgroupLimits(root, group string) (cpuMilli, memory int64) {
	read := func(controller, file string) string {
		name := filepath.Join(root, "sys/fs/cgroup", controller, filepath.FromSlash(group), file)
		b, err := os.ReadFile(name)
		if err != nil {
			return "" // the cgroup does not exist, or has no limit of that kind
		}

		return strings.TrimSpace(string(b))
	}

	if quota, period, ok := strings.Cut(read("", "cpu.max"), " "); ok {
		cpuMilli = quotaMilli(quota, period)
	} else {
		cpuMilli = quotaMilli(read("cpu", "cpu.cfs_quota_us"), read("cpu", "cpu.cfs_period_us"))
	}

	text := read("", "memory.max")
	if text == "" {
		text = read("memory",
			"memory.limit_in_bytes") // unlimited is a number larger than any machine's memory
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		memory = n
	}

	return cpuMilli, memory
}

// quotaMilli returns the CPU that a quota of each period allows, in thousandths of a core. It returns 0 for
// "max" and -1, which mean unlimited.
func quotaMilli(quota, period string) int64 {
	q, err := strconv.ParseInt(quota, 10, 64)
	p, err2 := strconv.ParseInt(period, 10, 64)
	if err != nil || err2 != nil || q <= 0 || p <= 0 || q > math.MaxInt64/1000 {
		return 0
	}

	return max(q*1000/p, 1)
}

// DiskSpace returns the size of a folder's file system, without the blocks reserved for root, and its free
// space.
func DiskSpace(dir string) (size, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("failed to read the disk space of %s: %w", dir, err)
	}
	block := int64(s.Bsize)

	return (int64(s.Blocks) - int64(s.Bfree) + int64(s.Bavail)) * block, int64(s.Bavail) * block, nil
}
