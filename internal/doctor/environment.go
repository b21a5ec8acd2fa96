package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/internal/duration"
	"hutong/internal/party"
	"hutong/internal/temporalns"
	"hutong/store"
	"hutong/store/blob"
)

// environmentChecks returns the checks of the services that a party uses.
func environmentChecks(cfg *party.Config) []check {
	checks := []check{
		{"temporal", func(ctx context.Context) Check { return checkTemporal(ctx, cfg) }},
		{"connections", func(context.Context) Check { return checkConnections(cfg) }},
		{"database", func(ctx context.Context) Check { return checkDatabase(ctx, cfg) }},
		{"storage", func(ctx context.Context) Check { return checkStorage(ctx, cfg) }},
		{"restore", func(ctx context.Context) Check { return checkRestore(ctx, cfg) }},
		{"clocks", func(ctx context.Context) Check { return checkClocks(ctx, cfg) }},
		{"housekeeping", func(ctx context.Context) Check { return checkRemovals(ctx, cfg) }},
		{"projects", func(ctx context.Context) Check { return checkProjects(ctx, cfg) }},
		{"audit trail", func(ctx context.Context) Check { return checkTrail(ctx, cfg) }},
		{"images", func(ctx context.Context) Check { return checkImages(ctx, cfg) }},
		{"runners", func(ctx context.Context) Check { return checkRunners(ctx, cfg) }},
		{"docker", func(ctx context.Context) Check { return checkDocker(ctx, cfg) }},
		{"isolation", func(ctx context.Context) Check { return checkIsolation(ctx, cfg) }},
		{"capacity", func(ctx context.Context) Check { return checkCapacity(ctx, cfg) }},
	}
	checks = append(checks, notificationChecks(cfg)...)
	if cfg.Runner.K8s.Enabled {
		checks = append(checks, check{"kubernetes",
			func(ctx context.Context) Check { return checkKubernetes(ctx, cfg) }})
	}

	return checks
}

func checkTemporal(ctx context.Context, cfg *party.Config) Check {
	const fixAccess = "see Temporal's log, and check that this party may use the namespace"
	address, namespace := cfg.Temporal.Address, cfg.Temporal.Namespace

	options, err := party.TemporalOptions(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return failed("correct temporal.tls", "%v", err)
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return failed("start Temporal, or correct temporal.address, temporal.tls and temporal.api_key",
			"failed to connect to Temporal at %s: %v", address, err)
	}
	defer c.Close()

	described, err := c.WorkflowService().DescribeNamespace(ctx,
		&workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	var missing *serviceerror.NamespaceNotFound
	if errors.As(err, &missing) {
		return failed(fixMigrate, "Temporal at %s has no namespace %s", address, namespace)
	}
	if err != nil {
		return failed(fixAccess, "failed to describe namespace %s: %v", namespace, err)
	}

	attributes, err := c.OperatorService().ListSearchAttributes(ctx,
		&operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return failed(fixAccess, "failed to list the search attributes of namespace %s: %v", namespace, err)
	}
	required := temporalns.SearchAttributes()
	for _, name := range slices.Sorted(maps.Keys(required)) {
		if attributes.GetCustomAttributes()[name] != required[name] {
			return failed(fixMigrate, "namespace %s has no search attribute %s", namespace, name)
		}
	}

	queue, err := c.DescribeTaskQueue(ctx, activities.ControlQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return failed("see Temporal's log", "failed to describe task queue %s: %v", activities.ControlQueue,
			err)
	}
	if len(queue.GetPollers()) == 0 {
		return warning("start hutong worker with this configuration",
			"Temporal at %s answers, but the party's control worker is not running: no worker polls task "+
				"queue %s of namespace %s",
			address, activities.ControlQueue, namespace)
	}

	kept := described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
	if needed := cfg.HistoryRetention(); kept < needed {
		return warning(fixMigrate+", or set the namespace's retention",
			"namespace %s keeps histories for %s, but results are kept for %s (jobs.retention)",
			namespace, duration.Format(kept), duration.Format(needed))
	}
	return ok("Temporal at %s answers; namespace %s keeps histories for %s; %d control worker(s) online",
		address, namespace, duration.Format(kept), len(queue.GetPollers()))
}

// checkConnections checks who could read what goes to services of other machines. security.mode strict
// refuses to start with the same findings, except that it does not demand encryption in Temporal.
func checkConnections(cfg *party.Config) Check {
	if problems := party.UnsafeServices(cfg); len(problems) > 0 {
		var what, remedies []string
		for _, p := range problems {
			what, remedies = append(what, p.Field+": "+p.What), append(remedies, p.Remedy)
		}
		return failed(strings.Join(remedies, "; "), "%s", strings.Join(what, "; "))
	}
	encryption := cfg.Temporal.Encryption
	if !party.IsHere(cfg.Temporal.Address) && encryption.KeysDir == "" && len(encryption.Keys) == 0 {
		return warning(
			"make a key with hutong key create --use DIR, and set temporal.encryption.keys_dir to DIR",
			"the operators of Temporal at %s can read the parameters and failures of all jobs",
			cfg.Temporal.Address)
	}
	return ok("services of other machines are verified, and what goes to Temporal is encrypted or stays here")
}

// checkRunners checks that the party has online runners which poll their task queues.
func checkRunners(ctx context.Context, cfg *party.Config) Check {
	db, refused := openDatabase(ctx, cfg)
	if refused != nil {
		return *refused
	}
	defer func() { _ = db.Close() }()

	runners, err := db.Runners(ctx, activities.RunnerSilentAfter)
	if err != nil {
		return failed(fixDatabase, "failed to read the table of runners: %v", err)
	}
	if len(runners) == 0 {
		return warning("start hutong worker on a machine with Docker or with programs in "+
			"runner.process.allow",
			"no runner of this party is online (no heartbeat in the last minute); tasks will wait")
	}

	options, err := party.TemporalOptions(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return failed("correct temporal.tls", "%v", err)
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return failed("see the check temporal", "failed to connect to Temporal: %v", err)
	}
	defer c.Close()

	for _, r := range runners {
		name := activities.TaskQueueOfRunner(r.RunnerID)
		queue, err := c.DescribeTaskQueue(ctx, name, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
		if err != nil {
			return failed("see Temporal's log", "failed to describe task queue %s: %v", name, err)
		}
		if len(queue.GetPollers()) == 0 {
			return failed("see the worker's log on that machine: it reaches the database, but not Temporal",
				"runner %s sends heartbeats, but does not poll its task queue", r.RunnerID)
		}
	}

	ready := slices.DeleteFunc(slices.Clone(runners), func(r store.Runner) bool { return r.Draining })
	if len(ready) == 0 {
		return warning("find a runner with hutong runner list, then run hutong runner undrain RUNNER",
			"all %d runner(s) are draining; tasks will wait", len(runners))
	}

	return ok("%d runner(s) ready, %d draining", len(ready), len(runners)-len(ready))
}

// missingFile reports whether the URL's file does not exist, and returns its path. Opening it would create
// it, maybe owned by another user than the party's.
func missingFile(address, scheme string) (path string, missing bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != scheme {
		return "", false
	}
	path = filepath.FromSlash(u.Path)
	_, err = os.Stat(path)

	return path, errors.Is(err, fs.ErrNotExist)
}

// checkFolderOf checks the free space of the disk that holds a URL's file or folder, if it has the scheme.
func checkFolderOf(address, scheme string) Check {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != scheme {
		return ok("not on a disk of this machine")
	}
	return checkSpace(filepath.FromSlash(u.Path))
}

func checkDatabase(ctx context.Context, cfg *party.Config) Check {
	const fix = "start the database, or correct database.url (host, port, user, password, name, sslmode)"
	if path, missing := missingFile(cfg.Database.URL.Reveal(), "sqlite"); missing {
		return failed(fixMigrate, "database %s does not exist", path)
	}

	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		return failed(fix, "%v", err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Ping(ctx); err != nil {
		return failed(fix, "%v", err)
	}
	if err := db.CheckSchema(ctx); err != nil {
		return failed(fixMigrate+", using the newest binary", "%v", err)
	}

	if space := checkFolderOf(cfg.Database.URL.Reveal(), "sqlite"); space.State != OK {
		return space
	}
	return ok("the database answers and has this binary's schema")
}

func checkStorage(ctx context.Context, cfg *party.Config) Check {
	if path, missing := missingFile(cfg.Storage.URL.Reveal(), "file"); missing {
		return warning(fixCreate, "%s does not exist; the party creates it when it starts", path)
	}

	const fix = "start the storage, or correct storage.url; its user must be able to write, read, list and " +
		"delete"
	blobs, err := cfg.OpenStorage(ctx)
	if err != nil {
		return failed(fix, "%v", err)
	}
	text := rand.Text()
	prefix := "doctor-" + text
	key := prefix + "/probe"
	defer func() { _ = blobs.Delete(context.WithoutCancel(ctx), key) }()

	if err := blobs.Put(ctx, key, strings.NewReader(text)); blob.IsDiskFull(err) {
		return failed("free space on the disk of the storage", "failed to write a probe object: %v", err)
	} else if err != nil {
		return failed(fix, "failed to write a probe object: %v", err)
	}
	r, err := blobs.Get(ctx, key)
	if err != nil {
		return failed(fix, "failed to read the probe object: %v", err)
	}
	got, err := io.ReadAll(r)
	_ = r.Close()
	if err != nil {
		return failed(fix, "failed to read the probe object: %v", err)
	}
	if string(got) != text {
		return failed(fix, "the probe object differs from what was written")
	}
	list, err := blobs.List(ctx, prefix)
	if err != nil {
		return failed(fix, "failed to list the probe object: %v", err)
	}
	if len(list) != 1 {
		return failed(fix, "the probe object is not listed")
	}
	if err := blobs.Delete(ctx, key); err != nil {
		return failed(fix, "failed to delete the probe object: %v", err)
	}

	if space := checkFolderOf(cfg.Storage.URL.Reveal(), "file"); space.State != OK {
		return space
	}
	return ok("a probe object was written, read, listed and deleted")
}

func checkDocker(ctx context.Context, cfg *party.Config) Check {
	o := cfg.Runner.Docker
	if o.Enabled == party.SwitchOff && len(cfg.Runner.Process.Allow) == 0 && !cfg.Runner.K8s.Enabled {
		return warning("to run tasks here, set runner.docker.enabled to auto, or list programs in "+
			"runner.process.allow",
			"off, and so is the process driver: hutong worker can't start here")
	}
	if o.Enabled == party.SwitchOff {
		return ok("off")
	}

	d, err := cfg.NewDocker()
	if err == nil {
		defer func() { _ = d.Close() }()
		_, err = d.RunnerID(ctx)
	}

	const fix = "start Docker and give the party's user access to its socket (group docker), " +
		"or set runner.docker.enabled to false"
	switch {
	case err == nil:
		return ok("Docker Engine answers")
	case o.Enabled == party.SwitchOn || len(cfg.Runner.Process.Allow) == 0:
		return failed(fix, "failed to connect to Docker Engine, and this runner has no other driver: %v", err)
	}

	return warning(fix, "failed to connect to Docker Engine, so only the process driver runs here: %v", err)
}
