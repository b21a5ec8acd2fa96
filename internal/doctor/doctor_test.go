package doctor_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/doctor"
	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv/ports"
)

const node = "JG0100001100000010"

func freeAddress(t *testing.T) string {
	address, err := ports.Address()
	require.NoError(t, err)
	return address
}

func startParty(t *testing.T, as string, date time.Time) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
		_, _ = fmt.Fprintf(w, `{"code":0,"data":{"node_id":%q}}`, as)
	}))
	t.Cleanup(s.Close)
	return s
}

// startFATE starts a partner that implements the protocol without Hutong's extensions, with its transport at
// the same address.
func startFATE(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/interconn/schedule/task/poll":
			_, _ = fmt.Fprint(w, `{"code":1,"msg":"no task"}`)
		case "/v1/interconn/chan/invoke":
			_, _ = fmt.Fprint(w, `{"code":"E0000000602","message":"no session"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func examine(t *testing.T, cfg *party.Config) map[string]doctor.Check {
	t.Helper()
	require.NoError(t, cfg.Complete())
	require.NoError(t, cfg.Validate())
	found := map[string]doctor.Check{}
	began := time.Now()
	for _, c := range doctor.Examine(t.Context(), cfg) {
		require.NotContains(t, found, c.Name)
		found[c.Name] = c
		assert.Equal(t, c.State == doctor.OK, c.Fix == "", "%+v", c)
		assert.NotContains(t, c.Detail, "hush")
		assert.NotContains(t, c.Detail, "\n")
	}
	assert.Less(t, time.Since(began), time.Minute)
	return found
}

// TestBroken checks that each failed check names the cause and a fix.
func TestBroken(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	impostor := startParty(t, "OTHER", time.Now())
	late := startParty(t, "LATE", time.Now().Add(-time.Hour))
	foreign := startParty(t, "FOREIGN", time.Now())
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		http.NotFound(w, r)
	}))
	t.Cleanup(web.Close)

	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Upload.Dir = node, dir, plain
	cfg.Listen, cfg.Transport.Listen = foreign.Listener.Addr().String(), freeAddress(t)
	cfg.Security.Mode = party.SecurityOpen
	authority, _, err := certs.OpenAuthority(t.TempDir(), "test")
	require.NoError(t, err)
	own := filepath.Join(t.TempDir(), "own.pem")
	require.NoError(t, authority.IssueFile(own, certs.Leaf{Node: node}))
	cfg.Partners.TLS.CertFile, cfg.Partners.TLS.KeyFile = own, own
	cfg.Temporal.Address = freeAddress(t)
	cfg.Database.URL = party.Secret("postgres://u:hush@" + freeAddress(t) + "/x?sslmode=disable")
	cfg.Storage.URL = party.Secret("s3://" + freeAddress(t) + "?username=u&password=hush&bucket=b")
	cfg.Runner.Process.Allow = []string{plain}
	cfg.Runner.Docker.Enabled = party.SwitchOff
	cfg.Routes = party.Routes{
		"IMPOSTOR":  {URL: impostor.URL},
		"LATE":      {URL: late.URL},
		"GONE":      {URL: "http://" + freeAddress(t)},
		"SILENT":    {URL: "http://" + silent.Addr().String()},
		"DUPLICATE": {URL: impostor.URL + "/"},
		"WEB":       {URL: web.URL},
		"FATE":      {URL: startFATE(t).URL},
	}
	found := examine(t, cfg)
	for name, want := range map[string]struct {
		state       doctor.State
		detail, fix string
	}{
		"data_dir":                {doctor.OK, dir, ""},
		"upload.dir":              {doctor.Failed, plain, "upload.dir"},
		"transport.spool_dir":     {doctor.Warning, "spool", "create it"},
		"runner.process.allow[0]": {doctor.Failed, plain, "chmod +x"},
		"temporal":                {doctor.Failed, cfg.Temporal.Address, "temporal.address"},
		"connections":             {doctor.OK, "stays here", ""},
		"database":                {doctor.Failed, "", "database.url"},
		"storage":                 {doctor.Failed, "", "storage.url"},
		"docker":                  {doctor.OK, "off", ""},
		"isolation":               {doctor.OK, "off", ""},
		"capacity":                {doctor.OK, "slot(s)", ""},
		"listen":                  {doctor.Failed, cfg.Listen, "another port"},
		"transport.listen":        {doctor.Warning, "not running", "hutong transport"},
		"proxy":                   {doctor.OK, "none", ""},
		"routes":                  {doctor.Warning, "DUPLICATE", "gateway"},
		"routes.IMPOSTOR":         {doctor.Failed, "OTHER", "node id"},
		"routes.DUPLICATE":        {doctor.Failed, "OTHER", "node id"},
		"routes.LATE":             {doctor.Warning, "its clock differs from this one by", "NTP"},
		"routes.GONE":             {doctor.Failed, "GONE", "check firewalls"},
		"routes.SILENT":           {doctor.Failed, "SILENT", "check firewalls"},
		"routes.WEB":              {doctor.Failed, "not the BFIA protocol", "at which URL"},
		"routes.FATE":             {doctor.OK, "a party answers", ""},
		"runners":                 {doctor.Failed, "", "database"},
		"clocks":                  {doctor.Failed, "", "database"},
		"restore":                 {doctor.Failed, "", "database"},
		"housekeeping":            {doctor.Failed, "", "database"},
		"images":                  {doctor.Failed, "", "database"},
		"projects":                {doctor.Failed, "", "check database"},
		"audit trail":             {doctor.Failed, "", "database"},
		"partners.tls":            {doctor.OK, "is valid until", ""},

		"routes.IMPOSTOR.transport_url":  {doctor.Failed, "is not a transport", "transport's address"},
		"routes.DUPLICATE.transport_url": {doctor.Failed, "is not a transport", "transport's address"},
		"routes.LATE.transport_url":      {doctor.Failed, "is not a transport", "transport's address"},
		"routes.WEB.transport_url":       {doctor.Failed, "is not a transport", "transport's address"},
		"routes.GONE.transport_url":      {doctor.Failed, "GONE", "check firewalls"},
		"routes.SILENT.transport_url":    {doctor.Failed, "SILENT", "check firewalls"},
		"routes.FATE.transport_url":      {doctor.OK, "a transport answers", ""},
	} {
		c := found[name]
		assert.Equal(t, want.state, c.State, "%+v", c)
		assert.Contains(t, c.Detail, want.detail, name)
		assert.Contains(t, c.Fix, want.fix, name)
		delete(found, name)
	}
	assert.Empty(t, found, "checks missing from the table")
}

// TestConnections checks that doctor names what security.mode strict refuses.
func TestConnections(t *testing.T) {
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Security.Mode = node, t.TempDir(), party.SecurityOpen
	cfg.Temporal.Address = "192.0.2.1:7233" // reserved for documentation
	cfg.Database.URL = "postgres://u:hush@192.0.2.1/x?sslmode=require&connect_timeout=1"
	c := examine(t, cfg)["connections"]
	assert.Equal(t, doctor.Failed, c.State)
	assert.Contains(t, c.Detail, "temporal.tls: the connection to Temporal at 192.0.2.1:7233")
	assert.Contains(t, c.Detail, "database.url: sslmode=require does not verify")
	assert.Contains(t, c.Fix, "temporal.tls.enabled")
	cfg.Database.URL, cfg.Temporal.TLS.Enabled = "", true
	c = examine(t, cfg)["connections"]
	assert.Equal(t, doctor.Warning, c.State)
	assert.Contains(t, c.Fix, "temporal.encryption.keys_dir")
}

// TestFiles checks a database and a storage on this disk, before and after their creation.
func TestFiles(t *testing.T) {
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir = node, t.TempDir()
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(t), freeAddress(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	partner := startParty(t, "B", time.Now())
	cfg.Security.Mode = party.SecurityOpen
	cfg.Routes = party.Routes{"B": {URL: partner.URL}}
	found := examine(t, cfg)
	assert.Equal(t, doctor.Failed, found["database"].State)
	assert.Contains(t, found["database"].Fix, "hutong migrate")
	assert.Equal(t, doctor.Warning, found["storage"].State)
	assert.Equal(t, doctor.OK, found["routes.B"].State, "%+v", found["routes.B"])
	left, err := os.ReadDir(cfg.DataDir)
	require.NoError(t, err)
	assert.Empty(t, left, "an examination makes nothing")

	require.NoError(t, party.Migrate(t.Context(), cfg))
	require.NoError(t, os.Mkdir(filepath.Join(cfg.DataDir, "storage"), 0o750))
	found = examine(t, cfg)
	assert.Equal(t, doctor.OK, found["database"].State, "%+v", found["database"])
	assert.Equal(t, doctor.OK, found["storage"].State, "%+v", found["storage"])
}

// TestRunnerClock examines a party with a runner whose clock is slow. The runner is online, and the doctor
// names it.
func TestRunnerClock(t *testing.T) {
	address := storetest.Postgres(t)
	db := storetest.Open(t, address)
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Database.URL = node, t.TempDir(), party.Secret(address)
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(t), freeAddress(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	require.NoError(t, db.PutRunner(t.Context(), store.Runner{RunnerID: "fine", Slots: 1, Clock: time.Now()}))
	clocks := examine(t, cfg)["clocks"]
	assert.Equal(t, doctor.OK, clocks.State, "%+v", clocks)

	require.NoError(t, db.PutRunner(t.Context(),
		store.Runner{RunnerID: "slow", Slots: 1, Clock: time.Now().Add(-90 * time.Second)}))
	clocks = examine(t, cfg)["clocks"]
	assert.Equal(t, doctor.Warning, clocks.State)
	assert.Regexp(t, `^the clock of runner slow is 1m[23][0-9]s behind the database's$`, clocks.Detail)
	assert.Contains(t, clocks.Fix, "synchronize the clocks")
}

// TestFailedRemovals examines a party whose housekeeping could not remove a job.
func TestFailedRemovals(t *testing.T) {
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Database.URL = node, t.TempDir(), party.Secret(address)
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(t), freeAddress(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	assert.Equal(t, doctor.OK, examine(t, cfg)["housekeeping"].State)

	require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: "j1", CreatedAt: time.Now()}, nil))
	require.NoError(t, db.SetRemovalFailure(t.Context(), "j1", "open /srv/out/private: permission denied"))
	found := examine(t, cfg)["housekeeping"]
	assert.Equal(t, doctor.Warning, found.State)
	assert.Contains(t, found.Detail, "job j1: open /srv/out/private: permission denied")
	assert.Contains(t, found.Fix, "chown")
}

// TestMissingImages examines a party with two runners, of which one lacks the image of a provider.
func TestMissingImages(t *testing.T) {
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Database.URL = node, t.TempDir(), party.Secret(address)
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(t), freeAddress(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	_, err := db.PutProvider(t.Context(), store.Provider{Name: "p", Version: "1", Device: "docker",
		Metadata: []byte(`{"image":"p:1"}`), Components: map[string]json.RawMessage{"C": []byte(`{}`)}})
	require.NoError(t, err)
	put := func(id, device string, images map[string]string) {
		require.NoError(t, db.PutRunner(t.Context(), store.Runner{RunnerID: id, Machine: "m-" + id,
			Devices: []string{device}, Slots: 1, Images: images}))
	}
	put("a", "docker", map[string]string{"p:1": "sha256:1"})
	put("b", "docker", nil)
	put("c", "process", nil)
	found := examine(t, cfg)["images"]
	assert.Equal(t, doctor.Warning, found.State)
	assert.Equal(t, "runner b (machine m-b) lacks the image p:1", found.Detail)
	put("b", "docker", map[string]string{"p:1": "sha256:1"})
	assert.Equal(t, doctor.OK, examine(t, cfg)["images"].State)
}

func TestPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "party.yaml")
	assert.Equal(t, doctor.Failed, doctor.Private("f", path).State)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	assert.Equal(t, doctor.OK, doctor.Private("f", path).State)
	require.NoError(t, os.Chmod(path, 0o644))
	assert.Contains(t, doctor.Private("f", path).Fix, "chmod o-rwx "+path)
}

// TestArchivedTrail examines a party that has archived entries of its audit trail, and then one from which
// somebody has removed more.
func TestArchivedTrail(t *testing.T) {
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Database.URL = node, t.TempDir(), party.Secret(address)
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(t), freeAddress(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 5 {
		require.NoError(t, db.AppendAudit(t.Context(), audit.New(identity.Principal{}, audit.Submit,
			audit.Object{}, audit.Allowed, at)))
	}
	list, err := db.AuditEntries(t.Context(), store.AuditFilter{Ascending: true})
	require.NoError(t, err)
	ctx := audit.With(t.Context(), audit.NewPending(identity.Principal{}, audit.ArchiveTrail,
		func() string { return "" }))
	_, err = db.ArchiveAudit(ctx, audit.Head{Seq: 3, Hash: list[2].Hash})
	require.NoError(t, err)
	found := examine(t, cfg)["audit trail"]
	assert.Equal(t, doctor.OK, found.State)
	assert.Contains(t, found.Detail, "the last 3 entries of the audit trail are unaltered; head 6:")
	assert.Contains(t, found.Detail, "; the entries up to 3 (2026-01-02) are archived")

	raw, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(address, "sqlite://"))
	require.NoError(t, err)
	_, err = raw.ExecContext(t.Context(), "UPDATE t_audit_base SET seq = 4, "+
		"hash = (SELECT hash FROM t_audit WHERE seq = 4)")
	require.NoError(t, errors.Join(err, raw.Close()))
	found = examine(t, cfg)["audit trail"]
	assert.Equal(t, doctor.Failed, found.State)
	assert.Contains(t, found.Detail, "broken at entry 4")
}

// TestBrokenTrail examines a party whose audit trail somebody has changed.
func TestBrokenTrail(t *testing.T) {
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Database.URL = node, t.TempDir(), party.Secret(address)
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(t), freeAddress(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	for range 3 {
		require.NoError(t, db.AppendAudit(t.Context(), audit.New(identity.Principal{}, audit.Submit,
			audit.Object{}, audit.Allowed, time.Now())))
	}
	assert.Equal(t, doctor.OK, examine(t, cfg)["audit trail"].State)
	assert.NotContains(t, examine(t, cfg)["audit trail"].Detail, "archived")

	raw, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(address, "sqlite://"))
	require.NoError(t, err)
	_, err = raw.ExecContext(t.Context(), "DELETE FROM t_audit WHERE seq = 2")
	require.NoError(t, errors.Join(err, raw.Close()))
	found := examine(t, cfg)["audit trail"]
	assert.Equal(t, doctor.Failed, found.State)
	assert.Contains(t, found.Detail, "broken at entry 2")
}
