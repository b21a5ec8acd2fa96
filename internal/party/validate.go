package party

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/internal/httpclient"
	"hutong/internal/partners"
)

// Validate returns the joined errors of all invalid fields, with their names in the file. It does no I/O, and
// the errors contain no secrets.
func (c *Config) Validate() error {
	v := validation{}
	v.id("node_id", c.NodeID)
	v.address("listen", c.Listen)
	v.security(c)
	v.clients(c)
	v.contracts(c)
	v.required("data_dir", c.DataDir)
	v.routes(c)
	v.transport(c)
	v.storage(c)
	v.jobs(c.Jobs)
	v.runner(c.Runner)
	v.kubernetes(c)

	v.limits(c.Limits)
	v.tracing(c.Tracing)
	v.duration("remote.timeout", c.Remote.Timeout)
	if c.Remote.GiveUpAfter < c.Remote.Timeout {
		v.wrong("remote.give_up_after", "must be at least remote.timeout (%s), but is %s", c.Remote.Timeout,
			c.Remote.GiveUpAfter)
	}
	if _, err := httpclient.NewProxy(c.Proxy.URL.Reveal(), c.Proxy.NoProxy); err != nil {
		v.wrong("proxy.url", "%v", err)
	}
	if url := c.Proxy.URL; len(c.Proxy.NoProxy) > 0 && (url == "" || url == httpclient.Environment) {
		v.wrong("proxy.no_proxy", "requires that proxy.url is the URL of a proxy")
	}
	v.notifications(c)
	oneOf(&v, "log.format", c.Log.Format, LogText, LogJSON)
	return errors.Join(v.errors...)
}

func (v *validation) transport(c *Config) {
	v.address("transport.listen", c.Transport.Listen)
	if c.Transport.Advertise != "" {
		v.reachable("transport.advertise", c.Transport.Advertise)
	}
	oneOf(v, "transport.sessions", c.Transport.Sessions, SessionsOfJobs, SessionsAll)
	if c.Transport.Sessions == SessionsAll && c.Security.Mode != SecurityOpen {
		v.wrong("transport.sessions",
			"all requires security.mode open: the transport then knows neither the "+
				"containers that use it nor their jobs")
	}
	if c.Transport.Several && c.Transport.Sessions == SessionsAll {
		v.wrong("transport.several", "requires transport.sessions jobs: the transports find each other in the "+
			"party's database, which a transport with sessions all does not open")
	}
	v.required("transport.spool_dir", c.Transport.SpoolDir)
	v.duration("transport.session_ttl", c.Transport.SessionTTL)
	v.positive("transport.max_message_mib", int64(c.Transport.MaxMessageMiB))
	v.atLeast("transport.session_mib", c.Transport.SessionMiB, "transport.max_message_mib",
		c.Transport.MaxMessageMiB)
	v.atLeast("transport.total_mib", c.Transport.TotalMiB, "transport.session_mib", c.Transport.SessionMiB)
	if c.Transport.PartnerMiB != 0 {
		v.atLeast("transport.partner_mib", c.Transport.PartnerMiB, "transport.max_message_mib",
			c.Transport.MaxMessageMiB)
		v.atLeast("transport.total_mib", c.Transport.TotalMiB, "transport.partner_mib",
			c.Transport.PartnerMiB)
	}
}

// storage checks where the party's state is: Temporal, the database, objects and uploads.
func (v *validation) storage(c *Config) {
	v.reachable("temporal.address", c.Temporal.Address)
	v.required("temporal.namespace", c.Temporal.Namespace)
	if c.Temporal.UIURL != "" {
		v.httpURL("temporal.ui_url", c.Temporal.UIURL)
	}
	if (c.Temporal.TLS.CertFile == "") != (c.Temporal.TLS.KeyFile == "") {
		v.wrong("temporal.tls", "requires both cert_file and key_file, or neither")
	}
	v.encryption(c.Temporal)

	v.secretURL("database.url", c.Database.URL, "postgres", "postgresql", "sqlite")
	v.secretURL("storage.url", c.Storage.URL, "file", "s3")
	oneOf(v, "storage.credentials", c.Storage.Credentials, CredentialsGate, CredentialsShared)
	if c.Storage.Credentials == CredentialsShared && c.Security.Mode != SecurityOpen && !c.Runner.Unsafe {
		v.wrong("storage.credentials",
			"must be gate, or else runner.unsafe must be true: with shared, every "+
				"container can read and change the whole storage")
	}
	v.required("upload.dir", c.Upload.Dir)
	v.positive("upload.max_bytes", c.Upload.MaxBytes)
}

func (v *validation) jobs(c JobsConfig) {
	v.positive("jobs.max_document_bytes", c.MaxDocumentBytes)
	v.duration("jobs.poll_after", c.PollAfter)
	v.duration("jobs.poll_every", c.PollEvery)
	v.positive("jobs.max_attempts", int64(c.MaxAttempts))
	for _, limit := range []struct {
		name string
		n    int
	}{{"max_jobs", c.MaxJobs}, {"max_containers", c.MaxContainers},
		{"max_jobs_per_flow", c.MaxJobsPerFlow}, {"max_jobs_per_partner", c.MaxJobsPerPartner}} {
		if limit.n < 0 {
			v.wrong("jobs."+limit.name, "must not be negative, but is %d; 0 means no limit", limit.n)
		}
	}
	v.duration("jobs.runner_lost_after", c.RunnerLostAfter)
	oneOf(v, "jobs.parameters", c.Parameters, ParametersWarn, ParametersStrict)
	oneOf(v, "jobs.approval", c.Approval, ApprovalAuto, ApprovalManual)
	oneOf(v, "jobs.share_failure", c.ShareFailure, bfia.ShareKind, bfia.ShareReason, bfia.ShareLog)
	if c.Retention < 0 {
		v.wrong("jobs.retention", "must not be negative, but is %s; 0 means forever", c.Retention)
	}
}

func (v *validation) runner(c RunnerConfig) {
	v.positive("runner.slots", int64(c.Slots))
	v.amount("runner.cpu", c.CPU, "cores")
	v.amount("runner.memory", c.Memory, "GiB")
	v.amount("runner.disk", c.Disk, "GiB")
	v.amount("runner.shared_memory", c.SharedMemory, "GiB")
	for i, gpu := range c.GPUs {
		field := fmt.Sprintf("runner.gpus[%d]", i)
		if err := driver.CheckGPU(gpu); err != nil {
			v.wrong(field, "%v", err)
		} else if slices.Contains(c.GPUs[:i], gpu) {
			v.wrong(field, "is given twice: %q", gpu)
		}
	}
	if err := bfia.CheckLabels("runner.labels", c.Labels); err != nil {
		v.errors = append(v.errors, err)
	}
	v.positive("runner.tmp_mib", int64(c.TmpMiB))
	v.positive("runner.docker.pids", int64(c.Docker.Pids))
	if c.LogFilesMiB < 0 {
		v.wrong("runner.log_files_mib", "must not be negative, but is %d", c.LogFilesMiB)
	}
	if c.StopGrace < 0 {
		v.wrong("runner.stop_grace", "must not be negative, but is %s", c.StopGrace)
	}
	oneOf(v, "runner.docker.enabled", c.Docker.Enabled, SwitchAuto, SwitchOn, SwitchOff)
	v.required("runner.docker.party_host", c.Docker.PartyHost)
	if c.Docker.HostNetwork && c.Docker.Network != "" {
		v.wrong("runner.docker.network", "can't be combined with host_network: set one of them")
	}
	for i, program := range c.Process.Allow {
		if !filepath.IsAbs(program) {
			v.wrong(fmt.Sprintf("runner.process.allow[%d]", i), "must be an absolute path, but is %q",
				program)
		}
	}
}

// validation collects the errors of invalid fields.
type validation struct{ errors []error }

// kubernetes checks the fields of the Kubernetes driver if it is on.
func (v *validation) kubernetes(c *Config) {
	k := c.Runner.K8s
	if !k.Enabled {
		return
	}
	if strings.HasPrefix(c.Storage.URL.Reveal(), "file:") {
		v.wrong("runner.k8s.enabled",
			"requires S3, because pods can't read the files of this machine: set storage.url to s3://...")
	}
	if c.Runner.Docker.Enabled != SwitchOff || len(c.Runner.Process.Allow) > 0 {
		v.wrong("runner.k8s.enabled",
			"must be the only driver of a worker: set runner.docker.enabled to false and "+
				"runner.process.allow to [], and use another worker for those drivers")
	}
	if len(c.Runner.GPUs) > 0 {
		v.wrong("runner.gpus",
			"must be empty with Kubernetes, which assigns the GPUs of its nodes itself: set "+
				"runner.k8s.gpu_resource")
	}
	v.reachable("runner.k8s.advertise", k.Advertise)
}

func (v *validation) wrong(field, format string, args ...any) {
	v.errors = append(v.errors, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
}

func (v *validation) required(field, value string) {
	if value == "" {
		v.wrong(field, "is required")
	}
}

func (v *validation) id(field, id string) {
	if err := bfia.CheckID(field, id); err != nil {
		v.errors = append(v.errors, err)
	}
}

func (v *validation) positive(field string, n int64) {
	if n <= 0 {
		v.wrong(field, "must be positive, but is %d", n)
	}
}

// amount checks an amount of a resource, where 0 means that of the machine. The bounds detect mistaken units.
func (v *validation) amount(field string, n float64, unit string) {
	if n != 0 && !(n >= 0.001 && n <= 1e6) { // rejects NaN too
		v.wrong(field, "must be from 0.001 to 1000000 %s, or 0 for the machine's amount, but is %v", unit, n)
	}
}

func (v *validation) duration(field string, d time.Duration) {
	if d <= 0 {
		v.wrong(field, "must be positive, but is %s", d)
	}
}

func (v *validation) atLeast(field string, n int, other string, least int) {
	if n < least {
		v.wrong(field, "must be at least %s (%d), but is %d", other, least, n)
	}
}

// address checks an address to listen on. Its host may be empty and its port 0.
func (v *validation) address(field, address string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		v.wrong(field, "must be host:port, but is %q", address)
	}
	return host, err == nil
}

// reachable checks an address to connect to.
func (v *validation) reachable(field, address string) {
	if host, ok := v.address(field, address); ok && (host == "" || strings.HasSuffix(address, ":0")) {
		v.wrong(field, "must have a host and a port to connect to, but is %q", address)
	}
}

func (v *validation) routes(c *Config) {
	for _, node := range slices.Sorted(maps.Keys(c.Routes)) {
		field := "routes." + node
		v.id(field, node)
		if c.Routes[node].Link != partners.Inbound {
			v.httpURL(field+".url", c.Routes[node].URL)
		}
		if c.Routes[node].TransportURL != "" {
			v.httpURL(field+".transport_url", c.Routes[node].TransportURL)
		}
		for i, scheduler := range c.Routes[node].Schedulers {
			if _, known := c.Routes[scheduler]; !known && scheduler != c.NodeID {
				v.wrong(fmt.Sprintf("%s.schedulers[%d]", field, i), "must be an entry of routes, but is %q",
					scheduler)
			}
		}
		v.link(c, field, c.Routes[node])
		v.proof(c, field, c.Routes[node])
		if node != c.NodeID {
			v.routeKeys(field, c.Routes[node])
		}
	}
	if _, known := c.Routes[c.Scheduler]; c.Scheduler != "" && c.Scheduler != c.NodeID && !known {
		v.wrong("scheduler", "must be this party or an entry of routes, but is %q", c.Scheduler)
	}
}

func (v *validation) httpURL(field, value string) {
	u, err := url.Parse(value)
	if err == nil && u.User != nil {
		v.wrong(field, "must not contain a user or password")
	} else if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" ||
		u.Fragment != "" {
		v.wrong(field, "must be http://host:port or https://host:port, but is %q", value)
	}
}

// secretURL checks a URL. Its errors omit the URL, because it may contain a password.
func (v *validation) secretURL(field string, value Secret, schemes ...string) {
	u, err := url.Parse(value.Reveal())
	switch {
	case value == "":
		v.wrong(field, "is required")
	case err != nil:
		v.wrong(field, "must be a URL (not shown, because it may contain a password)")
	case !slices.Contains(schemes, u.Scheme):
		v.wrong(field, "must start with one of %s", strings.Join(schemes, "://, ")+"://")
	case u.Host == "" && u.Path == "":
		v.wrong(field, "must have a host or a path")
	}
}

func oneOf[T ~string](v *validation, field string, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		v.wrong(field, "must be one of %v, but is %q", allowed, value)
	}
}
