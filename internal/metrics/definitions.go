package metrics

import (
	"fmt"
	"slices"
	"strings"

	"hutong/bfia"
)

// other replaces a label value that is not allowed. It is an allowed value of most labels.
const other = "other"

// Kind is the type of a metric, as Prometheus names it.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Label is a label of a metric.
type Label struct {
	Name string
	// Values lists the allowed values. If it is empty, Source says where they come from.
	Values []string
	// Source says which values the label has if no list can hold them.
	Source Source
}

// Source is where the values of a label come from, which bounds their number.
type Source string

// The sources of label values.
const (
	FromPartners Source = "the node ids of routes and contracts, self, other"
	FromRoutes   Source = "the patterns of the API's routes, other"
	FromRunners  Source = "the ids of the party's runners, at most 200"
	FromBuild    Source = "the build"
)

// Definition describes a metric.
type Definition struct {
	Name   string
	Kind   Kind
	Help   string
	Labels []Label
	// Buckets are those of a histogram.
	Buckets []float64
}

// labelNames returns the names of the labels.
func (d *Definition) labelNames() []string {
	names := make([]string, len(d.Labels))
	for i, l := range d.Labels {
		names[i] = l.Name
	}
	return names
}

// String returns the definition in one line: name, kind, and labels with their allowed values.
func (d *Definition) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", d.Name, d.Kind)
	for _, l := range d.Labels {
		values := string(l.Source)
		if len(l.Values) > 0 {
			values = strings.Join(l.Values, "|")
		}
		fmt.Fprintf(&b, " %s={%s}", l.Name, values)
	}
	return b.String()
}

// fixed returns a label with a list of values.
func fixed(name string, values ...string) Label { return Label{Name: name, Values: values} }

// texts returns values as texts, in lower case.
func texts[T ~string](values ...T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.ToLower(string(v))
	}
	return out
}

var (
	partnerLabel = Label{Name: "partner", Source: FromPartners}
	routeLabel   = Label{Name: "route", Source: FromRoutes}
	runnerLabel  = Label{Name: "runner", Source: FromRunners}
	sideLabel    = fixed("side", "scheduler", "participant")

	listenerLabel = fixed("listener", "clients", "partners")

	failureKinds = texts(bfia.FailedExit, bfia.FailedMemory, bfia.FailedLogFiles, bfia.FailedImage,
		bfia.FailedStart, bfia.FailedInput, bfia.FailedOutput, bfia.FailedReported, bfia.FailedVanished,
		bfia.FailedKilled, bfia.FailedTemporary, bfia.FailedPartner, bfia.FailedRunnerLost,
		bfia.FailedRefused,
		bfia.FailedTimeout, bfia.FailedStopped, bfia.FailedRejected, bfia.FailedInternal, bfia.FailedUnknown)

	// seconds are the buckets of requests, and longSeconds those of jobs.
	seconds     = []float64{0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60}
	longSeconds = []float64{1, 5, 20, 60, 300, 1200, 3600, 14400, 86400}
)

// commands names the commands to partners by their paths.
var commands = map[string]string{
	bfia.PathCreateAll: "create_all", bfia.PathCreate: "create", bfia.PathStart: "start",
	bfia.PathTaskStart: "task_start", bfia.PathStopAll: "stop_all", bfia.PathStop: "stop",
	bfia.PathStatusAll: "status_all", bfia.PathTaskPoll: "task_poll",
	bfia.PathTaskCallback: "task_callback", bfia.PathAuditConfirm: "audit_confirm",
	bfia.PathTaskStop: "task_stop", bfia.PathReserve: "reserve", bfia.PathRelease: "release",
	bfia.PathCapacityHint: "capacity_hint", bfia.PathPriority: "priority", bfia.PathCheck: "check",
}

// commandNames returns the values of the label command.
func commandNames() []string {
	names := []string{other}
	for _, name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// statusCodes are the HTTP statuses that have a value of their own. Others are counted by class, as in 4xx.
var statusCodes = []string{"1xx", "200", "201", "202", "204", "206", "2xx", "302", "304", "3xx", "400", "401",
	"403", "404", "405", "408", "409", "410", "413", "415", "416", "422", "429", "4xx", "500", "502", "503",
	"504", "507", "5xx", other}

// The metrics.
var (
	buildInfo = Definition{Name: "hutong_build_info", Kind: Gauge,
		Help: "1 for each process of a party that this program runs, with its version.",
		Labels: []Label{{Name: "version", Source: FromBuild}, {Name: "go_version", Source: FromBuild},
			fixed("process", "api", "control", "runner", "transport")}}
	dependencyUp = Definition{Name: "hutong_dependency_up", Kind: Gauge,
		Help:   "1 if a service that this process needs answers, else 0.",
		Labels: []Label{fixed("dependency", "database", "temporal")}}
	certificateExpiry = Definition{Name: "hutong_certificate_expiry_timestamp_seconds", Kind: Gauge,
		Help:   "When a certificate of this process expires, in seconds since 1970.",
		Labels: []Label{fixed("use", "listen", "partners", "partners_ca")}}
	diskFree = Definition{Name: "hutong_disk_free_bytes", Kind: Gauge,
		Help:   "The free space of the disk of a folder.",
		Labels: []Label{fixed("folder", "data", "spool", "storage")}}
	diskSize = Definition{Name: "hutong_disk_size_bytes", Kind: Gauge,
		Help:   "The size of the disk of a folder.",
		Labels: []Label{fixed("folder", "data", "spool", "storage")}}

	httpRequests = Definition{Name: "hutong_http_requests_total", Kind: Counter,
		Help: "Requests to the API by the pattern of their route.",
		Labels: []Label{listenerLabel, routeLabel, fixed("method", "GET", "HEAD", "POST", other),
			{Name: "code", Values: statusCodes}}}
	httpSeconds = Definition{Name: "hutong_http_request_seconds", Kind: Histogram, Buckets: seconds,
		Help:   "The time until the API has answered, without the streaming of the answer.",
		Labels: []Label{listenerLabel, routeLabel}}
	httpRefused = Definition{Name: "hutong_http_refused_total", Kind: Counter,
		Help:   "Requests that the API has refused because of their caller.",
		Labels: []Label{listenerLabel, fixed("reason", "unauthenticated", "forbidden", "too_many")}}

	partnerRequests = Definition{Name: "hutong_partner_requests_total", Kind: Counter,
		Help: "Commands to partners, and to the party itself (self), by outcome.",
		Labels: []Label{partnerLabel, {Name: "command", Values: commandNames()},
			fixed("outcome", "success", "refused", "not_delivered", "unknown")}}
	partnerSeconds = Definition{Name: "hutong_partner_request_seconds", Kind: Histogram, Buckets: seconds,
		Help: "The time of commands to partners.", Labels: []Label{partnerLabel}}
	partnerSuccess = Definition{Name: "hutong_partner_last_success_timestamp_seconds", Kind: Gauge,
		Help:   "When this process last got an answer of a partner, in seconds since 1970.",
		Labels: []Label{partnerLabel}}
	linkDirection = fixed("direction", "inbound", "outbound")
	linksUp       = Definition{Name: "hutong_partner_links", Kind: Gauge,
		Help:   "Links of this process with a partner that are up; inbound if the partner keeps them.",
		Labels: []Label{partnerLabel, linkDirection}}
	linkSince = Definition{Name: "hutong_partner_link_since_timestamp_seconds", Kind: Gauge,
		Help:   "When the oldest of them was made, in seconds since 1970.",
		Labels: []Label{partnerLabel, linkDirection}}
	linkConnections = Definition{Name: "hutong_partner_link_connections", Kind: Gauge,
		Help:   "Open connections over them.",
		Labels: []Label{partnerLabel, linkDirection}}
	linkConnects = Definition{Name: "hutong_partner_link_connects_total", Kind: Counter,
		Help:   "Links with a partner that were made: the first one, and each after one that has ended.",
		Labels: []Label{partnerLabel, linkDirection}}
	callbacks = Definition{Name: "hutong_callbacks_total", Kind: Counter,
		Help: "Reports of the states of tasks, by how they arrived.",
		Labels: []Label{fixed("source", "container", "control_port", "exit", "partner", "poll"),
			fixed("outcome", "accepted", "refused", "failed")}}

	jobsEnded = Definition{Name: "hutong_jobs_ended_total", Kind: Counter,
		Help: "Jobs that have ended, on each side, by outcome.",
		Labels: []Label{sideLabel, {Name: "outcome", Values: append(texts(bfia.OutcomeSuccess,
			bfia.OutcomeFailed, bfia.OutcomeStopped, bfia.OutcomeRejected, bfia.OutcomeRefused), other)}}}
	jobSeconds = Definition{Name: "hutong_job_seconds", Kind: Histogram, Buckets: longSeconds,
		Help: "The time from a job's creation to its end.", Labels: []Label{sideLabel}}
	jobWaitSeconds = Definition{Name: "hutong_job_wait_seconds", Kind: Histogram, Buckets: longSeconds,
		Help:   "The time from a job's creation to its start, for jobs that have started, at their end.",
		Labels: []Label{sideLabel}}
	partsEnded = Definition{Name: "hutong_parts_ended_total", Kind: Counter,
		Help: "Parts of tasks of this party that have ended. kind is that of the failure, or none.",
		Labels: []Label{fixed("outcome", "success", "failed"),
			{Name: "kind", Values: append([]string{"none"}, failureKinds...)}}}
	taskAttempts = Definition{Name: "hutong_task_attempts_total", Kind: Counter,
		Help:   "Attempts of tasks after the first, at their scheduler, by why the attempt before failed.",
		Labels: []Label{{Name: "cause", Values: failureKinds}}}

	jobs = Definition{Name: "hutong_jobs", Kind: Gauge,
		Help: "Jobs that have not ended, by state, on each side. From the rows.",
		Labels: []Label{sideLabel, {Name: "state", Values: texts(bfia.JobPending, bfia.JobReady,
			bfia.JobRunning)}}}
	queueLength = Definition{Name: "hutong_queue_length", Kind: Gauge,
		Help: "Jobs in the scheduler's queue. From the rows."}
	queueOldest = Definition{Name: "hutong_queue_oldest_seconds", Kind: Gauge,
		Help: "How long the job that waits longest has been in the queue; 0 if it is empty. From the rows."}
	approvalsWaiting = Definition{Name: "hutong_approvals_waiting", Kind: Gauge,
		Help: "Jobs that wait for the approval of this party. From the rows."}
	approvalOldest = Definition{Name: "hutong_approval_oldest_seconds", Kind: Gauge,
		Help: "How long the first of them has been waiting; 0 if there is none. From the rows."}
	partnerContact = Definition{Name: "hutong_partner_last_contact_timestamp_seconds", Kind: Gauge,
		Help:   "When a partner last made a request, in seconds since 1970. From the rows.",
		Labels: []Label{partnerLabel}}
	partnerWaiting = Definition{Name: "hutong_partner_waiting_jobs", Kind: Gauge,
		Help:   "Jobs that wait for an answer of a partner. From the rows.",
		Labels: []Label{partnerLabel}}
	runnerState = Definition{Name: "hutong_runner_state", Kind: Gauge,
		Help: "1 for the state of a runner. From the rows.",
		Labels: []Label{runnerLabel,
			fixed("state", "online", "silent", "draining", "drained", "deregistered")}}
	runnerHeartbeat = Definition{Name: "hutong_runner_heartbeat_age_seconds", Kind: Gauge,
		Help:   "The time since a runner's last heartbeat. From the rows.",
		Labels: []Label{runnerLabel}}
	runnerContainers = Definition{Name: "hutong_runner_containers", Kind: Gauge,
		Help: "The containers of a runner. From the rows.", Labels: []Label{runnerLabel}}
	resourceLabel  = fixed("resource", "slots", "cpu_cores", "memory_bytes", "disk_bytes", "gpus")
	runnerCapacity = Definition{Name: "hutong_runner_capacity", Kind: Gauge,
		Help:   "What a runner has for containers; 0 is unknown, and of gpus none. From the rows.",
		Labels: []Label{runnerLabel, resourceLabel}}
	runnerReserved = Definition{Name: "hutong_runner_reserved", Kind: Gauge,
		Help:   "What reservations hold of a runner. From the rows.",
		Labels: []Label{runnerLabel, resourceLabel}}
	rowsRead = Definition{Name: "hutong_rows_read_timestamp_seconds", Kind: Gauge,
		Help: "When the metrics from the rows were read, in seconds since 1970."}
	rowsFailed = Definition{Name: "hutong_rows_read_failures_total", Kind: Counter,
		Help: "Failed attempts to read them."}

	directionLabel = fixed("direction", "sent", "received")
	transferBytes  = Definition{Name: "hutong_transport_bytes_total", Kind: Counter,
		Help:   "Bytes of messages exchanged with partners, each message once.",
		Labels: []Label{partnerLabel, directionLabel}}
	transferMessages = Definition{Name: "hutong_transport_messages_total", Kind: Counter,
		Help: "Messages exchanged with partners, each once.", Labels: []Label{partnerLabel, directionLabel}}
	forwardFailures = Definition{Name: "hutong_transport_forward_failures_total", Kind: Counter,
		Help: "Failed tries to send a message to a partner.", Labels: []Label{partnerLabel}}
	limitedMessages = Definition{Name: "hutong_transport_limited_total", Kind: Counter,
		Help: "Messages of partners beyond limits.requests_per_second, by what became of them: served " +
			"after they had waited, refused (429), or cancelled by the partner while they waited.",
		Labels: []Label{partnerLabel, fixed("outcome", "served", "refused", "cancelled")}}
	relayedCalls = Definition{Name: "hutong_transport_relayed_total", Kind: Counter,
		Help: "Calls that were relayed to the transport of the party that holds their session."}
	transportSessions = Definition{Name: "hutong_transport_sessions", Kind: Gauge,
		Help: "Sessions that hold or remember something, or are in use."}
	transportTopics = Definition{Name: "hutong_transport_topics", Kind: Gauge,
		Help: "Topics of these sessions."}
	transportMessages = Definition{Name: "hutong_transport_messages", Kind: Gauge,
		Help: "Messages that nobody has read."}
	spoolBytes = Definition{Name: "hutong_transport_spool_bytes", Kind: Gauge,
		Help: "Bytes that messages hold of transport.total_mib."}
	spoolLimit = Definition{Name: "hutong_transport_spool_limit_bytes", Kind: Gauge,
		Help: "transport.total_mib in bytes."}
	transportWaiting = Definition{Name: "hutong_transport_waiting", Kind: Gauge,
		Help:   "Pops that wait for a message, and pushes that wait for space.",
		Labels: []Label{fixed("call", "pop", "push")}}

	storageOperations = []string{"get", "put", "stat", "list", "delete", "delete_prefix", "create", "sweep"}
	storageSeconds    = Definition{Name: "hutong_storage_seconds", Kind: Histogram, Buckets: seconds,
		Help:   "The time of operations of the storage; of get until the object is open.",
		Labels: []Label{{Name: "operation", Values: storageOperations}}}
	storageErrors = Definition{Name: "hutong_storage_errors_total", Kind: Counter,
		Help:   "Operations of the storage that failed for a reason of the storage.",
		Labels: []Label{{Name: "operation", Values: storageOperations}}}
	databaseOperations = []string{"select", "insert", "update", "delete", "begin", "commit", "rollback",
		other}
	databaseSeconds = Definition{Name: "hutong_database_seconds", Kind: Histogram, Buckets: seconds,
		Help: "The time of statements.", Labels: []Label{{Name: "operation", Values: databaseOperations}}}
	databaseErrors = Definition{Name: "hutong_database_errors_total", Kind: Counter,
		Help:   "Statements that failed.",
		Labels: []Label{{Name: "operation", Values: databaseOperations}}}

	sweepRemoved = Definition{Name: "hutong_sweep_removed_total", Kind: Counter,
		Help: "What sweeps have removed, or ended (lost_jobs).",
		Labels: []Label{fixed("what", "containers", "expired_jobs", "objects", "bytes", "lost_jobs",
			"reservations")}}
)

// Definitions returns all metrics of Hutong, by name. It does not list those of Go, of the process, of the
// pools of connections, and of Temporal's SDK.
func Definitions() []Definition {
	all := []Definition{buildInfo, dependencyUp, certificateExpiry, diskFree, diskSize, httpRequests,
		httpSeconds, httpRefused, partnerRequests, partnerSeconds, partnerSuccess, linksUp, linkSince,
		linkConnections, linkConnects, callbacks, jobsEnded,
		jobSeconds, jobWaitSeconds, partsEnded, taskAttempts, jobs, queueLength, queueOldest,
		approvalsWaiting, approvalOldest, partnerContact, partnerWaiting, runnerState, runnerHeartbeat,
		runnerContainers, runnerCapacity, runnerReserved, rowsRead, rowsFailed, transferBytes,
		transferMessages, forwardFailures, limitedMessages, relayedCalls, transportSessions, transportTopics,
		transportMessages, spoolBytes, spoolLimit, transportWaiting,
		storageSeconds, storageErrors, databaseSeconds, databaseErrors,
		sweepRemoved}
	slices.SortFunc(all, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return all
}
