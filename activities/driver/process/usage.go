package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hutong/activities/driver"
)

// clockTick is the unit of times in /proc/<pid>/stat, see sysconf(3), _SC_CLK_TCK. Linux shows programs 100 a
// second on all architectures that Go supports.
const clockTick = 10 * time.Millisecond

// usageRecord is what a command and its ended children have used. The memory is that of the largest process.
type usageRecord struct {
	CPU        time.Duration
	PeakMemory int64 // bytes
}

// usageOf returns the resources of an ended process, with those of the children for which it has waited.
func usageOf(state *os.ProcessState) *usageRecord {
	if state == nil {
		return nil
	}
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return nil
	}

	return &usageRecord{CPU: state.UserTime() + state.SystemTime(), PeakMemory: usage.Maxrss << 10}
}

// Usage returns what a command has used: at its end what the supervisor has recorded of it, before what the
// kernel has counted so far.
func (p *Driver) Usage(_ context.Context, name string) (driver.Usage, error) {
	usage, err := p.usage(name)

	return usage, driver.WrapError("measure", name, err)
}

func (p *Driver) usage(name string) (driver.Usage, error) {
	if err := driver.CheckName(name); err != nil {
		return driver.Usage{}, err
	}

	f := p.folder(name)
	state, exit, err := f.state()
	if err != nil {
		return driver.Usage{}, err
	}
	if exit.Usage != nil {
		return driver.Usage{CPU: &exit.Usage.CPU, PeakMemory: &exit.Usage.PeakMemory, Final: true}, nil
	}
	pid, alive := f.process()
	if state != driver.Running || !alive {
		return driver.Usage{}, nil
	}
	stat, err := readStat(pid)
	if err != nil {
		return driver.Usage{}, nil // it has just ended
	}
	peak, err := peakMemory(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return driver.Usage{}, nil
	}

	return driver.Usage{CPU: &stat.cpu, PeakMemory: peak}, err
}

// peakMemory returns the largest resident memory of a process so far, or nil of a zombie, which has none.
func peakMemory(pid int) (*int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) {
		value, found := strings.CutPrefix(line, "VmHWM:")
		if !found {
			continue
		}
		number := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB"))
		kib, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/%d/status: %w", pid, err)
		}

		return new(kib << 10), nil
	}

	return nil, nil
}
