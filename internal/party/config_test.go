package party

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/activities/driver"
	"hutong/bfia"
)

func write(t *testing.T, document string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hutong.yaml")
	require.NoError(t, os.WriteFile(path, []byte(document), 0o600))
	return path
}

func TestDefaultsComplete(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	require.NoError(t, err)
	c, err := Load("", []string{"HUTONG_NODE_ID=JG01"})
	require.NoError(t, err)
	assert.Equal(t, "hutong-jg01", c.Temporal.Namespace)
	assert.Equal(t, "JG01", c.Scheduler)
	assert.Equal(t, filepath.Join(here, "hutong-data"), c.DataDir)
	assert.Equal(t, "sqlite://"+here+"/hutong-data/hutong.db", c.Database.URL.Reveal())
	assert.Equal(t, "file://"+here+"/hutong-data/storage", c.Storage.URL.Reveal())
	assert.Equal(t, filepath.Join(here, "hutong-data", "upload"), c.Upload.Dir)
	assert.GreaterOrEqual(t, c.Runner.Slots, 2)
	assert.Equal(t, 30*24*time.Hour, c.Jobs.Retention)
}

func TestLayers(t *testing.T) {
	path := write(t,
		"node_id: A\nlisten: 127.0.0.1:1\nsecurity: {mode: open}\nremote: {timeout: 3s}\n"+
			"partners: {tls: {cert_file: /p.pem, key_file: /p.pem, ca_file: /ca.pem}}\n"+
			"routes: {B: {url: 'http://b:1'}}\n")
	c, err := Load(
		path,
		[]string{"HUTONG_LISTEN=127.0.0.1:2", "HUTONG_REMOTE_GIVE_UP_AFTER=1h", "HUTONG_LOG_LEVEL=debug",
			"HUTONG_JOBS_CHECK_DATASETS=false", "HUTONG_RUNNER_PROCESS_ALLOW=/bin/a,/bin/b",
			"HUTONG_TRANSPORT_TOTAL_MIB=",
			"HUTONG_SERVICE_HOST=10.0.0.1", "OTHER=1", "HUTONG_TEMPORAL_TLS_CA_FILE=/ca.pem"},
	)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:2", c.Listen)
	assert.Equal(t, 3*time.Second, c.Remote.Timeout)
	assert.Equal(t, time.Hour, c.Remote.GiveUpAfter)
	assert.Equal(t, slog.LevelDebug, c.Log.Level)
	assert.False(t, c.Jobs.CheckDatasets)
	assert.Equal(t, []string{"/bin/a", "/bin/b"}, c.Runner.Process.Allow)
	assert.Equal(t, 32768, c.Transport.TotalMiB, "an empty variable counts as unset")
	assert.Equal(t, "/ca.pem", c.Temporal.TLS.CAFile)
	assert.Equal(t, Routes{"B": {URL: "http://b:1"}}, c.Routes)

	c, err = Load(
		path,
		[]string{"HUTONG_RUNNER_LABELS=gpu=1,region=north", "HUTONG_RUNNER_CPU=1.5",
			"HUTONG_RUNNER_MEMORY=0.5", "HUTONG_RUNNER_DISK=20"},
	)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"gpu": "1", "region": "north"}, c.Runner.Labels)
	assert.Equal(t,
		driver.Capacity{Resources: bfia.Resources{CPUMilli: 1500, Memory: 1 << 29, Disk: 20 << 30}},
		c.Runner.Offered(driver.Capacity{Resources: bfia.Resources{CPUMilli: 8000, Memory: 1, Disk: 1}}))
	assert.Equal(t, driver.Capacity{Resources: bfia.Resources{CPUMilli: 1, Memory: 2, Disk: 3}},
		Default().Runner.Offered(driver.Capacity{Resources: bfia.Resources{CPUMilli: 1, Memory: 2, Disk: 3}}))

	c, err = Load(path, []string{"HUTONG_ROUTES= C=https://c/x|https://ct:2\n D=http://d?no "})
	require.ErrorContains(t, err,
		`routes.D.url: must be http://host:port or https://host:port, but is "http://d?no"`)
	assert.Nil(t, c)
	c, err = Load(path, []string{"HUTONG_ROUTES= C=https://c/x|https://ct:2\n D=http://d:1 "})
	require.NoError(t, err)
	assert.Equal(t, Routes{"C": {URL: "https://c/x", TransportURL: "https://ct:2"}, "D": {URL: "http://d:1"}},
		c.Routes)
	assert.Equal(t, "http://d:1", c.Routes["D"].Transport())
	assert.Equal(t, "https://ct:2", c.Routes["C"].Transport())
}

func TestEmptyFile(t *testing.T) {
	_, err := Load(write(t, "# nothing\n"), []string{"HUTONG_NODE_ID=A"})
	require.NoError(t, err)
	_, err = Load(write(t, "node_id: A\ntransport:\n"), nil)
	require.NoError(t, err)
}

func TestInvalidFile(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"unknown key", "node_id: A\nlistn: x\n", "line 2: unknown field listn; did you mean listen?"},
		{"unknown key below", "node_id: A\nrunner:\n  docker:\n    imag: x\n",
			"line 4: unknown field runner.docker.imag"},
		{"unknown key in a route", "node_id: A\nroutes:\n  B:\n    uri: x\n",
			"line 4: unknown field routes.B.uri; did you mean url?"},
		{"two errors", "a: 1\nb: 2\n", "line 1: unknown field a; line 2: unknown field b"},
		{"twice", "node_id: A\nlisten: a\nlisten: b\n", `mapping key "listen" already defined`},
		{"type", "node_id: A\nrunner: {slots: many}\n", "line 2: cannot unmarshal !!str `many` into int"},
		{"duration without unit", "node_id: A\nremote: {timeout: 10}\n",
			`line 2: remote.timeout: "10" is not a duration: write numbers with units, such as 30d, 12h or 1m30s`},
		{"a list for a duration", "node_id: A\nremote:\n  timeout: [1s]\n",
			"line 3: remote.timeout: must be a duration"},
		{"level", "node_id: A\nlog: {level: loud}\n", "loud"},
		{"two documents", "node_id: A\n---\nnode_id: B\n", "more than one YAML document"},
		{"not YAML", "\tx", "found character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(write(t, c.document), nil)
			assert.ErrorContains(t, err, c.want)
		})
	}
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// TestDurations checks that a duration means the same in the file and in the environment, and is printed as
// it can be written.
func TestDurations(t *testing.T) {
	path := write(t, "node_id: A\njobs: &jobs\n  retention: 30d\n  poll_after: ~\nremote: {timeout: 1m30s}\n"+
		"transport: {session_ttl: 1w}\n")
	c, err := Load(path, []string{"HUTONG_REMOTE_GIVE_UP_AFTER=2d12h"})
	require.NoError(t, err)
	assert.Equal(t, 30*24*time.Hour, c.Jobs.Retention)
	assert.Equal(t, 10*time.Second, c.Jobs.PollAfter, "null leaves the default")
	assert.Equal(t, 90*time.Second, c.Remote.Timeout)
	assert.Equal(t, 7*24*time.Hour, c.Transport.SessionTTL)
	assert.Equal(t, 60*time.Hour, c.Remote.GiveUpAfter)
	document, err := c.YAML()
	require.NoError(t, err)
	for _, line := range []string{"retention: 30d", "timeout: 1m30s", "session_ttl: 7d",
		"give_up_after: 2d12h"} {
		assert.Contains(t, string(document), line)
	}
}

// TestWithoutConfiguration checks that the words are about the missing file, not about the fields that it
// would have.
func TestWithoutConfiguration(t *testing.T) {
	_, err := Load("", nil)
	require.EqualError(t, err,
		"no configuration is given: name the party's file with -c FILE or HUTONG_CONFIG, or set "+
			"HUTONG_NODE_ID; deploy/config/party.example.yaml explains every field")
	_, err = Load("nowhere.yaml", nil)
	require.ErrorContains(t, err, "failed to read the configuration: open nowhere.yaml: no such file")
}

func TestInvalidEnvironment(t *testing.T) {
	for _, c := range []struct{ variable, want string }{
		{"HUTONG_RUNNER_SLOTS=many", `HUTONG_RUNNER_SLOTS: strconv.ParseInt: parsing "many"`},
		{"HUTONG_REMOTE_TIMEOUT=10", `HUTONG_REMOTE_TIMEOUT: "10" is not a duration`},
		{"HUTONG_RUNNER_LABELS=gpu", "HUTONG_RUNNER_LABELS:"},
		{"HUTONG_RUNNER_LABELS=gpu=", "runner.labels.gpu: is required"},
		{"HUTONG_RUNNER_MEMORY=4GiB", "HUTONG_RUNNER_MEMORY:"},
		{"HUTONG_RUNNER_MEMORY=4294967296",
			"runner.memory: must be from 0.001 to 1000000 GiB, or 0 for the machine's amount, but is " +
				"4.294967296e+09"},
		{"HUTONG_RUNNER_DISK=-1",
			"runner.disk: must be from 0.001 to 1000000 GiB, or 0 for the machine's amount, but is -1"},
		{"HUTONG_RUNNER_CPU=NaN",
			"runner.cpu: must be from 0.001 to 1000000 cores, or 0 for the machine's amount, but is NaN"},
		{"HUTONG_ROUTES=B", `HUTONG_ROUTES: "B" is not of the form NODE=URL`},
		{"HUTONG_ROUTES=B=http://b B=http://c", "HUTONG_ROUTES: node B is given twice"},
		{"HUTONG_LOG_LEVEL=loud", "HUTONG_LOG_LEVEL:"},
	} {
		_, err := Load("", []string{"HUTONG_NODE_ID=A", c.variable})
		assert.ErrorContains(t, err, c.want)
	}
}

func TestSecretsStayHidden(t *testing.T) {
	c := Default()
	c.NodeID, c.Database.URL, c.Storage.URL, c.Temporal.APIKey = "A", "postgres://hush", "file:///hush",
		"hush"
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "key", c.Temporal.APIKey)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c, "key", c.Temporal.APIKey)
	document, err := c.YAML()
	require.NoError(t, err)
	shown := log.String() + string(document)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, *c) + fmt.Sprintf(verb,
			c.Temporal.APIKey) + fmt.Sprintf(verb, &c.Database.URL)
	}
	assert.NotContains(t, shown, "hush")
	assert.NotContains(t, shown, fmt.Sprintf("%x", "hush"))
	assert.Contains(t, string(document), `url: '***'`)
	assert.Equal(t, "hush", c.Temporal.APIKey.Reveal())
	assert.Empty(t, Secret("").String())
}

// TestYAMLRoundTrip checks that a printed configuration without secrets can be read again.
func TestYAMLRoundTrip(t *testing.T) {
	c, err := Load("../../deploy/config/party.example.yaml", nil)
	require.NoError(t, err)
	c.Database.URL, c.Storage.URL, c.Temporal.APIKey = "", "", ""
	document, err := c.YAML()
	require.NoError(t, err)
	var again Config
	require.NoError(t, again.readYAML(document))
	assert.Equal(t, *c, again)
}

// TestExample checks that the example configuration is valid, and shows every field with its default.
func TestExample(t *testing.T) {
	c, err := Load("../../deploy/config/party.example.yaml", nil)
	require.NoError(t, err)

	document, err := os.ReadFile("../../deploy/config/party.example.yaml")
	require.NoError(t, err)
	var shown map[string]any
	require.NoError(t, yaml.Unmarshal(document, &shown))
	everyField(t, reflect.TypeFor[Config](), shown, "")

	c.Routes, c.Partners.TLS = nil, PartnerTLSConfig{} // examples, because they have no default
	want := Default()
	want.NodeID, want.Runner.Slots, want.Runner.Process.Allow, want.Runner.Labels = c.NodeID, 2, []string{},
		map[string]string{}
	want.Runner.K8s.ImagePullSecrets, want.Runner.GPUs = []string{}, []string{}
	want.Proxy.NoProxy, want.Images.Registries = []string{}, []string{}
	want.Partners.TrustedProxies.SPKI = []string{}
	want.OIDC.Roles, want.ClientCertificates = RoleMap{}, []ClientCertificate{}
	want.Notifications.Receivers = []ReceiverConfig{}
	want.Temporal.Encryption.Keys, want.Temporal.Codec.Origins = map[string]string{}, []string{}
	require.NoError(t, want.Complete())
	assert.Equal(t, want, c)
}

// everyField checks that a document has exactly the keys of a struct.
func everyField(t *testing.T, typ reflect.Type, shown map[string]any, path string) {
	t.Helper()
	keys := map[string]bool{}
	for i := range typ.NumField() {
		field := typ.Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		require.NotEmpty(t, key, "%s%s has no key", path, field.Name)
		keys[key] = true
		value, found := shown[key]
		if !assert.True(t, found, "%s%s is missing", path, key) {
			continue
		}
		switch field.Type.Kind() {
		case reflect.Struct:
			if !strings.HasPrefix(path, "routes.") { // one variable holds all routes
				assert.NotEmpty(t, field.Tag.Get("envPrefix"), "%s%s", path, key)
			}
			everyField(t, field.Type, value.(map[string]any), path+key+".")
		case reflect.Map:
			for name, entry := range value.(map[string]any) {
				everyField(t, field.Type.Elem(), entry.(map[string]any), path+key+"."+name+".")
			}
		}
	}
	for key := range shown {
		assert.True(t, keys[key], "%s%s is not a field", path, key)
	}
}

// TestVariableNames checks that each field's variable is its path in capitals.
func TestVariableNames(t *testing.T) {
	params, err := env.GetFieldParamsWithOptions(&Config{}, env.Options{Prefix: EnvPrefix})
	require.NoError(t, err)
	var got []string
	for _, p := range params {
		if p.OwnKey != "" {
			got = append(got, p.Key)
		}
	}
	var want []string
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
			name := prefix + strings.ToUpper(key)
			if typ.Field(i).Type.Kind() == reflect.Struct {
				walk(typ.Field(i).Type, name+"_")
			} else if typ.Field(i).Type != reflect.TypeFor[[]ClientCertificate]() &&
				typ.Field(i).Type != reflect.TypeFor[[]ReceiverConfig]() { // only in the file
				want = append(want, name)
			}
		}
	}
	walk(reflect.TypeFor[Config](), EnvPrefix)
	assert.Equal(t, want, got)
}
