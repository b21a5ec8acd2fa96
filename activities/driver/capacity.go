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

	"golang.org/x/sys/unix"
)

// Capacity is what a host has for runs; 0 is not known.
type Capacity struct {
	CPUMilli int64 // thousandths of a core
	Memory   int64 // bytes
	Disk     int64 // bytes: what is free, and what is used already
	// DiskFree is what is free of Disk now.
	DiskFree int64
}

// Machine is what this machine has, as far as the control groups of this process let it go, and the size of the file system
// under a folder.
func Machine(dir string) (Capacity, error) { return machine("/", dir) }

// machine is the capacity of a machine whose /proc and /sys are under root.
func machine(root, dir string) (Capacity, error) {
	c := Capacity{CPUMilli: int64(runtime.NumCPU()) * 1000}
	info, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return c, fmt.Errorf("reading how much memory this machine has: %w", err)
	}
	if c.Memory, err = memTotal(string(info)); err != nil {
		return c, err
	}
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("reading this process's control groups: %w", err)
	}
	for _, group := range controlGroups(string(groups)) {
		c.Limit(CgroupLimits(root, group))
	}
	c.Disk, c.DiskFree, err = DiskSpace(dir)
	return c, err
}

// bound lowers a capacity to limits, of which 0 is none.
func (c *Capacity) Limit(cpuMilli, memory int64) {
	if cpuMilli > 0 {
		c.CPUMilli = min(c.CPUMilli, cpuMilli)
	}
	if memory > 0 {
		c.Memory = min(c.Memory, memory)
	}
}

// memTotal reads MemTotal of /proc/meminfo, in bytes.
func memTotal(info string) (int64, error) {
	for line := range strings.Lines(info) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil || kib <= 0 || kib > math.MaxInt64>>10 {
				return 0, fmt.Errorf("the machine's memory can't be told: %q", strings.TrimSpace(line))
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("the machine's memory can't be told: /proc/meminfo has no MemTotal")
}

// controlGroups are the paths of a process's control groups, /proc/self/cgroup, and of all that they are in.
func controlGroups(text string) []string {
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
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && strings.HasPrefix(parts[2], "/") {
			add(path.Clean(parts[2]))
		}
	}
	return groups
}

// CgroupLimits are the limits of CPU and memory of one control group, of either version, under root; 0 is none.
func CgroupLimits(root, group string) (cpuMilli, memory int64) {
	read := func(controller, file string) string {
		b, err := os.ReadFile(filepath.Join(root, "sys/fs/cgroup", controller, filepath.FromSlash(group), file))
		if err != nil {
			return "" // there is no such group, or it has no limit of that kind
		}
		return strings.TrimSpace(string(b))
	}
	if quota, period, ok := strings.Cut(read("", "cpu.max"), " "); ok {
		cpuMilli = share(quota, period)
	} else {
		cpuMilli = share(read("cpu", "cpu.cfs_quota_us"), read("cpu", "cpu.cfs_period_us"))
	}
	text := read("", "memory.max")
	if text == "" {
		text = read("memory", "memory.limit_in_bytes") // no limit is a number beyond every machine's memory
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		memory = n
	}
	return cpuMilli, memory
}

// share is the CPU that a quota of each period allows, in thousandths of a core; 0 for "max" and -1, which are no limit.
func share(quota, period string) int64 {
	q, err := strconv.ParseInt(quota, 10, 64)
	p, err2 := strconv.ParseInt(period, 10, 64)
	if err != nil || err2 != nil || q <= 0 || p <= 0 || q > math.MaxInt64/1000 {
		return 0
	}
	return max(q*1000/p, 1)
}

// disk is the size of the file system that a folder is on, without what is kept for root, and what is free of it.
func DiskSpace(dir string) (size, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("asking for the disk under %s: %w", dir, err)
	}
	block := int64(s.Bsize)
	return (int64(s.Blocks) - int64(s.Bfree) + int64(s.Bavail)) * block, int64(s.Bavail) * block, nil
}
