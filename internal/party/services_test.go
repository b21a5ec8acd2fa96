package party

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestServicesBeyondThisMachine checks the defaults of TLS, and which settings are unsafe.
func TestServicesBeyondThisMachine(t *testing.T) {
	for _, c := range []struct {
		name, document string
		database       string // the URL in use; "" is not checked
		storage        string
		unsafe         []string
	}{
		{name: "defaults", document: ""},
		{name: "loopback", document: `
database: {url: 'postgres://u:p@localhost:5432/d'}
storage: {url: 's3://127.0.0.1:9000?username=u&password=p'}
temporal: {address: '[::1]:7233'}`,
			database: "postgres://u:p@localhost:5432/d",
			storage:  "s3://127.0.0.1:9000?username=u&password=p"},
		{name: "socket", document: `database: {url: 'postgres://u@/d?host=/run/postgresql'}`,
			database: "postgres://u@/d?host=/run/postgresql"},
		{name: "verified by default", document: `
database: {url: 'postgres://u:p@db:5432/d', ca_file: /etc/db.pem}
storage: {url: 's3://s3.bank:9000?username=u&password=p'}
temporal: {address: 'temporal:7233', tls: {enabled: true}}`,
			database: "postgres://u:p@db:5432/d?sslmode=verify-full&sslrootcert=%2Fetc%2Fdb.pem",
			storage:  "s3://s3.bank:9000?password=p&secure=true&username=u"},
		{name: "an API key means TLS", document: `temporal: {address: 'temporal:7233', api_key: k}`},
		{name: "all of them unsafe", document: `
database: {url: 'postgres://u:p@10.0.0.1/d?sslmode=require'}
storage: {url: 's3://s3.bank:9000?username=u&password=p&secure=false'}
temporal: {address: 'temporal:7233'}`,
			unsafe: []string{"temporal.tls: the connection to Temporal at temporal:7233 is neither encrypted",
				"database.url: sslmode=require does not verify that the server is 10.0.0.1",
				"storage.url: the connection to s3.bank:9000 is neither encrypted"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Default()
			require.NoError(t, cfg.readYAML([]byte("node_id: A\n"+c.document)))
			require.NoError(t, cfg.Complete())
			require.NoError(t, cfg.Complete(), "it may be completed again")
			err := cfg.Validate()
			for _, want := range c.unsafe {
				require.ErrorContains(t, err, want, "security.mode strict refuses it")
			}
			cfg.Security.Mode = SecurityOpen
			require.NoError(t, cfg.Validate())
			if len(c.unsafe) == 0 {
				require.NoError(t, err)
			}
			if c.database != "" {
				assert.Equal(t, c.database, cfg.Database.URL.Reveal())
			}
			if c.storage != "" {
				assert.Equal(t, c.storage, cfg.Storage.URL.Reveal())
			}
			problems := UnsafeServices(cfg)
			require.Len(t, problems, len(c.unsafe), "%v", problems)
			for i, want := range c.unsafe {
				assert.Contains(t, problems[i].String(), want)
				assert.NotEmpty(t, problems[i].Remedy)
				assert.NotContains(t, problems[i].String(), "p@", "no secret")
			}
		})
	}
}

func writeSecret(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

func TestSecretFiles(t *testing.T) {
	base := []string{"HUTONG_NODE_ID=A", "HUTONG_DATA_DIR=" + t.TempDir()}
	for field, value := range map[string]string{
		"DATABASE_URL":     "postgres://u:s3cret@localhost/d",
		"STORAGE_URL":      "s3://localhost:9000?password=s3cret",
		"TEMPORAL_API_KEY": "s3cret", "PROXY_URL": "http://u:s3cret@proxy:3128",
	} {
		t.Run(field, func(t *testing.T) {
			name := "HUTONG_" + field + "_FILE="
			c, err := Load("", append(base, name+writeSecret(t, value+"\n", 0o440)))
			require.NoError(t, err)
			found := false
			for _, s := range c.secretFiles() {
				found = found || s.value.Reveal() == value && s.path != ""
			}
			assert.True(t, found, "the secret is that of the file")
			shown, err := c.YAML()
			require.NoError(t, err)
			assert.NotContains(t, string(shown), "s3cret")

			_, err = Load("", append(base, name+writeSecret(t, value, 0o640), "HUTONG_"+field+"="+value))
			require.ErrorContains(t, err, "_file: set only one of them")
			assert.NotContains(t, err.Error(), "s3cret")
			_, err = Load("", append(base, name+writeSecret(t, value, 0o644)))
			require.ErrorContains(t, err, "_file: every user of this machine may use ")
			assert.NotContains(t, err.Error(), "s3cret")
			_, err = Load("", append(base, name+"/no/such/file"))
			require.ErrorContains(t, err, "_file: failed to read the secret: stat /no/such/file")
		})
	}
}

// TestEverySecretHasAFile fails for a new secret of the configuration without a file.
func TestEverySecretHasAFile(t *testing.T) {
	c := Default()
	count := 0
	forEachSecret(c, func(*Secret) { count++ })
	assert.Equal(t, count, len(c.secretFiles()), "list it in secretFiles")
}

func TestEncryptionIsChecked(t *testing.T) {
	for _, c := range []struct{ section, problem string }{
		{"{keys_dir: /k, keys: {a: /a}}", "temporal.encryption: set keys_dir or keys, not both"},
		{"{keys: {a: /a}}", "temporal.encryption.key_id: is required with keys"},
		{"{key_id: a}", "temporal.encryption.key_id: requires keys_dir or keys"},
		{"{keys_dir: /k, algorithm: des}",
			`temporal.encryption.algorithm: must be one of [aes-256-gcm sm4-gcm], but is "des"`},
		{"{keys: {../a: /a}, key_id: ../a}", `temporal.encryption.keys: "../a" is not the id of a key`},
	} {
		_, err := Load(write(t, "node_id: A\ntemporal: {encryption: "+c.section+"}"), nil)
		require.ErrorContains(t, err, c.problem)
	}
	_, err := Load(write(t, "node_id: A\ntemporal: {codec: {origins: ['https://ui/path']}}"), nil)
	require.ErrorContains(t, err, `temporal.codec.origins: "https://ui/path" is not an origin`)
}

// forEachSecret visits the secrets in a configuration.
func forEachSecret(c *Config, visit func(*Secret)) {
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		if s, ok := v.Addr().Interface().(*Secret); ok {
			visit(s)
		} else if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		}
	}
	walk(reflect.ValueOf(c).Elem())
}

// TestOpenDatabaseCreatesNone checks that only a migration creates a SQLite file.
func TestOpenDatabaseCreatesNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "folder", "hutong.db")
	cfg := Default()
	cfg.NodeID, cfg.DataDir = "A", t.TempDir()
	cfg.Database.URL = Secret("sqlite://" + file)
	require.NoError(t, cfg.Complete())

	_, err := cfg.OpenDatabase(t.Context())
	require.ErrorContains(t, err, file+" does not exist; hutong migrate creates it")
	require.NoDirExists(t, filepath.Dir(file))

	require.NoError(t, Migrate(t.Context(), cfg))
	db, err := cfg.OpenDatabase(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.CheckSchema(t.Context()))
	require.NoError(t, db.Close())
}
