package party

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"hutong/activities/driver/docker"

	"hutong/bfia"
	"hutong/internal/duration"
	"hutong/internal/notify"
)

// EnvPrefix is the prefix of the configuration's environment variables.
const EnvPrefix = "HUTONG_"

// Default returns the defaults of the configuration. They lack a node id.
func Default() *Config {
	return &Config{
		Listen:     "127.0.0.1:9380",
		Security:   SecurityConfig{Mode: SecurityStrict},
		Containers: ContainersConfig{Listen: "127.0.0.1:9381"},
		DataDir:    "hutong-data",
		OIDC: OIDCConfig{Scopes: []string{"openid", "profile", "email", "offline_access"},
			RolesClaim: "groups"},
		Transport: TransportConfig{Listen: "127.0.0.1:9390", Sessions: SessionsOfJobs,
			SessionTTL: 7 * 24 * time.Hour, MaxMessageMiB: 2048, SessionMiB: 8192, TotalMiB: 32768},
		Temporal: TemporalConfig{Address: "127.0.0.1:7233", Codec: CodecConfig{Listen: "127.0.0.1:9382"}},
		Storage:  StorageConfig{Credentials: CredentialsGate},
		Tracing:  TracingConfig{Sample: 1},
		Upload:   UploadConfig{MaxBytes: 8 << 30},
		Jobs: JobsConfig{CheckDatasets: true, Parameters: ParametersWarn, MaxDocumentBytes: 1 << 20,
			PollAfter: 10 * time.Second, PollEvery: 2 * time.Second, MaxAttempts: 3,
			RunnerLostAfter: 5 * time.Minute,
			Approval:        ApprovalAuto, FourEyes: true, ShareFailure: bfia.ShareKind,
			Retention: 30 * 24 * time.Hour},
		Runner: RunnerConfig{Slots: max(2, runtime.NumCPU()), StopGrace: 10 * time.Second, LogFilesMiB: 1024,
			TmpMiB: docker.DefaultTmpBytes >> 20,
			Docker: DockerConfig{Enabled: SwitchAuto, PartyHost: "hutong", Pids: docker.DefaultPids},
			K8s:    KubernetesConfig{GPUResource: "nvidia.com/gpu"}},
		Remote: RemoteConfig{Timeout: 10 * time.Second, GiveUpAfter: 10 * time.Minute},
		Limits: LimitsConfig{Requests: 1000, Burst: 2000, OpenJobs: 1000, Uploads: 8, EventStreams: 200,
			Connections:           8192,
			ConnectionsPerAddress: 2048},
		Notifications: NotificationsConfig{PartnerSilence: 5 * time.Minute,
			SMTP: SMTPConfig{Encryption: notify.StartTLS}},
		Log: LogConfig{Level: slog.LevelInfo, Format: LogText},
	}
}

// Load reads the defaults, then the file at path ("" for none), then environ in the format of os.Environ.
// Then it completes and validates the configuration. An unknown key in the file is an error with its line.
// Errors contain no secrets.
func Load(path string, environ []string) (*Config, error) {
	c := Default()
	if path != "" {
		document, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("failed to read the configuration: %w", err)
		}
		if err := c.readYAML(document); err != nil {
			return nil, fmt.Errorf("invalid configuration file %s: %w", path, err)
		}
	}
	if err := c.readEnv(environ); err != nil {
		return nil, fmt.Errorf("invalid configuration in the environment: %w", err)
	}
	if path == "" && c.NodeID == "" {
		return nil,
			errors.New("no configuration is given: name the party's file with -c FILE or HUTONG_CONFIG, " +
				"or set HUTONG_NODE_ID; deploy/config/party.example.yaml explains every field")
	}
	if err := c.readSecretFiles(); err != nil {
		return nil, fmt.Errorf("invalid configuration: %w", err)
	}
	if err := c.Complete(); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("invalid configuration: %w", err)
	}
	return c, nil
}

// sharedSections are the sections of the configuration that several parties in one process may share. The
// other sections name what each party must have for itself, such as its address and its database.
var sharedSections = []string{"JOBS_", "RUNNER_", "UPLOAD_", "REMOTE_"}

// ReadSharedEnv reads the variables in environ of the sections jobs, runner, upload and remote.
func (c *Config) ReadSharedEnv(environ []string) error {
	return c.readEnv(slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		return !slices.ContainsFunc(sharedSections, func(section string) bool {
			return strings.HasPrefix(v, EnvPrefix+section)
		})
	}))
}

func (c *Config) readEnv(environ []string) error {
	vars := env.ToMap(slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		return !strings.HasPrefix(v, EnvPrefix)
	}))
	options := env.Options{Environment: vars, Prefix: EnvPrefix, FuncMap: map[reflect.Type]env.ParserFunc{
		reflect.TypeFor[time.Duration](): func(text string) (any, error) { return duration.Parse(text) },
	}}
	err := env.ParseWithOptions(c, options)
	if err == nil {
		return nil
	}

	// The library's errors name Go fields. Parsing each variable alone finds the variables that are invalid.
	var invalid []error
	for name, value := range vars {
		options.Environment = map[string]string{name: value}
		if err := env.ParseWithOptions(&Config{}, options); err != nil {
			var parse env.ParseError
			if errors.As(err, &parse) {
				err = parse.Err
			}
			invalid = append(invalid, fmt.Errorf("%s: %w", name, err))
		}
	}
	slices.SortFunc(invalid, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(invalid) > 0 {
		return errors.Join(invalid...)
	}
	return err
}

// Complete sets empty fields that depend on other fields, and makes paths absolute.
func (c *Config) Complete() error {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	c.DataDir = dir
	if c.Upload.Dir == "" {
		c.Upload.Dir = filepath.Join(dir, "upload")
	}
	if c.Upload.Dir, err = filepath.Abs(c.Upload.Dir); err != nil {
		return fmt.Errorf("upload.dir: %w", err)
	}
	if c.Transport.SpoolDir == "" {
		c.Transport.SpoolDir = filepath.Join(dir, "spool")
	}
	if c.Transport.SpoolDir, err = filepath.Abs(c.Transport.SpoolDir); err != nil {
		return fmt.Errorf("transport.spool_dir: %w", err)
	}
	if c.Database.URL == "" {
		c.Database.URL = Secret((&url.URL{Scheme: "sqlite",
			Path: filepath.ToSlash(filepath.Join(dir, "hutong.db"))}).String())
	}
	if c.Storage.URL == "" {
		c.Storage.URL = Secret((&url.URL{Scheme: "file",
			Path: filepath.ToSlash(filepath.Join(dir, "storage"))}).String())
	}
	c.Database.URL = verifiedDatabase(c.Database.URL, c.Database.CAFile)
	c.Storage.URL = verifiedStorage(c.Storage.URL)
	if c.Temporal.Namespace == "" && c.NodeID != "" {
		c.Temporal.Namespace = "hutong-" + strings.ToLower(c.NodeID)
	}
	if c.Scheduler == "" {
		c.Scheduler = c.NodeID
	}
	c.Notifications.complete()
	if c.Grants == "" {
		c.Grants = GrantsRequired
		if c.Security.Mode == SecurityOpen {
			c.Grants = GrantsOpen
		}
	}
	for _, file := range []struct {
		field string
		path  *string
	}{{"database.ca_file", &c.Database.CAFile}, {"storage.ca_file", &c.Storage.CAFile},
		{"tracing.ca_file", &c.Tracing.CAFile},
		{"temporal.encryption.keys_dir", &c.Temporal.Encryption.KeysDir}} {
		if *file.path == "" {
			continue
		}
		if *file.path, err = filepath.Abs(*file.path); err != nil {
			return fmt.Errorf("%s: %w", file.field, err)
		}
	}
	if c.Runner.K8s.Kubeconfig != "" {
		if c.Runner.K8s.Kubeconfig, err = filepath.Abs(c.Runner.K8s.Kubeconfig); err != nil {
			return fmt.Errorf("runner.k8s.kubeconfig: %w", err)
		}
	}
	return nil
}

// TLSClient reads the certificate files and returns the TLS configuration of the connection, or nil for none.
func (t TemporalConfig) TLSClient() (*tls.Config, error) {
	if !t.usesTLS() {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.TLS.ServerName}
	if t.TLS.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.TLS.CertFile, t.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("temporal.tls.cert_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if t.TLS.CAFile != "" {
		roots, err := readAuthorities("temporal.tls.ca_file", t.TLS.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = roots
	}
	return c, nil
}

// readAuthorities reads the certificate authorities of a field's PEM file. An empty path gives nil, which are
// the system's.
func readAuthorities(field, path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s contains no certificate", field, path)
	}
	return roots, nil
}
