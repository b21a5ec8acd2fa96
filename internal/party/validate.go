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

	"hutong/bfia"
)

// Validate finds all that is wrong, one error joined from one for each field, which it names as the file does. It does
// no I/O and tells no secret.
func (c *Config) Validate() error {
	v := validation{}
	v.id("node_id", c.NodeID)
	v.address("listen", c.Listen)
	if c.Advertise != "" {
		v.reachable("advertise", c.Advertise)
	}
	v.required("data_dir", c.DataDir)
	v.routes(c)

	v.address("transport.listen", c.Transport.Listen)
	if c.Transport.PartnerListen != "" {
		v.address("transport.partner_listen", c.Transport.PartnerListen)
	}
	if c.Transport.Advertise != "" {
		v.reachable("transport.advertise", c.Transport.Advertise)
	}
	v.required("transport.spool_dir", c.Transport.SpoolDir)
	v.duration("transport.session_ttl", c.Transport.SessionTTL)
	v.positive("transport.max_message_mib", int64(c.Transport.MaxMessageMiB))
	v.atLeast("transport.session_mib", c.Transport.SessionMiB, "transport.max_message_mib", c.Transport.MaxMessageMiB)
	v.atLeast("transport.total_mib", c.Transport.TotalMiB, "transport.session_mib", c.Transport.SessionMiB)
	if c.Listen == c.Transport.Listen && !strings.HasSuffix(c.Listen, ":0") {
		v.wrong("transport.listen", "is %s, which is the API's listen", c.Transport.Listen)
	}

	v.reachable("temporal.address", c.Temporal.Address)
	v.required("temporal.namespace", c.Temporal.Namespace)
	if (c.Temporal.TLS.CertFile == "") != (c.Temporal.TLS.KeyFile == "") {
		v.wrong("temporal.tls", "needs cert_file and key_file, or neither")
	}

	v.secretURL("database.url", c.Database.URL, "postgres", "postgresql", "sqlite")
	v.secretURL("storage.url", c.Storage.URL, "file", "s3")
	v.required("upload.dir", c.Upload.Dir)
	v.positive("upload.max_bytes", c.Upload.MaxBytes)

	v.positive("jobs.max_document_bytes", c.Jobs.MaxDocumentBytes)
	v.duration("jobs.poll_after", c.Jobs.PollAfter)
	v.duration("jobs.poll_every", c.Jobs.PollEvery)
	v.positive("jobs.max_attempts", int64(c.Jobs.MaxAttempts))
	for _, limit := range []struct {
		name string
		n    int
	}{{"max_jobs", c.Jobs.MaxJobs}, {"max_containers", c.Jobs.MaxContainers}, {"max_jobs_per_flow", c.Jobs.MaxJobsPerFlow}, {"max_jobs_per_partner", c.Jobs.MaxJobsPerPartner}} {
		if limit.n < 0 {
			v.wrong("jobs."+limit.name, "is %d; 0 is no bound", limit.n)
		}
	}
	v.duration("jobs.runner_lost_after", c.Jobs.RunnerLostAfter)
	oneOf(&v, "jobs.parameters", c.Jobs.Parameters, ParametersWarn, ParametersStrict)
	oneOf(&v, "jobs.approval", c.Jobs.Approval, ApprovalAuto, ApprovalManual)
	oneOf(&v, "jobs.share_failure", c.Jobs.ShareFailure, bfia.ShareKind, bfia.ShareReason, bfia.ShareLog)
	if c.Jobs.Retention < 0 {
		v.wrong("jobs.retention", "is %s, and can't be negative; 0 is for ever", c.Jobs.Retention)
	}

	v.positive("runner.slots", int64(c.Runner.Slots))
	v.amount("runner.cpu", c.Runner.CPU, "cores")
	v.amount("runner.memory", c.Runner.Memory, "GiB")
	v.amount("runner.disk", c.Runner.Disk, "GiB")
	if err := bfia.CheckLabels("runner.labels", c.Runner.Labels); err != nil {
		v.found = append(v.found, err)
	}
	if c.Runner.StopGrace < 0 {
		v.wrong("runner.stop_grace", "is %s, and can't be negative", c.Runner.StopGrace)
	}
	oneOf(&v, "runner.docker.enabled", c.Runner.Docker.Enabled, SwitchAuto, SwitchOn, SwitchOff)
	v.required("runner.docker.party_host", c.Runner.Docker.PartyHost)
	if c.Runner.Docker.HostNetwork && c.Runner.Docker.Network != "" {
		v.wrong("runner.docker.network", "has no meaning with host_network: give one of them")
	}
	for i, program := range c.Runner.Process.Allow {
		if !filepath.IsAbs(program) {
			v.wrong(fmt.Sprintf("runner.process.allow[%d]", i), "%q is not an absolute path", program)
		}
	}
	v.kubernetes(c)

	v.duration("remote.timeout", c.Remote.Timeout)
	if c.Remote.GiveUpAfter < c.Remote.Timeout {
		v.wrong("remote.give_up_after", "is %s, less than remote.timeout's %s", c.Remote.GiveUpAfter, c.Remote.Timeout)
	}
	oneOf(&v, "log.format", c.Log.Format, LogText, LogJSON)
	return errors.Join(v.found...)
}

type validation struct{ found []error }

// kubernetes checks what only matters where the k8s device is on.
func (v *validation) kubernetes(c *Config) {
	k := c.Runner.K8s
	if !k.Enabled {
		return
	}
	if strings.HasPrefix(c.Storage.URL.Reveal(), "file:") {
		v.wrong("runner.k8s.enabled", "needs an S3 storage: pods can't see the files of this machine; set storage.url to s3://...")
	}
	if c.Runner.Docker.Enabled != SwitchOff || len(c.Runner.Process.Allow) > 0 {
		v.wrong("runner.k8s.enabled", "needs a worker of its own: set runner.docker.enabled to false and runner.process.allow to [], and run those devices by another worker")
	}
	v.reachable("runner.k8s.advertise", k.Advertise)
	v.reachable("runner.k8s.transport_advertise", k.TransportAdvertise)
}

func (v *validation) wrong(field, format string, args ...any) {
	v.found = append(v.found, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
}

func (v *validation) required(field, value string) {
	if value == "" {
		v.wrong(field, "is required")
	}
}

func (v *validation) id(field, id string) {
	if err := bfia.CheckID(field, id); err != nil {
		v.found = append(v.found, err)
	}
}

func (v *validation) positive(field string, n int64) {
	if n <= 0 {
		v.wrong(field, "is %d, and must be above 0", n)
	}
}

// amount checks how much of something there is; 0 is for what the machine has. The bounds find units that were mistaken.
func (v *validation) amount(field string, n float64, unit string) {
	if n != 0 && !(n >= 0.001 && n <= 1e6) { // also what is no number
		v.wrong(field, "is %v; it is a number of %s from 0.001 to 1000000, or 0 for what the machine has", n, unit)
	}
}

func (v *validation) duration(field string, d time.Duration) {
	if d <= 0 {
		v.wrong(field, "is %s, and must be above 0", d)
	}
}

func (v *validation) atLeast(field string, n int, other string, least int) {
	if n < least {
		v.wrong(field, "is %d, less than %s's %d", n, other, least)
	}
}

// address checks where something listens: the host may be empty, the port 0.
func (v *validation) address(field, address string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		v.wrong(field, "%q is not host:port", address)
	}
	return host, err == nil
}

// reachable checks an address that someone connects to.
func (v *validation) reachable(field, address string) {
	if host, ok := v.address(field, address); ok && (host == "" || strings.HasSuffix(address, ":0")) {
		v.wrong(field, "%q needs a host and a port to connect to", address)
	}
}

func (v *validation) routes(c *Config) {
	for _, node := range slices.Sorted(maps.Keys(c.Routes)) {
		field := "routes." + node
		v.id(field, node)
		v.httpURL(field+".url", c.Routes[node].URL)
		if c.Routes[node].TransportURL != "" {
			v.httpURL(field+".transport_url", c.Routes[node].TransportURL)
		}
	}
	if _, known := c.Routes[c.Scheduler]; c.Scheduler != "" && c.Scheduler != c.NodeID && !known {
		v.wrong("scheduler", "node %q has no entry in routes", c.Scheduler)
	}
}

func (v *validation) httpURL(field, value string) {
	u, err := url.Parse(value)
	if err == nil && u.User != nil {
		v.wrong(field, "must not hold a user or password")
	} else if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		v.wrong(field, "%q is not http://host:port or https://host:port", value)
	}
}

// secretURL tells the scheme at most: the rest may hold a password.
func (v *validation) secretURL(field string, value Secret, schemes ...string) {
	u, err := url.Parse(value.Reveal())
	switch {
	case value == "":
		v.wrong(field, "is required")
	case err != nil:
		v.wrong(field, "is not a URL (it is not shown, it may hold a password)")
	case !slices.Contains(schemes, u.Scheme):
		v.wrong(field, "must begin with one of %s", strings.Join(schemes, "://, ")+"://")
	case u.Host == "" && u.Path == "":
		v.wrong(field, "names no host and no path")
	}
}

func oneOf[T ~string](v *validation, field string, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		v.wrong(field, "%q is not one of %v", value, allowed)
	}
}
