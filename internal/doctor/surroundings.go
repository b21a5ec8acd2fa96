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
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/activities/driver/docker"
	"hutong/internal/party"
	"hutong/internal/temporalns"
	"hutong/store"
	"hutong/store/blob"
)

func surroundings(cfg *party.Config) []check {
	checks := []check{
		{"temporal", func(ctx context.Context) Check { return temporal(ctx, cfg) }},
		{"database", func(ctx context.Context) Check { return database(ctx, cfg) }},
		{"storage", func(ctx context.Context) Check { return storage(ctx, cfg) }},
		{"runners", func(ctx context.Context) Check { return hosts(ctx, cfg) }},
		{"docker", func(ctx context.Context) Check { return checkDocker(ctx, cfg) }},
		{"capacity", func(ctx context.Context) Check { return capacity(ctx, cfg) }},
	}
	if cfg.Runner.K8s.Enabled {
		checks = append(checks, check{"kubernetes", func(ctx context.Context) Check { return cluster(ctx, cfg) }})
	}
	return checks
}

func temporal(ctx context.Context, cfg *party.Config) Check {
	options, err := party.TemporalOptions(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return failed("mend temporal.tls", "%v", err)
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return failed("start Temporal, or mend temporal.address, tls and api_key", "no Temporal answers at %s: %v", cfg.Temporal.Address, err)
	}
	defer c.Close()
	space, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: cfg.Temporal.Namespace})
	var missing *serviceerror.NamespaceNotFound
	if errors.As(err, &missing) {
		return failed("run hutong migrate with this configuration", "Temporal at %s has no namespace %s", cfg.Temporal.Address, cfg.Temporal.Namespace)
	}
	if err != nil {
		return failed("see Temporal's log, and that this party may use the namespace", "namespace %s: %v", cfg.Temporal.Namespace, err)
	}
	there, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: cfg.Temporal.Namespace})
	if err != nil {
		return failed("see Temporal's log, and that this party may use the namespace", "search attributes of %s: %v", cfg.Temporal.Namespace, err)
	}
	for _, name := range slices.Sorted(maps.Keys(temporalns.SearchAttributes())) {
		if there.GetCustomAttributes()[name] != temporalns.SearchAttributes()[name] {
			return failed("run hutong migrate with this configuration", "namespace %s lacks the search attribute %s", cfg.Temporal.Namespace, name)
		}
	}
	queue, err := c.DescribeTaskQueue(ctx, activities.ControlQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return failed("see Temporal's log", "task queue %s: %v", activities.ControlQueue, err)
	}
	if len(queue.GetPollers()) == 0 {
		return warning("start hutong worker with this configuration", "%s answers, but no worker polls the queue %s of namespace %s: the party's control worker is not running",
			cfg.Temporal.Address, activities.ControlQueue, cfg.Temporal.Namespace)
	}
	return ok("%s answers; namespace %s, histories kept for %s, %d worker(s) seen lately", cfg.Temporal.Address, cfg.Temporal.Namespace,
		space.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(), len(queue.GetPollers()))
}

// hosts looks whether those that run tasks are there and take work.
func hosts(ctx context.Context, cfg *party.Config) Check {
	if path, missing := notThere(cfg.Database.URL.Reveal(), "sqlite"); missing {
		return failed("run hutong migrate with this configuration", "there is no database %s", path)
	}
	db, err := store.Open(ctx, cfg.Database.URL.Reveal())
	if err != nil {
		return failed("see what is said of the database", "the table of hosts can't be read: %v", err)
	}
	defer func() { _ = db.Close() }()
	known, err := db.Runners(ctx, time.Now().Add(-time.Minute))
	if err != nil {
		return failed("see what is said of the database", "the table of hosts can't be read: %v", err)
	}
	if len(known) == 0 {
		return warning("start hutong worker on a machine with Docker or with programs in runner.process.allow", "no host of this party was heard of in the last minute; tasks will wait for one")
	}
	options, err := party.TemporalOptions(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return failed("mend temporal.tls", "%v", err)
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return failed("see what is said of temporal", "whether hosts take work can't be asked: %v", err)
	}
	defer c.Close()
	for _, h := range known {
		queue, err := c.DescribeTaskQueue(ctx, activities.TaskQueueOfRunner(h.RunnerID), enumspb.TASK_QUEUE_TYPE_ACTIVITY)
		if err != nil {
			return failed("see Temporal's log", "task queue %s: %v", activities.TaskQueueOfRunner(h.RunnerID), err)
		}
		if len(queue.GetPollers()) == 0 {
			return failed("see that machine's worker's log: it reaches the database and not Temporal", "host %s says that it is there, and takes no work", h.RunnerID)
		}
	}
	open := slices.DeleteFunc(slices.Clone(known), func(h store.Runner) bool { return h.Draining })
	if len(open) == 0 {
		return warning("hutong runner undrain, for one of hutong runner list", "all %d host(s) are drained; tasks will wait", len(known))
	}
	return ok("%d host(s) take work, %d are drained", len(open), len(known)-len(open))
}

// notThere tells of a path that Open would make: the doctor makes nothing, least of all as another user than the party's.
func notThere(address, scheme string) (string, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != scheme {
		return "", false
	}
	path := filepath.FromSlash(u.Path)
	_, err = os.Stat(path)
	return path, errors.Is(err, fs.ErrNotExist)
}

func database(ctx context.Context, cfg *party.Config) Check {
	const migrate = "run hutong migrate with this configuration"
	if path, missing := notThere(cfg.Database.URL.Reveal(), "sqlite"); missing {
		return failed(migrate, "there is no database %s", path)
	}
	const reach = "start the database, or mend database.url (host, port, user, password, name, sslmode)"
	db, err := store.Open(ctx, cfg.Database.URL.Reveal())
	if err != nil {
		return failed(reach, "%v", err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Ping(ctx); err != nil {
		return failed(reach, "%v", err)
	}
	if err := db.CheckSchema(ctx); err != nil {
		return failed(migrate+", of the newest binary", "%v", err)
	}
	return ok("answers, and has this binary's schema")
}

func storage(ctx context.Context, cfg *party.Config) Check {
	if path, missing := notThere(cfg.Storage.URL.Reveal(), "file"); missing {
		return warning("nothing, if the party's user may make it; else make it and give it to that user", "%s is not there; the party makes it when it starts", path)
	}
	const mend = "start the storage, or mend storage.url; its user must be able to write, read, list and delete"
	blobs, err := blob.Open(ctx, cfg.Storage.URL.Reveal())
	if err != nil {
		return failed(mend, "%v", err)
	}
	text := rand.Text()
	prefix := "doctor-" + text
	key := prefix + "/probe"
	defer func() { _ = blobs.Delete(context.WithoutCancel(ctx), key) }()
	if err := blobs.Put(ctx, key, strings.NewReader(text)); err != nil {
		return failed(mend, "a probe object can't be written: %v", err)
	}
	r, err := blobs.Get(ctx, key)
	if err != nil {
		return failed(mend, "the probe object can't be read: %v", err)
	}
	got, err := io.ReadAll(r)
	_ = r.Close()
	if err != nil || string(got) != text {
		return failed(mend, "the probe object is not read as it was written (%v)", err)
	}
	if list, err := blobs.List(ctx, prefix); err != nil || len(list) != 1 {
		return failed(mend, "the probe object is not listed (%v)", err)
	}
	if err := blobs.Delete(ctx, key); err != nil {
		return failed(mend, "the probe object can't be deleted: %v", err)
	}
	return ok("a probe object was written, read, listed and deleted")
}

func checkDocker(ctx context.Context, cfg *party.Config) Check {
	o := cfg.Runner.Docker
	if o.Enabled == party.SwitchOff && len(cfg.Runner.Process.Allow) == 0 && !cfg.Runner.K8s.Enabled {
		return warning("switch runner.docker.enabled on, or list programs in runner.process.allow, where tasks are to run", "off, and so is the process device: hutong worker can't start here")
	}
	if o.Enabled == party.SwitchOff {
		return ok("off")
	}
	d, err := docker.New(docker.Options{NodeID: cfg.NodeID, Network: o.Network, HostNetwork: o.HostNetwork, PartyHost: o.PartyHost})
	if err == nil {
		defer func() { _ = d.Close() }()
		_, err = d.RunnerID(ctx)
	}
	const mend = "start Docker and let the party's user reach its socket (group docker), or set runner.docker.enabled to false"
	switch {
	case err == nil:
		return ok("the engine answers")
	case o.Enabled == party.SwitchOn || len(cfg.Runner.Process.Allow) == 0:
		return failed(mend, "the engine does not answer, and this host has no other device: %v", err)
	}
	return warning(mend, "the engine does not answer; only the process device runs here: %v", err)
}
