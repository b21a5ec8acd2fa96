package doctor

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hutong/activities/driver/docker"
	"hutong/internal/party"
	"hutong/store"
)

// checkIsolation names each way in which this machine isolates Docker containers less than it should.
func checkIsolation(ctx context.Context, cfg *party.Config) Check {
	if cfg.Runner.Docker.Enabled == party.SwitchOff {
		return ok("off")
	}
	d, err := cfg.NewDocker()
	if err == nil {
		defer func() { _ = d.Close() }()
		_, err = d.RunnerID(ctx)
	}
	if err != nil {
		return ok("Docker Engine does not answer; see the check docker")
	}
	found, err := d.Examine(ctx)
	if err != nil {
		return failed("add the runtime to Docker Engine's configuration (runtimes), or correct "+
			"runner.docker.runtime and runner.docker.network", "%v", err)
	}
	deviations := found.Deviations
	if !found.UserNamespace {
		deviations = append(deviations, rootDeviations(ctx, cfg)...)
	}
	deviations = append(deviations, mountDeviations(cfg.Storage.URL.Reveal())...)

	remap := "off"
	if found.UserNamespace {
		remap = "on"
	}
	summary := fmt.Sprintf("runtime %s, userns-remap %s", found.Runtime, remap)
	if len(deviations) == 0 {
		return ok("%s; containers are isolated as docs/operators/containers.md says", summary)
	}
	var problems, fixes []string
	for _, deviation := range deviations {
		problems, fixes = append(problems, deviation.Problem), append(fixes, deviation.Fix)
	}

	return warning(strings.Join(fixes, "; "), "%s; %s", summary, strings.Join(problems, "; "))
}

// rootDeviations names the providers whose containers may run as root of the machine.
func rootDeviations(ctx context.Context, cfg *party.Config) []docker.Deviation {
	if _, missing := missingFile(cfg.Database.URL.Reveal(), "sqlite"); missing {
		return nil
	}
	db, refused := openDatabase(ctx, cfg)
	if refused != nil {
		return nil // another check reports it
	}
	defer func() { _ = db.Close() }()
	providers, err := db.Providers(ctx, store.ProviderFilter{Device: "docker"})
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range providers {
		if p.Allowed.Root {
			names = append(names, p.Name+":"+p.Version)
		}
	}
	if len(names) == 0 {
		return nil
	}

	return []docker.Deviation{{Problem: "containers of " + strings.Join(names, ", ") +
		" may run as root of the machine", Fix: "set userns-remap in Docker Engine's configuration, or run " +
		"hutong provider allow " + names[0] + " none"}}
}

// mountDeviations reports if programs and devices that a container leaves in a storage folder would work.
func mountDeviations(storage string) []docker.Deviation {
	u, err := url.Parse(storage)
	if err != nil || u.Scheme != "file" {
		return nil
	}
	if _, err := os.Stat(u.Path); err != nil {
		return nil // the check storage reports it
	}
	var s unix.Statfs_t
	if err := unix.Statfs(u.Path, &s); err != nil {
		return nil
	}
	var missing []string
	for _, flag := range []struct {
		bit  int64
		name string
	}{{unix.ST_NOSUID, "nosuid"}, {unix.ST_NODEV, "nodev"}} {
		if s.Flags&flag.bit == 0 {
			missing = append(missing, flag.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}

	return []docker.Deviation{{Problem: "the storage " + u.Path + " is on a file system without " +
		strings.Join(missing, ",") + ", so only its folder's mode protects from setuid files in outputs",
		Fix: "mount a file system of its own there, with nosuid,nodev"}}
}
