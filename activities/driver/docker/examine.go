package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/system"

	"hutong/activities/driver"
)

// Isolation describes how Docker Engine isolates this party's containers.
type Isolation struct {
	// Runtime is the name of the OCI runtime.
	Runtime string
	// UserNamespace says that root in a container is another user of the machine (userns-remap, or a rootless
	// Docker Engine).
	UserNamespace bool
	// Deviations say what isolates containers less than the profile demands, each with what to do.
	Deviations []Deviation
}

// Deviation is one way in which containers are isolated less than they should be.
type Deviation struct{ Problem, Fix string }

// Examine compares Docker Engine and the party's network with what the container profile demands. It
// changes nothing, also if the network does not exist. It returns a non-retryable error if Docker Engine
// lacks the configured runtime, so that no container can start.
func (d *Driver) Examine(ctx context.Context) (Isolation, error) {
	info, err := d.calls.Info(ctx)
	if err != nil {
		return Isolation{}, driver.WrapError("examine Docker Engine", "", classify(err))
	}
	found := Isolation{Runtime: info.DefaultRuntime,
		UserNamespace: hasOption(info, "userns") || hasOption(info, "rootless"),
		Deviations:    engineDeviations(info)}
	if d.opts.Runtime != "" {
		found.Runtime = d.opts.Runtime
		if _, known := info.Runtimes[d.opts.Runtime]; !known {
			return found, driver.NonRetryablef("Docker Engine has no runtime %s, only %s", d.opts.Runtime,
				strings.Join(slices.Sorted(maps.Keys(info.Runtimes)), ", "))
		}
	}
	network, err := d.examineNetwork(ctx)
	found.Deviations = append(found.Deviations, network...)

	return found, err
}

// engineDeviations returns what Docker Engine's own defaults lack.
func engineDeviations(info system.Info) (deviations []Deviation) {
	add := func(fix, problem string) {
		deviations = append(deviations, Deviation{Problem: problem, Fix: fix})
	}
	switch profile := securityOption(info, "seccomp"); {
	case profile == "":
		add("use a kernel and a Docker Engine with seccomp", "system calls are not filtered (no seccomp)")
	case strings.Contains(profile, "unconfined"):
		add("remove seccomp-profile from Docker Engine's configuration",
			"system calls are not filtered (seccomp-profile is unconfined)")
	}
	if !hasOption(info, "apparmor") && !hasOption(info, "selinux") {
		add("enable AppArmor, or SELinux with selinux-enabled in Docker Engine's configuration",
			"no mandatory access control (AppArmor or SELinux) confines containers")
	}

	return deviations
}

// hasOption reports whether Docker Engine names a security option.
func hasOption(info system.Info, name string) bool { return securityOption(info, name) != "" }

// securityOption returns a security option with its values, such as "name=seccomp,profile=default".
func securityOption(info system.Info, name string) string {
	for _, option := range info.SecurityOptions {
		if first, _, _ := strings.Cut(option, ","); first == "name="+name {
			return option
		}
	}

	return ""
}

func (d *Driver) examineNetwork(ctx context.Context) (deviations []Deviation, err error) {
	if d.opts.HostNetwork {
		return []Deviation{{Problem: "containers use the machine's network and reach all that listens on it",
			Fix: "set runner.docker.host_network to false"}}, nil
	}
	n, err := d.findNetwork(ctx)
	if errors.Is(err, driver.ErrNotFound) {
		return nil, nil // the party creates it
	}
	if err != nil {
		return nil, driver.WrapError("examine the network "+d.opts.Network, "", err)
	}
	for _, problem := range networkDeviations(n) {
		deviations = append(deviations, Deviation{Problem: "network " + d.opts.Network + ": " + problem,
			Fix: "leave runner.docker.network empty"})
	}
	if !n.Internal {
		return deviations, nil
	}
	const fix = "run the runner's worker as root, or give it CAP_NET_ADMIN (docs/operators/containers.md)"
	switch guarded, err := isGuarded(bridgeOf(n)); {
	case errors.Is(err, ErrNoGuard):
		deviations = append(deviations, Deviation{Fix: fix + ", and hutong doctor too",
			Problem: "it is unknown whether containers reach the machine's other ports: this user may not read " +
				"the machine's rules"})
	case err != nil:
		deviations = append(deviations, Deviation{Fix: "use a kernel with nftables",
			Problem: fmt.Sprintf("containers reach all ports of the machine: %v", err)})
	case !guarded:
		deviations = append(deviations, Deviation{Fix: fix,
			Problem: "containers reach all ports of the machine while no worker closes them"})
	}

	return deviations, nil
}
