package party

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
)

// EnvPrefix begins the name of every environment variable of the configuration.
const EnvPrefix = "HUTONG_"

// Default is the configuration of a party of which nothing is known but what most parties want. It lacks a node id.
func Default() *Config {
	return &Config{
		Listen:    "127.0.0.1:9380",
		DataDir:   "hutong-data",
		Transport: TransportConfig{Listen: "127.0.0.1:9390", SessionTTL: 7 * 24 * time.Hour, MaxMessageMiB: 2048, SessionMiB: 8192, TotalMiB: 32768},
		Temporal:  TemporalConfig{Address: "127.0.0.1:7233"},
		Upload:    UploadConfig{MaxBytes: 8 << 30},
		Jobs: JobsConfig{CheckDatasets: true, Parameters: ParametersWarn, MaxDocumentBytes: 1 << 20, Retention: 30 * 24 * time.Hour,
			PollAfter: 10 * time.Second, PollEvery: 2 * time.Second, MaxAttempts: 3, RunnerLostAfter: 5 * time.Minute, Approval: ApprovalAuto, ShareFailure: bfia.ShareKind},
		Runner: RunnerConfig{Slots: max(2, runtime.NumCPU()), StopGrace: 10 * time.Second,
			Docker: DockerConfig{Enabled: SwitchAuto, PartyHost: "hutong"}},
		Remote: RemoteConfig{Timeout: 10 * time.Second, GiveUpAfter: 10 * time.Minute},
		Log:    LogConfig{Level: slog.LevelInfo, Format: LogText},
	}
}

// Load reads the file at path ("" for none) over the defaults, then environ (as os.Environ gives it) over that, completes
// it and validates it. A key that the file should not have is an error with its line; no error tells a secret.
func Load(path string, environ []string) (*Config, error) {
	c := Default()
	if path != "" {
		document, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if err := c.readYAML(document); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	if err := c.readEnv(environ); err != nil {
		return nil, fmt.Errorf("configuration from the environment: %w", err)
	}
	if err := c.Complete(); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// YAML is the configuration as a file would have it, secrets hidden.
func (c *Config) YAML() ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return out.Bytes(), nil
}

func (c *Config) readYAML(document []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(document))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		var wrong *yaml.TypeError
		if errors.As(err, &wrong) {
			return errors.New(strings.Join(plainYAML(wrong.Errors), "; "))
		}
		return err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("holds more than one YAML document")
	}
	return nil
}

// plainYAML says yaml's findings without the names of Go's types: "line 3: unknown field listn".
func plainYAML(findings []string) []string {
	plain := slices.Clone(findings)
	for i, finding := range plain {
		line, what, ok := strings.Cut(finding, ": field ")
		if field, _, unknown := strings.Cut(what, " not found in type "); ok && unknown {
			plain[i] = fmt.Sprintf("%s: unknown field %s", line, field)
		}
	}
	return plain
}

func (c *Config) readEnv(environ []string) error {
	vars := env.ToMap(slices.DeleteFunc(slices.Clone(environ), func(v string) bool { return !strings.HasPrefix(v, EnvPrefix) }))
	options := env.Options{Environment: vars, Prefix: EnvPrefix}
	err := env.ParseWithOptions(c, options)
	if err == nil {
		return nil
	}
	// The library names Go's fields. Tried alone, each variable tells whether it was the one.
	var wrong []error
	for name, value := range vars {
		options.Environment = map[string]string{name: value}
		if err := env.ParseWithOptions(&Config{}, options); err != nil {
			var parse env.ParseError
			if errors.As(err, &parse) {
				err = parse.Err
			}
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
	}
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	return err
}

// Complete fills in what follows from other fields, and makes paths absolute.
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
		c.Database.URL = Secret((&url.URL{Scheme: "sqlite", Path: filepath.ToSlash(filepath.Join(dir, "hutong.db"))}).String())
	}
	if c.Storage.URL == "" {
		c.Storage.URL = Secret((&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(dir, "storage"))}).String())
	}
	if c.Temporal.Namespace == "" && c.NodeID != "" {
		c.Temporal.Namespace = "hutong-" + strings.ToLower(c.NodeID)
	}
	if c.Scheduler == "" {
		c.Scheduler = c.NodeID
	}
	if c.Runner.K8s.Kubeconfig != "" {
		if c.Runner.K8s.Kubeconfig, err = filepath.Abs(c.Runner.K8s.Kubeconfig); err != nil {
			return fmt.Errorf("runner.k8s.kubeconfig: %w", err)
		}
	}
	return nil
}

// TLSClient is the TLS of the connection to the cluster, nil for none: the files are read here.
func (t TemporalConfig) TLSClient() (*tls.Config, error) {
	if t.TLS == (TLSConfig{}) && t.APIKey == "" {
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
		pem, err := os.ReadFile(t.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("temporal.tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("temporal.tls.ca_file: %s holds no certificate", t.TLS.CAFile)
		}
	}
	return c, nil
}
