package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/internal/party"
)

// What a task of an ordinary job asks for, in job_params' resources, or uses if it asks for nothing.
const (
	usualCPUMilli = 1000
	usualMemory   = 2 << 30
	usualDisk     = 5 << 30
)

// capacity tells what the machine offers to tasks, and whether that is enough for one.
func capacity(ctx context.Context, cfg *party.Config) Check {
	has, of, err := machineCapacity(ctx, cfg)
	if err != nil {
		return warning("see what is said of docker; else give runner.cpu, runner.memory and runner.disk", "what tasks may use here can't be told: %v", err)
	}
	offers := cfg.Runner.Offered(has)
	found := []string{fmt.Sprintf("%d slot(s), %s core(s), %s GiB memory, %s GiB disk of %s, %s GiB of it free", cfg.Runner.Slots,
		known(float64(offers.CPUMilli)/1000), known(gib(offers.Memory)), known(gib(offers.Disk)), of, known(gib(has.DiskFree)))}
	var mend string
	lacks := func(what, do string) { found, mend = append(found, what), do }
	for _, r := range []struct {
		name                string
		offers, has, usual  int64
		unit                func(int64) float64
		field, measure, buy string
	}{
		{"disk", offers.Disk, has.Disk, usualDisk, gib, "runner.disk", "GiB", "a larger disk"},
		{"memory", offers.Memory, has.Memory, usualMemory, gib, "runner.memory", "GiB", "more memory"},
		{"CPU", offers.CPUMilli, has.CPUMilli, usualCPUMilli, func(n int64) float64 { return float64(n) / 1000 }, "runner.cpu", "core(s)", "more cores"},
	} {
		switch {
		case r.offers == 0:
			lacks(fmt.Sprintf("how much %s there is is not known, so what jobs ask for bounds nothing", r.name), "give "+r.field)
		case r.has > 0 && r.offers > r.has:
			lacks(fmt.Sprintf("%s is %.3g, and the machine has %.3g", r.field, r.unit(r.offers), r.unit(r.has)), "lower "+r.field)
		case r.offers < r.usual:
			lacks(fmt.Sprintf("a task commonly asks for %.3g %s of %s; jobs that do are refused here", r.unit(r.usual), r.measure, r.name), "run tasks where there is "+r.buy+", or raise "+r.field)
		}
	}
	if has.Disk > 0 && has.DiskFree < lowSpace && !cfg.Runner.K8s.Enabled { // of a cluster it is not known
		lacks("its disk is nearly full", "make room on the disk of "+of+": docker image prune, old data")
	}
	if mend != "" {
		return warning(mend, "%s", strings.Join(found, "; "))
	}
	return ok("%s", found[0])
}

// machineCapacity is what the device that names the host has, and whose it is. It makes nothing.
func machineCapacity(ctx context.Context, cfg *party.Config) (has driver.Capacity, of string, err error) {
	if cfg.Runner.K8s.Enabled {
		k, err := cfg.Runner.K8s.Open(cfg.NodeID)
		if err != nil {
			return has, "", err
		}
		has, err = k.Capacity(ctx)
		return has, "Kubernetes", err
	}
	o := cfg.Runner.Docker
	if o.Enabled != party.SwitchOff {
		d, err := docker.New(docker.Options{NodeID: cfg.NodeID, Network: o.Network, HostNetwork: o.HostNetwork, PartyHost: o.PartyHost})
		if err != nil {
			return has, "", err
		}
		defer func() { _ = d.Close() }()
		has, err = d.Capacity(ctx)
		if err == nil || len(cfg.Runner.Process.Allow) == 0 {
			return has, "Docker", err
		}
	}
	dir := cfg.DataDir
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir) // the party makes the rest when it starts
	}
	has, err = driver.Machine(dir)
	return has, "data_dir", err
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

// known is an amount that may not be known.
func known(n float64) string {
	if n == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.3g", n)
}
