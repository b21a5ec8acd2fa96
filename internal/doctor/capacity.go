package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hutong/activities/driver"
	"hutong/internal/party"
)

// The resources that a task of a usual job requests, or uses without a request.
const (
	usualCPUMilli = 1000
	usualMemory   = 2 << 30
	usualDisk     = 5 << 30
)

// resource compares the configured amount of a resource with that of the machine and with that of a usual
// task.
type resource struct {
	name                      string
	offered, available, usual int64
	convert                   func(int64) float64
	field, unit, more         string
}

// checkCapacity reports the resources that the runner offers to tasks, and whether they suffice for a usual
// task.
func checkCapacity(ctx context.Context, cfg *party.Config) Check {
	available, source, err := machineCapacity(ctx, cfg)
	if err != nil {
		return warning("see the check docker; otherwise set runner.cpu, runner.memory and runner.disk",
			"failed to read the machine's capacity: %v", err)
	}

	offered := cfg.Runner.Offered(available)
	offer := fmt.Sprintf("%d slot(s), %s core(s), %s GiB memory, %s GiB disk of %s, %s GiB of it free",
		cfg.Runner.Slots, amount(cores(offered.CPUMilli)), amount(gib(offered.Memory)),
		amount(gib(offered.Disk)), source, amount(gib(available.DiskFree)))

	if offered.GPU > 0 {
		offer += fmt.Sprintf(", %d GPU(s)", offered.GPU)
	}
	found := []string{offer}
	var fix string
	report := func(problem, suggestion string) { found, fix = append(found, problem), suggestion }

	for _, r := range []resource{
		{"disk", offered.Disk, available.Disk, usualDisk, gib, "runner.disk", "GiB", "a larger disk"},
		{"memory", offered.Memory, available.Memory, usualMemory, gib, "runner.memory", "GiB", "more memory"},
		{"CPU", offered.CPUMilli, available.CPUMilli, usualCPUMilli, cores, "runner.cpu", "core(s)",
			"more cores"},
	} {
		switch {
		case r.offered == 0:
			report(fmt.Sprintf("the amount of %s is unknown, so requests for it are not limited", r.name),
				"set "+r.field)

		case r.available > 0 && r.offered > r.available:
			report(fmt.Sprintf("%s is %.3g, but the machine has %.3g",
				r.field, r.convert(r.offered), r.convert(r.available)), "lower "+r.field)

		case r.offered < r.usual:
			report(fmt.Sprintf("a usual task requests %.3g %s of %s; this runner rejects such tasks",
				r.convert(r.usual), r.unit, r.name),
				"run tasks on a machine with "+r.more+", or raise "+r.field)
		}
	}

	// A cluster does not report its free disk space.
	if available.Disk > 0 && available.DiskFree < lowSpace && !cfg.Runner.K8s.Enabled {
		report("its disk is nearly full",
			"free space on the disk of "+source+": docker image prune, old data")
	}
	if fix != "" {
		return warning(fix, "%s", strings.Join(found, "; "))
	}

	return ok("%s", found[0])
}

// machineCapacity returns the capacity of the driver that names the runner, and what it was read from. It
// creates nothing.
func machineCapacity(ctx context.Context, cfg *party.Config) (available driver.Capacity, source string,
	err error) {
	if cfg.Runner.K8s.Enabled {
		k, err := cfg.OpenKubernetes()
		if err != nil {
			return available, "", err
		}
		available, err = k.Capacity(ctx)
		return available, "Kubernetes", err
	}

	if cfg.Runner.Docker.Enabled != party.SwitchOff {
		d, err := cfg.NewDocker()
		if err != nil {
			return available, "", err
		}
		defer func() { _ = d.Close() }()
		available, err = d.Capacity(ctx)
		if err == nil || len(cfg.Runner.Process.Allow) == 0 {
			return available, "Docker", err
		}
	}

	// The party creates data_dir when it starts. Until then its nearest existing parent is on the same disk.
	dir := cfg.DataDir
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	available, err = driver.Machine(dir)

	return available, "data_dir", err
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

func cores(milli int64) float64 { return float64(milli) / 1000 }

// amount formats an amount; 0 means an unknown one.
func amount(n float64) string {
	if n == 0 {
		return "unknown"
	}

	return fmt.Sprintf("%.3g", n)
}
