package party

import (
	"fmt"
	"log/slog"
	"time"

	"hutong/bfia"
	"hutong/internal/httpclient"
)

// Config is the configuration of a party. Create it with [Load], or with [Default], [Config.Complete] and
// [Config.Validate]. Relative paths refer to the working directory; Complete makes them absolute.
type Config struct {
	// NodeID identifies the party among all parties, such as JG0100001100000010. Required.
	NodeID string `yaml:"node_id" env:"NODE_ID"`
	// Security chooses what a party demands of its callers and of its configuration.
	Security SecurityConfig `yaml:"security" envPrefix:"SECURITY_"`
	// Listen is the host:port of the API for clients. An empty host means all interfaces.
	Listen string `yaml:"listen" env:"LISTEN"`
	// TLS is the certificate of Listen. Required unless Listen is on the loopback interface.
	TLS ServerTLSConfig `yaml:"tls" envPrefix:"TLS_"`
	// OIDC configures the OpenID provider of the party's users.
	OIDC OIDCConfig `yaml:"oidc" envPrefix:"OIDC_"`
	// ClientCertificates gives roles to clients with a certificate. Only the file can set it.
	ClientCertificates []ClientCertificate `yaml:"client_certificates"`
	// Partners configures the endpoints for other parties.
	Partners PartnersConfig `yaml:"partners" envPrefix:"PARTNERS_"`
	// Containers configures the endpoints for this party's containers.
	Containers ContainersConfig `yaml:"containers" envPrefix:"CONTAINERS_"`
	// Ops configures the endpoints of operation: health, readiness and metrics.
	Ops OpsConfig `yaml:"ops" envPrefix:"OPS_"`
	// DataDir is the folder for the files of containers, temporary files and logs, on a disk of this machine.
	DataDir string `yaml:"data_dir" env:"DATA_DIR"`
	// Scheduler is the node id of the party that schedules jobs submitted here. Empty: this party.
	Scheduler string `yaml:"scheduler" env:"SCHEDULER"`

	Transport TransportConfig `yaml:"transport" envPrefix:"TRANSPORT_"`
	Temporal  TemporalConfig  `yaml:"temporal" envPrefix:"TEMPORAL_"`
	Database  DatabaseConfig  `yaml:"database" envPrefix:"DATABASE_"`
	Storage   StorageConfig   `yaml:"storage" envPrefix:"STORAGE_"`
	Upload    UploadConfig    `yaml:"upload" envPrefix:"UPLOAD_"`
	Jobs      JobsConfig      `yaml:"jobs" envPrefix:"JOBS_"`
	Runner    RunnerConfig    `yaml:"runner" envPrefix:"RUNNER_"`
	Remote    RemoteConfig    `yaml:"remote" envPrefix:"REMOTE_"`
	Limits    LimitsConfig    `yaml:"limits" envPrefix:"LIMITS_"`
	// Grants chooses whether partners may use this party's components and datasets only by grants. Empty:
	// required under security.mode strict, open under open.
	Grants Grants       `yaml:"grants" env:"GRANTS"`
	Images ImagesConfig `yaml:"images" envPrefix:"IMAGES_"`
	Proxy  ProxyConfig  `yaml:"proxy" envPrefix:"PROXY_"`
	// Notifications configures who gets messages about jobs and about what needs a person.
	Notifications NotificationsConfig `yaml:"notifications" envPrefix:"NOTIFICATIONS_"`
	Log           LogConfig           `yaml:"log" envPrefix:"LOG_"`
	// Tracing configures the export of traces.
	Tracing TracingConfig `yaml:"tracing" envPrefix:"TRACING_"`

	// Routes holds the URLs of the partners, by node id. This party needs no entry. In the environment:
	// HUTONG_ROUTES="NODE=URL NODE=URL|TRANSPORT_URL", which replaces all entries of the file.
	Routes Routes `yaml:"routes" env:"ROUTES"`
}

// SecurityConfig chooses what a party demands of its callers and of its configuration.
type SecurityConfig struct {
	// Mode is strict, or open for development on one machine.
	Mode SecurityMode `yaml:"mode" env:"MODE"`
	// OpenPartners also lets partners without a certificate call at Listen, as whom their header names.
	// Only for development: it requires the mode open.
	OpenPartners bool `yaml:"open_partners" env:"OPEN_PARTNERS"`
}

// SecurityMode is strict or open.
type SecurityMode string

const (
	// SecurityStrict demands credentials of every caller, and refuses a configuration that is not safe.
	SecurityStrict SecurityMode = "strict"
	// SecurityOpen demands no credentials of clients, whom it serves on the loopback interface only.
	SecurityOpen SecurityMode = "open"
)

// Grants chooses what a partner's jobs may use of a party.
type Grants string

const (
	// GrantsRequired lets a partner's job use only the components and datasets that hutong grant add names.
	GrantsRequired Grants = "required"
	// GrantsPermits is as GrantsRequired, and a grant for which the partner has asked counts only for jobs
	// that present its permit.
	GrantsPermits Grants = "permits"
	// GrantsOpen lets every partner's job use every component and dataset of the party.
	GrantsOpen Grants = "open"
)

// ImagesConfig restricts the images of providers.
type ImagesConfig struct {
	// Registries are the registries from which providers may have images at their registration, such as
	// registry.bank.example or registry.bank.example/team. An image without a registry is of docker.io. The
	// list also refuses mutable references for the device k8s, which need a digest; Docker's are pinned to
	// the ids that the runners find. Empty: all. In the environment, separated by commas.
	Registries []string `yaml:"registries" env:"REGISTRIES"`
}

// ServerTLSConfig names the PEM files of a server's certificate. They are read again when they change.
type ServerTLSConfig struct {
	// CertFile and KeyFile are the certificate and its key. Set both or neither.
	CertFile string `yaml:"cert_file" env:"CERT_FILE"`
	KeyFile  string `yaml:"key_file" env:"KEY_FILE"`
	// ClientCAFile contains the authorities of clients that prove who they are by a certificate.
	ClientCAFile string `yaml:"client_ca_file" env:"CLIENT_CA_FILE"`
}

// PartnersConfig configures the endpoints for other parties.
type PartnersConfig struct {
	// Listen is the host:port for partners, with mutual TLS. It serves control commands and, in a process
	// that also runs the transport, its messages. Empty: no partner can call.
	Listen string `yaml:"listen" env:"LISTEN"`
	// PlainListen is the host:port for partners that can't use mutual TLS, whose routes say so. Empty: none.
	PlainListen string `yaml:"plain_listen" env:"PLAIN_LISTEN"`
	// URL is the https URL at which partners reach Listen, for contracts. TransportURL is that of the
	// transport, if it differs.
	URL          string `yaml:"url" env:"URL"`
	TransportURL string `yaml:"transport_url" env:"TRANSPORT_URL"`
	// Institution and InstID name the institution of this party in contracts.
	Institution string `yaml:"institution" env:"INSTITUTION"`
	InstID      string `yaml:"inst_id" env:"INST_ID"`
	// TLS is this party's certificate, with which it proves to be node_id, as server and as client.
	TLS PartnerTLSConfig `yaml:"tls" envPrefix:"TLS_"`
	// TrustedProxies are gateways in front of this party that end the TLS of partners.
	TrustedProxies ProxiesConfig `yaml:"trusted_proxies" envPrefix:"TRUSTED_PROXIES_"`
}

// PartnerTLSConfig names the PEM files of a party's certificate. They are read again when they change.
type PartnerTLSConfig struct {
	// CertFile and KeyFile are the certificate and its key. Set both or neither.
	CertFile string `yaml:"cert_file" env:"CERT_FILE"`
	KeyFile  string `yaml:"key_file" env:"KEY_FILE"`
	// CAFile contains the authorities of the partners whose routes name none.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
	// MinVersion is the least version of TLS: 1.2 for partners that have no other. Empty: 1.3.
	MinVersion string `yaml:"min_version" env:"MIN_VERSION"`
}

// ContainersConfig configures the gate: all that this party's containers reach.
type ContainersConfig struct {
	// Listen is the host:port of the gate, which each runner serves for its own containers. Containers of a
	// bridge network reach its port at the network's gateway.
	Listen string `yaml:"listen" env:"LISTEN"`
}

// OpsConfig configures the endpoints of operation.
type OpsConfig struct {
	// Listen is the host:port of health, readiness and metrics of this process. Processes of one machine need
	// different ones. Empty: it has no metrics, and only the API serves health and readiness.
	Listen string `yaml:"listen" env:"LISTEN"`
}

// TransportConfig configures the transport, which carries messages between containers of different parties.
type TransportConfig struct {
	// Listen is the host:port of the transport for the gates of runners and for control workers.
	Listen string `yaml:"listen" env:"LISTEN"`
	// PartnerListen is the host:port for the transports of partners, with mutual TLS. Empty: they use
	// partners.listen, which a transport in a process of its own does not serve.
	PartnerListen string `yaml:"partner_listen" env:"PARTNER_LISTEN"`
	// PartnerPlainListen is the host:port for the transports of partners that can't use mutual TLS, whose
	// routes say so. Empty: they use partners.plain_listen, which a transport in a process of its own does
	// not serve.
	PartnerPlainListen string `yaml:"partner_plain_listen" env:"PARTNER_PLAIN_LISTEN"`
	// Sessions chooses to which sessions partners may send.
	Sessions Sessions `yaml:"sessions" env:"SESSIONS"`
	// Advertise is the host:port at which runners and control workers reach the transport, and each of
	// several transports the others. Empty: the port of Listen on their own machine.
	Advertise string `yaml:"advertise" env:"ADVERTISE"`
	// Several says that the party has several transports, each with a spool of its own. They, runners and
	// control workers find the transport of a session in the party's database, and need this setting.
	Several bool `yaml:"several" env:"SEVERAL"`
	// Name names this transport for people, if there are several. Empty: the name of its machine.
	Name string `yaml:"name" env:"NAME"`
	// Standby makes a transport whose spool is in use wait until it is free, to take it over. Otherwise it
	// fails. The spool must exist, and the process must have no other roles.
	Standby bool `yaml:"standby" env:"STANDBY"`
	// SpoolDir is the folder that stores messages until they are read, on a disk of this machine. They
	// survive a restart. Empty: the folder spool in the data folder.
	SpoolDir string `yaml:"spool_dir" env:"SPOOL_DIR"`
	// SessionTTL is how long an idle session is kept if the end of its job did not remove it.
	SessionTTL time.Duration `yaml:"session_ttl" env:"SESSION_TTL"`
	// MaxMessageMiB limits one message, SessionMiB the messages of one session, TotalMiB those of all
	// sessions on disk.
	MaxMessageMiB int `yaml:"max_message_mib" env:"MAX_MESSAGE_MIB"`
	SessionMiB    int `yaml:"session_mib" env:"SESSION_MIB"`
	TotalMiB      int `yaml:"total_mib" env:"TOTAL_MIB"`
	// PartnerMiB limits the messages of one partner in all sessions. 0: half of TotalMiB.
	PartnerMiB int `yaml:"partner_mib" env:"PARTNER_MIB"`
}

// Sessions chooses to which sessions of the transport partners may send.
type Sessions string

const (
	// SessionsOfJobs are those of the jobs in which the partner takes part, as the party's database says.
	SessionsOfJobs Sessions = "jobs"
	// SessionsAll are all sessions. It is for a transport that serves the containers of another system, such
	// as FATE-Flow, whose jobs no database of Hutong knows. Such a transport opens no database, and its party
	// has no other process. It requires the mode open, since containers that prove nothing use it.
	SessionsAll Sessions = "all"
)

// UploadConfig configures uploads of datasets.
type UploadConfig struct {
	// Dir is the folder of the files that /v2/component/upload can import. Empty: a folder in the data
	// folder.
	Dir string `yaml:"dir" env:"DIR"`
	// MaxBytes limits the size of a file.
	MaxBytes int64 `yaml:"max_bytes" env:"MAX_BYTES"`
}

// JobsConfig configures the acceptance, limits and monitoring of jobs.
type JobsConfig struct {
	// CheckDatasets rejects a job at creation if this party does not have a dataset that the job names.
	CheckDatasets bool `yaml:"check_datasets" env:"CHECK_DATASETS"`
	// Parameters chooses how to treat parameters that contradict their component's description.
	Parameters Parameters `yaml:"parameters" env:"PARAMETERS"`
	// MaxDocumentBytes limits the size of a job document.
	MaxDocumentBytes int64 `yaml:"max_document_bytes" env:"MAX_DOCUMENT_BYTES"`
	// PollAfter is how long the scheduler waits for a callback before it polls a task. PollEvery is the
	// polling interval.
	PollAfter time.Duration `yaml:"poll_after" env:"POLL_AFTER"`
	PollEvery time.Duration `yaml:"poll_every" env:"POLL_EVERY"`
	// MaxJobs limits the running jobs, MaxContainers their containers, MaxJobsPerFlow the running jobs of one
	// flow, and MaxJobsPerPartner those that one partner has submitted. 0 means no limit except the runners'
	// resources.
	MaxJobs           int `yaml:"max_jobs" env:"MAX_JOBS"`
	MaxContainers     int `yaml:"max_containers" env:"MAX_CONTAINERS"`
	MaxJobsPerFlow    int `yaml:"max_jobs_per_flow" env:"MAX_JOBS_PER_FLOW"`
	MaxJobsPerPartner int `yaml:"max_jobs_per_partner" env:"MAX_JOBS_PER_PARTNER"`
	// MaxAttempts limits the attempts of a task that loses its containers with a runner or with Docker
	// Engine.
	MaxAttempts int `yaml:"max_attempts" env:"MAX_ATTEMPTS"`
	// RunnerLostAfter is the silence after which a host that runs a task is given up, if another one can run
	// it.
	RunnerLostAfter time.Duration `yaml:"runner_lost_after" env:"RUNNER_LOST_AFTER"`
	// Approval chooses who approves this party's part in a job.
	Approval Approval `yaml:"approval" env:"APPROVAL"`
	// FourEyes refuses the approval of a job by the user of this party who submitted it.
	FourEyes bool `yaml:"four_eyes" env:"FOUR_EYES"`
	// ShareFailure chooses which details of a failure at this party partners receive.
	ShareFailure bfia.FailureSharing `yaml:"share_failure" env:"SHARE_FAILURE"`
	// Retention is how long the outputs, logs and rows of a job are kept after its end. 0 means forever.
	Retention time.Duration `yaml:"retention" env:"RETENTION"`
}

// Parameters chooses how to treat a job whose parameters contradict the descriptions of their components in
// type, bindingData, validator or dependsOn.
type Parameters string

// Published descriptions contradict published jobs, so the default is to warn. Strict rejects the job.
const (
	ParametersWarn   Parameters = "warn"
	ParametersStrict Parameters = "strict"
)

// Approval chooses who approves the jobs in which a party participates.
type Approval string

const (
	// ApprovalAuto approves every job that can run here.
	ApprovalAuto Approval = "auto"
	// ApprovalManual leaves every job PENDING until an operator approves or rejects it, also one submitted
	// here.
	ApprovalManual Approval = "manual"
)

// RunnerConfig configures the runner of this machine.
type RunnerConfig struct {
	// Slots limits the tasks that run here at the same time.
	Slots int `yaml:"slots" env:"SLOTS"`
	// CPU (cores), Memory and Disk (GiB) limit what all tasks here may use together, in the units of a job's
	// resources. 0: the machine's amount.
	CPU    float64 `yaml:"cpu" env:"CPU"`
	Memory float64 `yaml:"memory" env:"MEMORY"`
	Disk   float64 `yaml:"disk" env:"DISK"`
	// GPUs lists the GPUs of this machine that tasks may use. A container gets as many of them as its job
	// requests with resources.gpu, and no container shares one. An entry is an index or UUID that nvidia-smi
	// -L shows, a CDI name (vendor.com/class=name), or the path of a device file. In the environment,
	// separated by commas.
	GPUs []string `yaml:"gpus" env:"GPUS"`
	// SharedMemory is the size of /dev/shm in containers, in GiB. 0: the memory limit of the task, or half of
	// the machine's memory if it has none.
	SharedMemory float64 `yaml:"shared_memory" env:"SHARED_MEMORY"`
	// TmpMiB is the size of /tmp in containers. Docker keeps it in memory, where it counts against the memory
	// limit of the task.
	TmpMiB int `yaml:"tmp_mib" env:"TMP_MIB"`
	// Labels describe this machine for the constraints of providers and tasks. In the environment:
	// NAME=VALUE, separated by commas.
	Labels map[string]string `yaml:"labels" env:"LABELS" envKeyValSeparator:"="`
	// StopGrace is the time between SIGTERM and SIGKILL of a stopped task.
	StopGrace time.Duration `yaml:"stop_grace" env:"STOP_GRACE"`
	// LogFilesMiB limits the files that one container writes below config.log.path. A container that exceeds
	// it is stopped. 0: no limit.
	LogFilesMiB int `yaml:"log_files_mib" env:"LOG_FILES_MIB"`
	// Unsafe allows what does not isolate tasks from this machine, under security.mode strict: the process
	// driver and docker.host_network.
	Unsafe  bool             `yaml:"unsafe" env:"UNSAFE"`
	Docker  DockerConfig     `yaml:"docker" envPrefix:"DOCKER_"`
	Process ProcessConfig    `yaml:"process" envPrefix:"PROCESS_"`
	K8s     KubernetesConfig `yaml:"k8s" envPrefix:"K8S_"`
}

// DockerConfig configures the Docker driver.
type DockerConfig struct {
	// Enabled: auto uses Docker Engine if it answers at the start, true fails if it does not, false does not
	// use it.
	Enabled Switch `yaml:"enabled" env:"ENABLED"`
	// Network is the bridge network of the party's containers. The party creates it, as an internal network,
	// if it does not exist. Empty: hutong- and the node id in lower case. Only a network that this field
	// names may have another form.
	Network string `yaml:"network" env:"NETWORK"`
	// HostNetwork runs containers on the machine's network. They start faster, but are not isolated.
	HostNetwork bool `yaml:"host_network" env:"HOST_NETWORK"`
	// PartyHost is the host name by which containers reach their party.
	PartyHost string `yaml:"party_host" env:"PARTY_HOST"`
	// Runtime is the name by which Docker Engine knows the OCI runtime of containers, such as runc, runsc
	// (gVisor) or kata. Empty: its default.
	Runtime string `yaml:"runtime" env:"RUNTIME"`
	// Pids limits the processes and threads of a container.
	Pids int `yaml:"pids" env:"PIDS"`
}

// Switch is auto, true or false.
type Switch string

// The values of a switch.
const (
	SwitchAuto Switch = "auto"
	SwitchOn   Switch = "true"
	SwitchOff  Switch = "false"
)

// ProcessConfig configures the process driver.
type ProcessConfig struct {
	// Allow lists the programs, by absolute path, that providers of the process driver may run. Empty: the
	// driver is off. In the environment, separated by commas.
	Allow []string `yaml:"allow" env:"ALLOW"`
}

// KubernetesConfig configures the Kubernetes driver. It must be the only driver of a worker.
type KubernetesConfig struct {
	// Enabled runs tasks as Jobs of a Kubernetes cluster. It requires S3.
	Enabled bool `yaml:"enabled" env:"ENABLED"`
	// Kubeconfig is the file with the cluster and the credentials. Empty: the cluster in which this process
	// is a pod.
	Kubeconfig string `yaml:"kubeconfig" env:"KUBECONFIG"`
	// Namespace is the namespace of the Jobs. Empty: that of the kubeconfig's context, or of this pod.
	Namespace string `yaml:"namespace" env:"NAMESPACE"`
	// GPUResource is the name by which the cluster's nodes offer GPUs.
	GPUResource string `yaml:"gpu_resource" env:"GPU_RESOURCE"`
	// ImagePullSecrets are names of secrets in the namespace. In the environment, separated by commas.
	ImagePullSecrets []string `yaml:"image_pull_secrets" env:"IMAGE_PULL_SECRETS"`
	// RuntimeClass is the name of the RuntimeClass of the pods, such as gvisor or kata. Empty: the cluster's
	// default.
	RuntimeClass string `yaml:"runtime_class" env:"RUNTIME_CLASS"`
	// UserNamespace gives each pod a user namespace of its own (hostUsers: false), which the nodes must
	// support.
	UserNamespace bool `yaml:"user_namespace" env:"USER_NAMESPACE"`
	// Advertise is the host:port at which pods reach containers.listen of this runner. Required.
	Advertise string `yaml:"advertise" env:"ADVERTISE"`
}

// RemoteConfig configures requests to partners.
type RemoteConfig struct {
	// Timeout limits one request, GiveUpAfter all retries of it together.
	Timeout     time.Duration `yaml:"timeout" env:"TIMEOUT"`
	GiveUpAfter time.Duration `yaml:"give_up_after" env:"GIVE_UP_AFTER"`
}

// ProxyConfig configures the HTTP proxy of all connections that this party opens to partners, S3, Temporal,
// Docker Engine and Kubernetes. Connections to the party's own processes and containers never use one.
type ProxyConfig struct {
	// URL is empty for none, "environment" for that of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or
	// http://user:password@host:port or https://...
	URL Secret `yaml:"url" env:"URL"`
	// URLFile is a file with the URL, instead of URL.
	URLFile string `yaml:"url_file" env:"URL_FILE"`
	// NoProxy lists the hosts that URL is not for: names, .domains, addresses and networks such as
	// 10.0.0.0/8. In the environment, separated by commas.
	NoProxy []string `yaml:"no_proxy" env:"NO_PROXY"`
}

// Rule returns the rule for this party's connections. The configuration must be valid.
func (c ProxyConfig) Rule() httpclient.Proxy {
	rule, err := httpclient.NewProxy(c.URL.Reveal(), c.NoProxy)
	if err != nil {
		panic(fmt.Sprintf("proxy.url: %v; Validate checks it", err))
	}
	return rule
}

// LogConfig configures the log on standard error.
type LogConfig struct {
	// Level is debug, info, warn or error.
	Level slog.Level `yaml:"level" env:"LEVEL"`
	// Format is text or json.
	Format LogFormat `yaml:"format" env:"FORMAT"`
}

// LogFormat is text or json.
type LogFormat string

// The formats of a log.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)
