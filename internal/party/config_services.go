package party

import (
	"net/url"
	"slices"
	"strings"

	"hutong/internal/codec"
)

// TemporalConfig configures the connection to Temporal, and what of it is readable there.
type TemporalConfig struct {
	// Address is the host:port of the cluster's frontend.
	Address string `yaml:"address" env:"ADDRESS"`
	// Namespace is the party's namespace. Empty: hutong- and the node id in lower case.
	Namespace string `yaml:"namespace" env:"NAMESPACE"`
	// UIURL is the address of Temporal's web UI, as browsers reach it. The console links jobs to it for
	// clients that operate. Empty: no links.
	UIURL string `yaml:"ui_url" env:"UI_URL"`
	// APIKey authenticates with Temporal Cloud and enables TLS.
	APIKey Secret `yaml:"api_key" env:"API_KEY"`
	// APIKeyFile is a file with the key, instead of APIKey.
	APIKeyFile string `yaml:"api_key_file" env:"API_KEY_FILE"`
	// TLS configures TLS. It is disabled if all fields, APIKey and APIKeyFile are empty.
	TLS TLSConfig `yaml:"tls" envPrefix:"TLS_"`
	// Encryption configures the encryption of what the party stores in Temporal.
	Encryption EncryptionConfig `yaml:"encryption" envPrefix:"ENCRYPTION_"`
	// Codec configures the server that decrypts for Temporal's web UI.
	Codec CodecConfig `yaml:"codec" envPrefix:"CODEC_"`
}

// workflowsURL returns the address under which Temporal's UI shows the workflows of the party, or "".
func (c TemporalConfig) workflowsURL() string {
	if c.UIURL == "" {
		return ""
	}

	return strings.TrimRight(c.UIURL, "/") + "/namespaces/" + url.PathEscape(c.Namespace) + "/workflows/"
}

// TLSConfig configures TLS to a server, whose certificate is always verified.
type TLSConfig struct {
	// Enabled enables TLS also if the other fields are empty.
	Enabled bool `yaml:"enabled" env:"ENABLED"`
	// CertFile and KeyFile are this party's certificate and its key, PEM files. Set both or neither.
	CertFile string `yaml:"cert_file" env:"CERT_FILE"`
	KeyFile  string `yaml:"key_file" env:"KEY_FILE"`
	// CAFile contains the certificate authorities to trust instead of the system's, in PEM.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
	// ServerName is the name in the server's certificate. Empty: the host of the address.
	ServerName string `yaml:"server_name" env:"SERVER_NAME"`
}

// EncryptionConfig configures the encryption of arguments, results, memos and failures in Temporal. It is on
// if KeysDir or Keys is set. Set one of them. All processes of a party need the same keys.
type EncryptionConfig struct {
	// KeysDir is a folder of keys, made by hutong key create. Keys that are added later are noticed.
	KeysDir string `yaml:"keys_dir" env:"KEYS_DIR"`
	// Keys names the files of keys by their ids. In the environment: ID=FILE, separated by commas.
	Keys map[string]string `yaml:"keys" env:"KEYS" envKeyValSeparator:"="`
	// KeyID is the key to encrypt with; the others only decrypt. Empty: the one that the file current in
	// KeysDir names, so that it can change without a restart (hutong key use).
	KeyID string `yaml:"key_id" env:"KEY_ID"`
	// Algorithm is the algorithm that the key to encrypt with must have. Empty: any.
	Algorithm codec.Algorithm `yaml:"algorithm" env:"ALGORITHM"`
}

// enabled reports whether payloads are encrypted.
func (c EncryptionConfig) enabled() bool { return c.KeysDir != "" || len(c.Keys) > 0 }

// CodecConfig configures the server that decrypts for Temporal's web UI, hutong codec.
type CodecConfig struct {
	// Listen is its host:port. Beyond the loopback interface it needs the certificate of tls.
	Listen string `yaml:"listen" env:"LISTEN"`
	// Origins are the origins of the web UIs that may use it, such as https://temporal.bank.example. In the
	// environment, separated by commas.
	Origins []string `yaml:"origins" env:"ORIGINS"`
}

// DatabaseConfig configures the database, which records jobs, tasks, providers and outputs.
type DatabaseConfig struct {
	// URL is postgres://user:password@host:port/name?sslmode=... or sqlite:///path/to/file. Empty: SQLite in
	// the data folder. Without sslmode, TLS with a verified certificate is used beyond the loopback
	// interface.
	URL Secret `yaml:"url" env:"URL"`
	// URLFile is a file with the URL, instead of URL.
	URLFile string `yaml:"url_file" env:"URL_FILE"`
	// CAFile contains the certificate authorities to trust instead of the system's, in PEM.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
}

// StorageConfig configures the storage of datasets and outputs.
type StorageConfig struct {
	// URL is file:///dir or s3://host:port?username=..&password=..&bucket=...&secure=... Empty: a folder in
	// the data folder. Without secure, TLS is used beyond the loopback interface.
	URL Secret `yaml:"url" env:"URL"`
	// URLFile is a file with the URL, instead of URL.
	URLFile string `yaml:"url_file" env:"URL_FILE"`
	// CAFile contains the certificate authorities to trust instead of the system's, in PEM.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
	// Credentials chooses what containers get of an S3 storage.
	Credentials StorageCredentials `yaml:"credentials" env:"CREDENTIALS"`
}

// StorageCredentials chooses what containers get of an S3 storage.
type StorageCredentials string

const (
	// CredentialsGate gives each container credentials of its own for its inputs and outputs, at the gate.
	CredentialsGate StorageCredentials = "gate"
	// CredentialsShared gives every container the party's own credentials, for all of the bucket.
	CredentialsShared StorageCredentials = "shared"
)

// LimitsConfig bounds what one caller may take from the others: a user of the party's clients, a partner, or
// the containers of one address. A request beyond a limit is answered with 429 and the header Retry-After. 0
// means no limit.
type LimitsConfig struct {
	// Requests is how many requests per second a caller may make in the long run, Burst how many at once. A
	// partner's messages to the transport have the same, apart from its requests, and wait beyond it.
	Requests float64 `yaml:"requests_per_second" env:"REQUESTS_PER_SECOND"`
	Burst    int     `yaml:"burst" env:"BURST"`
	// OpenJobs limits the jobs of one client that have not ended.
	OpenJobs int `yaml:"open_jobs" env:"OPEN_JOBS"`
	// Uploads limits the uploads of one client at the same time, UploadMiB what one client uploads in a day.
	Uploads   int `yaml:"uploads" env:"UPLOADS"`
	UploadMiB int `yaml:"upload_mib_per_day" env:"UPLOAD_MIB_PER_DAY"`
	// EventStreams limits the event streams that one client reads at the same time, such as open pages.
	EventStreams int `yaml:"event_streams" env:"EVENT_STREAMS"`
	// TransportMiB limits what one partner sends to the transport, per second.
	TransportMiB int `yaml:"transport_mib_per_second" env:"TRANSPORT_MIB_PER_SECOND"`
	// Connections limits the connections of each listener, ConnectionsPerAddress those from one address.
	Connections           int `yaml:"connections" env:"CONNECTIONS"`
	ConnectionsPerAddress int `yaml:"connections_per_address" env:"CONNECTIONS_PER_ADDRESS"`
}

// TracingConfig configures the export of OpenTelemetry traces. It is off if Endpoint is empty.
type TracingConfig struct {
	// Endpoint is the OTLP receiver: http://host:port or https:// for OTLP over HTTP, grpc:// or grpcs:// for
	// OTLP over gRPC.
	Endpoint string `yaml:"endpoint" env:"ENDPOINT"`
	// CAFile contains the certificate authorities to trust instead of the system's, in PEM.
	CAFile string `yaml:"ca_file" env:"CA_FILE"`
	// Sample is the share of traces that is exported, from 0 to 1.
	Sample float64 `yaml:"sample" env:"SAMPLE"`
	// Containers gives containers the variable TRACEPARENT.
	Containers bool `yaml:"containers" env:"CONTAINERS"`
}

// tracing checks the fields of tracing.
func (v *validation) tracing(c TracingConfig) {
	if !(c.Sample >= 0 && c.Sample <= 1) { // rejects NaN too
		v.wrong("tracing.sample", "must be from 0 to 1, but is %v", c.Sample)
	}
	if c.Endpoint == "" {
		return
	}
	u, err := url.Parse(c.Endpoint)
	schemes := []string{"http", "https", "grpc", "grpcs"}
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Port() == "" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		v.wrong("tracing.endpoint", "must be http://, https://, grpc:// or grpcs:// with host:port, such as "+
			"grpcs://otel.bank.example:4317, but is %q", c.Endpoint)
	}
}
