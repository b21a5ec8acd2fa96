package party

import (
	"log/slog"
	"time"

	"hutong/bfia"
)

// Config is all that tells one party from another. Get one from [Load], or from [Default] with [Config.Complete] and
// [Config.Validate]. Relative paths are taken from the working directory and are absolute after Complete.
type Config struct {
	// NodeID is the party's name between parties, such as JG0100001100000010. Required.
	NodeID string `yaml:"node_id" env:"NODE_ID"`
	// Listen is host:port of the API, for clients, containers and partners. An empty host is every address.
	Listen string `yaml:"listen" env:"LISTEN"`
	// Advertise is the host:port of the API that containers are told, where it is not the runner's party host and the port of
	// Listen: for runners on machines that have no API of their own.
	Advertise string `yaml:"advertise" env:"ADVERTISE"`
	// DataDir is the folder for run folders, temporary files and logs, on a disk of this machine.
	DataDir string `yaml:"data_dir" env:"DATA_DIR"`
	// Scheduler is the node that walks the DAGs of jobs submitted here. Empty: this party.
	Scheduler string `yaml:"scheduler" env:"SCHEDULER"`

	Transport TransportConfig `yaml:"transport" envPrefix:"TRANSPORT_"`
	Temporal  TemporalConfig  `yaml:"temporal" envPrefix:"TEMPORAL_"`
	Database  DatabaseConfig  `yaml:"database" envPrefix:"DATABASE_"`
	Storage   StorageConfig   `yaml:"storage" envPrefix:"STORAGE_"`
	Upload    UploadConfig    `yaml:"upload" envPrefix:"UPLOAD_"`
	Jobs      JobsConfig      `yaml:"jobs" envPrefix:"JOBS_"`
	Runner    RunnerConfig    `yaml:"runner" envPrefix:"RUNNER_"`
	Remote    RemoteConfig    `yaml:"remote" envPrefix:"REMOTE_"`
	Log       LogConfig       `yaml:"log" envPrefix:"LOG_"`

	// Routes is where the other parties are, by node id. This party needs no entry of its own. In the environment:
	// HUTONG_ROUTES="NODE=URL NODE=URL|TRANSPORT_URL", which replaces the file's table as a whole.
	Routes Routes `yaml:"routes" env:"ROUTES"`
}

// TransportConfig is the channel between containers of different parties.
type TransportConfig struct {
	// Listen is host:port of the transport, for containers (HTTP and gRPC) and for other parties' transports.
	Listen string `yaml:"listen" env:"LISTEN"`
	// PartnerListen is host:port for other parties' transports alone. Empty: they use Listen, where they could also take
	// messages meant for this party's containers; set it wherever partners are not trusted that far.
	PartnerListen string `yaml:"partner_listen" env:"PARTNER_LISTEN"`
	// Advertise is the host:port that containers are told, where it is not the runner's party host and the port of Listen.
	Advertise string `yaml:"advertise" env:"ADVERTISE"`
	// SpoolDir is the folder in which messages are kept until they are read, on a disk of this machine; they survive a
	// restart. Empty: the folder spool in the data folder.
	SpoolDir string `yaml:"spool_dir" env:"SPOOL_DIR"`
	// SessionTTL is the silence after which a session is removed that no job's end removed.
	SessionTTL time.Duration `yaml:"session_ttl" env:"SESSION_TTL"`
	// MaxMessageMiB bounds one message, SessionMiB what one session may hold, TotalMiB what all sessions may hold on disk.
	MaxMessageMiB int `yaml:"max_message_mib" env:"MAX_MESSAGE_MIB"`
	SessionMiB    int `yaml:"session_mib" env:"SESSION_MIB"`
	TotalMiB      int `yaml:"total_mib" env:"TOTAL_MIB"`
}

// TemporalConfig is the engine.
type TemporalConfig struct {
	// Address is host:port of the cluster's frontend.
	Address string `yaml:"address" env:"ADDRESS"`
	// Namespace is the party's own. Empty: hutong- and the node id in lower case.
	Namespace string `yaml:"namespace" env:"NAMESPACE"`
	// APIKey authenticates with Temporal Cloud, and switches TLS on.
	APIKey Secret `yaml:"api_key" env:"API_KEY"`
	// TLS of the connection; off when it is empty and there is no API key.
	TLS TLSConfig `yaml:"tls" envPrefix:"TLS_"`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	// CertFile and KeyFile are this party's certificate and its key, both or none.
	CertFile string `yaml:"cert_file" env:"CERT_FILE"`
	KeyFile  string `yaml:"key_file" env:"KEY_FILE"`
	// CAFile holds the authorities that are trusted instead of the system's.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
	// ServerName is the name that the server's certificate must have, if it is not the address's host.
	ServerName string `yaml:"server_name" env:"SERVER_NAME"`
}

// DatabaseConfig is where jobs, tasks, providers and outputs are recorded.
type DatabaseConfig struct {
	// URL is postgres://user:password@host:port/name?sslmode=... or sqlite:///path/to/file. Empty: SQLite in the data folder.
	URL Secret `yaml:"url" env:"URL"`
}

// StorageConfig is where datasets and outputs lie.
type StorageConfig struct {
	// URL is file:///dir or s3://host:port?username=..&password=..&bucket=... Empty: a folder in the data folder.
	URL Secret `yaml:"url" env:"URL"`
}

// UploadConfig bounds what becomes a dataset.
type UploadConfig struct {
	// Dir is the folder in which files named by /v2/component/upload must lie. Empty: a folder in the data folder.
	Dir string `yaml:"dir" env:"DIR"`
	// MaxBytes is the largest file that is taken.
	MaxBytes int64 `yaml:"max_bytes" env:"MAX_BYTES"`
}

// JobsConfig is how jobs are taken and watched.
type JobsConfig struct {
	// CheckDatasets refuses a job at creation if a dataset it names is not here.
	CheckDatasets bool `yaml:"check_datasets" env:"CHECK_DATASETS"`
	// Parameters is what becomes of parameters that contradict their component's description.
	Parameters Parameters `yaml:"parameters" env:"PARAMETERS"`
	// MaxDocumentBytes is the largest job document that is taken.
	MaxDocumentBytes int64 `yaml:"max_document_bytes" env:"MAX_DOCUMENT_BYTES"`
	// PollAfter is the silence of a partner after which its task is asked for, PollEvery the interval from then on.
	PollAfter time.Duration `yaml:"poll_after" env:"POLL_AFTER"`
	PollEvery time.Duration `yaml:"poll_every" env:"POLL_EVERY"`
	// AtOnce is how many jobs run here at once, TasksAtOnce how many containers they may have together, PerFlow how many of
	// them may be of one flow, PerPartner how many one other party may have submitted. 0 is no bound beside the hosts' own.
	MaxJobs           int `yaml:"max_jobs" env:"MAX_JOBS"`
	MaxContainers     int `yaml:"max_containers" env:"MAX_CONTAINERS"`
	MaxJobsPerFlow    int `yaml:"max_jobs_per_flow" env:"MAX_JOBS_PER_FLOW"`
	MaxJobsPerPartner int `yaml:"max_jobs_per_partner" env:"MAX_JOBS_PER_PARTNER"`
	// Attempts is how often a task is begun at most, where a host or a Docker Engine was lost with its containers.
	MaxAttempts int `yaml:"max_attempts" env:"MAX_ATTEMPTS"`
	// RunnerLostAfter is the silence after which a host that runs a task is given up, if another one can run it.
	RunnerLostAfter time.Duration `yaml:"runner_lost_after" env:"RUNNER_LOST_AFTER"`
	// Approval is how this party's part in a job is approved.
	Approval Approval `yaml:"approval" env:"APPROVAL"`
	// ShareFailure is how much partners are told of why a part of this party failed.
	ShareFailure bfia.FailureSharing `yaml:"share_failure" env:"SHARE_FAILURE"`
	// KeepResults is how long a job is kept after its end: its outputs, logs and rows. 0 is for ever.
	Retention time.Duration `yaml:"retention" env:"RETENTION"`
}

// Parameters is what becomes of a job whose parameters contradict the descriptions of their components: in type, in
// bindingData, validator or dependsOn.
type Parameters string

// Published descriptions contradict published jobs, so the usual is to warn of it; strict refuses the job.
const (
	ParametersWarn   Parameters = "warn"
	ParametersStrict Parameters = "strict"
)

// Approval is how a party approves the jobs in which it takes part.
type Approval string

const (
	// ApprovalAuto approves every job that can run here.
	ApprovalAuto Approval = "auto"
	// ApprovalManual leaves every job PENDING, also one that was submitted here, until someone approves or rejects it.
	ApprovalManual Approval = "manual"
)

// RunnerConfig is how algorithms run on this machine.
type RunnerConfig struct {
	// Slots is how many tasks run here at the same time.
	Slots int `yaml:"slots" env:"SLOTS"`
	// CPU (cores), Memory and Disk (GiB) are what all tasks here may use together, in the units in which jobs ask for it.
	// 0: what the machine has.
	CPU    float64 `yaml:"cpu" env:"CPU"`
	Memory float64 `yaml:"memory" env:"MEMORY"`
	Disk   float64 `yaml:"disk" env:"DISK"`
	// Labels are what a provider or a task can require of this machine. In the environment NAME=VALUE, separated by commas.
	Labels map[string]string `yaml:"labels" env:"LABELS" envKeyValSeparator:"="`
	// StopGrace is how long a stopped task may take to end by itself before it is killed.
	StopGrace time.Duration    `yaml:"stop_grace" env:"STOP_GRACE"`
	Docker    DockerConfig     `yaml:"docker" envPrefix:"DOCKER_"`
	Process   ProcessConfig    `yaml:"process" envPrefix:"PROCESS_"`
	K8s       KubernetesConfig `yaml:"k8s" envPrefix:"K8S_"`
}

// DockerConfig is the docker device.
type DockerConfig struct {
	// Enabled: auto takes Docker if its daemon answers at start, true fails if it does not, false never asks.
	Enabled Switch `yaml:"enabled" env:"ENABLED"`
	// Network is the bridge network of the party's containers. Empty: one of the party's own, made when it is not there.
	Network string `yaml:"network" env:"NETWORK"`
	// HostNetwork runs containers on the host's network: they start faster and are not kept apart.
	HostNetwork bool `yaml:"host_network" env:"HOST_NETWORK"`
	// PartyHost is the name by which containers reach their party.
	PartyHost string `yaml:"party_host" env:"PARTY_HOST"`
}

// Switch is auto, true or false.
type Switch string

// The positions of a switch.
const (
	SwitchAuto Switch = "auto"
	SwitchOn   Switch = "true"
	SwitchOff  Switch = "false"
)

// ProcessConfig is the process device.
type ProcessConfig struct {
	// Allow lists the programs, by absolute path, that providers of the process device may run. Empty: the device is
	// off. In the environment separated by commas.
	Allow []string `yaml:"allow" env:"ALLOW"`
}

// KubernetesConfig is the k8s device. Where it is on, it is a worker's only one.
type KubernetesConfig struct {
	// Enabled runs tasks as Jobs of a Kubernetes cluster. The storage must be S3.
	Enabled bool `yaml:"enabled" env:"ENABLED"`
	// Kubeconfig is the file that says which cluster and as whom. Empty: the cluster that this process is a pod of.
	Kubeconfig string `yaml:"kubeconfig" env:"KUBECONFIG"`
	// Namespace is where the Jobs are. Empty: that of the kubeconfig's context, or of this pod.
	Namespace string `yaml:"namespace" env:"NAMESPACE"`
	// ImagePullSecrets are names of secrets of the namespace. In the environment separated by commas.
	ImagePullSecrets []string `yaml:"image_pull_secrets" env:"IMAGE_PULL_SECRETS"`
	// Advertise and TransportAdvertise are host:port at which pods reach the party's API and transport. Required.
	Advertise          string `yaml:"advertise" env:"ADVERTISE"`
	TransportAdvertise string `yaml:"transport_advertise" env:"TRANSPORT_ADVERTISE"`
}

// RemoteConfig is the patience with partners.
type RemoteConfig struct {
	// Timeout is for one request, GiveUpAfter for all tries of it together.
	Timeout     time.Duration `yaml:"timeout" env:"TIMEOUT"`
	GiveUpAfter time.Duration `yaml:"give_up_after" env:"GIVE_UP_AFTER"`
}

// LogConfig is the log on standard error.
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
