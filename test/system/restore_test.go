package system

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv"
	"hutong/workflows"
)

// restorable is a party whose processes and services a test stops, backs up and restores.
type restorable struct {
	*testParty
	file      string // the configuration
	starts    string // the file to which each container of the party appends its name
	command   []string
	temporals string // the folder of Temporal's database
	server    *program
	running   []*program
	postgres  bool
}

// newRestorable configures the guest of a pair with a Temporal server of its own, as processes.
func newRestorable(t *testing.T, guest *testParty, postgres bool) *restorable {
	t.Helper()
	g := &restorable{testParty: guest, temporals: filepath.Join(t.TempDir(), "temporal"), postgres: postgres}
	g.cfg.Temporal.Address = testenv.FreeAddress(t)
	g.command, g.starts = countingCommand(t)
	g.cfg.Runner.Process.Allow = g.command[:1]
	if postgres {
		g.cfg.Database.URL = party.Secret(storetest.Postgres(t))
	}
	require.NoError(t, g.cfg.Complete())
	require.NoError(t, g.cfg.Validate())
	g.startTemporal()
	document, err := yaml.Marshal(
		map[string]any{"node_id": g.cfg.NodeID, "listen": g.cfg.Listen, "data_dir": g.cfg.DataDir,
			"containers": map[string]any{"listen": g.cfg.Containers.Listen},
			"partners": map[string]any{"listen": g.cfg.Partners.Listen, "tls": map[string]any{
				"cert_file": g.cfg.Partners.TLS.CertFile, "key_file": g.cfg.Partners.TLS.KeyFile,
				"ca_file": g.cfg.Partners.TLS.CAFile}},
			"transport": map[string]any{"listen": g.cfg.Transport.Listen,
				"partner_listen": g.cfg.Transport.PartnerListen},
			"temporal": map[string]any{"address": g.cfg.Temporal.Address,
				"namespace": g.cfg.Temporal.Namespace},
			"database": map[string]any{"url": g.cfg.Database.URL.Reveal()},
			"runner": map[string]any{"docker": map[string]any{"enabled": "false"}, "stop_grace": "2s",
				"unsafe": true, "slots": 4, "process": map[string]any{"allow": g.cfg.Runner.Process.Allow}},
			"routes": g.cfg.Routes})
	require.NoError(t, err)
	g.file = filepath.Join(t.TempDir(), "party.yaml")
	require.NoError(t, os.WriteFile(g.file, document, 0o600))
	startHutong(t, nil, "migrate", "-c", g.file).awaitExit()
	g.admit(true)
	return g
}

// countStarts is the first argument with which this program appends the name of its container to the file of
// the second, and then runs the reference provider, the third. A shell would drop variables with dots.
const countStarts = "count-starts"

// runCounted does that.
func runCounted(file, provider string) int {
	dir, err := os.Getwd()
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			_, err = fmt.Fprintln(f, filepath.Base(dir))
		}
	}
	if err == nil {
		err = syscall.Exec(provider, []string{provider}, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "failed to run the provider:", err)
	return 125
}

// countingCommand returns a command of a provider that counts its starts, and the file to which it appends
// them.
func countingCommand(t *testing.T) (command []string, starts string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	starts = filepath.Join(t.TempDir(), "starts")
	return []string{self, countStarts, starts, testenv.Binary(t, "provider")}, starts
}

func (g *restorable) startTemporal() {
	g.t.Helper()
	_, port, _ := strings.Cut(g.cfg.Temporal.Address, ":")
	g.server = startHutong(g.t, nil, "temporal", "--data-dir", g.temporals, "--port", port, "--namespace",
		g.cfg.Temporal.Namespace)
	g.server.awaitOutput("ready ")
}

// up starts the party's processes.
func (g *restorable) up() {
	g.t.Helper()
	for _, args := range [][]string{{"transport"}, {"worker"}, {"api"}} {
		p := startHutong(g.t, nil, append(args, "-c", g.file)...)
		g.running = append(g.running, p)
		p.awaitOutput("is ready")
	}
}

// down stops the party's processes and its Temporal server.
func (g *restorable) down() {
	g.t.Helper()
	for _, p := range g.running {
		p.kill(syscall.SIGTERM)
	}
	g.running = nil
	g.server.kill(syscall.SIGTERM)
}

// services of a party that a test restores.
type service string

const (
	theDatabase service = "database"
	theTemporal service = "temporal"
	theStorage  service = "storage"
	theSpool    service = "spool"
)

// folder returns the folder or file of a service, other than PostgreSQL.
func (g *restorable) folder(s service) string {
	switch s {
	case theDatabase:
		return strings.TrimPrefix(g.cfg.Database.URL.Reveal(), "sqlite://")
	case theTemporal:
		return g.temporals
	case theStorage:
		return strings.TrimPrefix(g.cfg.Storage.URL.Reveal(), "file://")
	}
	return g.cfg.Transport.SpoolDir
}

// backup copies all services, as docs/operators/backup.md describes.
func (g *restorable) backup(to string) {
	g.t.Helper()
	for _, s := range []service{theDatabase, theTemporal, theStorage, theSpool} {
		if s == theDatabase && g.postgres {
			g.postgresTool("pg_dump", "-Fc", "-f", filepath.Join(to, string(s)), "-d",
				g.cfg.Database.URL.Reveal())
			continue
		}
		if s == theDatabase { // what is in its write-ahead log too
			db, err := sql.Open("sqlite", "file:"+g.folder(s)+"?_pragma=busy_timeout(10000)")
			require.NoError(g.t, err)
			_, err = db.Exec("VACUUM INTO ?", filepath.Join(to, string(s)))
			require.NoError(g.t, err)
			require.NoError(g.t, db.Close())
			continue
		}
		g.copy(g.folder(s), filepath.Join(to, string(s)))
	}
}

// restore replaces a service by its backup.
func (g *restorable) restore(from string, s service) {
	g.t.Helper()
	if s == theDatabase && g.postgres {
		g.postgresTool("pg_restore", "--clean", "--if-exists", "-d", g.cfg.Database.URL.Reveal(),
			filepath.Join(from, string(s)))
		return
	}
	g.lose(s)
	g.copy(filepath.Join(from, string(s)), g.folder(s))
}

// lose removes what a service holds.
func (g *restorable) lose(s service) {
	g.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		require.NoError(g.t, os.RemoveAll(g.folder(s)+suffix))
	}
}

func (g *restorable) copy(from, to string) {
	g.t.Helper()
	out, err := exec.Command("cp", "-a", from, to).CombinedOutput()
	require.NoError(g.t, err, "%s", out)
}

func (g *restorable) postgresTool(name string, args ...string) {
	g.t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	require.NoError(g.t, err)
	path := append(found, name)[0]
	out, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(g.t, err, "%s", out)
}

// mark makes the party count up its restore mark some times.
func (g *restorable) mark(times int64) {
	g.t.Helper()
	c := g.temporalClient()
	defer c.Close()
	db := g.database()
	first, err := db.RestoreMark(g.t.Context())
	require.NoError(g.t, err)
	require.Positive(g.t, first.Number)
	require.Eventually(g.t, func() bool {
		_ = c.SignalWorkflow(g.t.Context(), workflows.RestoreMarkID, "", workflows.SignalMarkNow, nil)
		now, err := db.RestoreMark(g.t.Context())
		require.NoError(g.t, err)
		return now.Number >= first.Number+times
	}, time.Minute, 100*time.Millisecond)
	require.NoError(g.t, db.Close())
}

// run runs a command with the party's configuration to its end, and returns its output.
func (g *restorable) run(args ...string) (string, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, testenv.Binary(g.t, "hutong"), append(args, "-c", g.file)...).
		CombinedOutput()
	return string(out), err
}

// requireStartedOnce checks that no container was started twice.
func requireStartedOnce(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, name := range strings.Fields(string(text)) {
		require.False(t, seen[name], "container %s was started twice", name)
		seen[name] = true
	}
	require.NotEmpty(t, seen)
}

// restoreScenario is a restore, and what it does to the guest's jobs. There are jobs that ended before the
// backup, that ran at the time of the backup and have succeeded since, that were submitted and ended after
// it, and that run at the time of the restore.
type restoreScenario struct {
	postgres bool
	restored []service
	lost     []service
	// problem is what the refused start says; empty if the marks agree.
	problem string
	// rewound is set if the database lost what happened since the backup.
	rewound bool
	// noOutputs is set if outputs are gone.
	noOutputs bool
}

var restoreScenarios = map[string]restoreScenario{
	"yesterday's SQLite": {restored: []service{theDatabase}, problem: "the database is older than Temporal",
		rewound: true},
	"yesterday's PostgreSQL": {postgres: true, restored: []service{theDatabase},
		problem: "the database is older than Temporal", rewound: true},
	"an older Temporal": {restored: []service{theTemporal}, problem: "Temporal is older than the database"},
	"a lost Temporal": {lost: []service{theTemporal}, postgres: true,
		problem: "Temporal has lost the party's workflows"},
	"a lost storage":   {lost: []service{theStorage}, problem: "the storage was lost", noOutputs: true},
	"an older storage": {restored: []service{theStorage}, problem: "the storage is older than the database"},
	"the whole set":    {restored: []service{theDatabase, theTemporal, theStorage, theSpool}, rewound: true},
}

// TestRestore restores services of a party from a backup while its partner has continued. Nothing runs twice,
// and no job succeeds that has not.
func TestRestore(t *testing.T) {
	t.Parallel()
	for name, s := range restoreScenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRestore(t, s)
		})
	}
}

func testRestore(t *testing.T, s restoreScenario) {
	address := testenv.Temporal(t)
	n := pairCount.Add(1)
	guest, host := newTestParty(t, guestNode, address, n), newTestParty(t, hostNode, address, n)
	certify(t, guest.cfg, host.cfg)
	guest.cfg.Transport.PartnerListen = testenv.FreeAddress(t)
	guest.cfg.Routes = party.Routes{hostNode: {URL: "https://" + host.cfg.Partners.Listen}}
	host.cfg.Routes = party.Routes{guestNode: {URL: "https://" + guest.cfg.Partners.Listen,
		TransportURL: "https://" + guest.cfg.Transport.PartnerListen}}
	host.cfg.Remote.GiveUpAfter = 30 * time.Second // then its job ends that the guest has lost
	hostCommand, hostStarts := countingCommand(t)
	host.cfg.Runner.Process.Allow = hostCommand[:1]
	g := newRestorable(t, guest, s.postgres)
	host.prepare()
	host.start()
	g.up()
	for n, command := range map[*testParty][]string{guest: g.command, host: hostCommand} {
		n.mustRequest(http.MethodPost, bfia.PathProviderRegister, editJSON(t, sleepProvider(t),
			func(f map[string]any) { f["metadata"] = map[string]any{"command": command} }), nil)
	}

	quick := sleepJob(t, 1, map[string]any{"s1": map[string]any{"seconds": 0, "write_mib": 1}}, nil)
	long := sleepJob(t, 2, map[string]any{"s1": seconds(20), "s2": seconds(1)}, nil)
	before := guest.submit(quick)
	requireSuccess(t, guest.awaitJob(before, time.Minute, isFinished))
	during := guest.submit(long)
	guest.awaitJob(during, time.Minute, isTaskRunning("s1"))

	g.down()
	set := t.TempDir()
	g.backup(set)
	g.startTemporal()
	g.up()
	requireSuccess(t, guest.awaitJob(during, time.Minute, isFinished))
	after := guest.submit(quick)
	requireSuccess(t, guest.awaitJob(after, time.Minute, isFinished))
	late := guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(600)}, nil))
	guest.awaitJob(late, time.Minute, isTaskRunning("s1"))
	byHost := host.submit(editJSON(t, sleepJob(t, 1, map[string]any{"s1": seconds(600)}, nil),
		func(f map[string]any) {
			f["config"].(map[string]any)["initiator"] = map[string]string{"role": "host", "node_id": hostNode}
		}))
	host.awaitJob(byHost, time.Minute, isTaskRunning("s1"))
	g.mark(3)
	g.down()

	for _, service := range s.restored {
		g.restore(set, service)
	}
	for _, service := range s.lost {
		g.lose(service)
	}
	began := time.Now()
	g.startTemporal()
	if s.problem != "" {
		out, err := g.run("api")
		require.Error(t, err)
		require.Contains(t, out, s.problem)
		require.Contains(t, out, "hutong restore finish")
		out, err = g.run("restore", "check")
		require.Error(t, err)
		require.Contains(t, out, s.problem)
	}
	out, err := g.run("restore", "finish")
	require.NoError(t, err, out)
	if !s.rewound {
		require.Contains(t, out, late)
	}
	out, err = g.run("restore", "check")
	if s.noOutputs {
		require.Error(t, err)
		require.Contains(t, out, "output guest.0 s1.out of job "+before+": the storage has lost it")
	} else {
		require.NotContains(t, out, "older")
	}
	g.up()

	again := guest.submit(quick)
	requireSuccess(t, guest.awaitJob(again, time.Minute, isFinished))
	t.Logf("recovered: a new job has succeeded %s after the restore", time.Since(began).Round(time.Second))
	requireSuccess(t, guest.status(before))
	reason := "restored from a backup"
	if s.problem == "" {
		reason = "does not know the job any more" // nothing here remembers it; the partner asks
	}
	requireEndedAt(t, host, late, reason)
	requireEndedAt(t, host, byHost, "")
	t.Logf("the partner has ended its jobs %s after the restore", time.Since(began).Round(time.Second))
	if s.rewound {
		status := guest.awaitJob(during, time.Minute, isFinished)
		require.NotEqual(t, bfia.OutcomeSuccess, status.Outcome)
		require.Contains(t, status.Reason, "restored from a backup")
		for _, id := range []string{after, late} {
			env, _ := guest.request(http.MethodGet, bfia.PathPlatformStatusAll+"?job_id="+id, nil)
			require.Equal(t, bfia.CodeNotFound, env.Code, env.Text())
			env, _ = guest.request(http.MethodPost, bfia.PathPlatformCreateAll,
				editJSON(t, quick, func(f map[string]any) { f["job_id"] = id }))
			require.Equal(t, bfia.CodeConflict, env.Code, env.Text())
			require.Contains(t, env.Text(), "restored from a backup")
		}
	} else {
		requireSuccess(t, guest.status(during))
		requireSuccess(t, guest.status(after))
		requireEndedAt(t, guest, late, "restored from a backup")
	}
	requireStartedOnce(t, g.starts)
	requireStartedOnce(t, hostStarts)
	requireNoProcess(t, g.cfg.DataDir)
	requireNoProcess(t, host.cfg.DataDir)
}

// requireEndedAt waits until a job has ended at a party, and checks that it has not succeeded there.
func requireEndedAt(t *testing.T, n *testParty, jobID, reason string) {
	t.Helper()
	var job store.Job
	require.Eventually(t, func() bool {
		var err error
		job, err = n.database().Job(t.Context(), jobID)
		return bfia.CodeOf(err) == bfia.CodeNotFound || err == nil && job.State.Terminal()
	}, 3*time.Minute, 200*time.Millisecond, "job %s does not end at %s", jobID, n.cfg.NodeID)
	require.NotEqual(t, bfia.OutcomeSuccess, job.Outcome)
	require.Contains(t, job.Reason, reason)
}

// requireNoProcess waits until no container runs below a party's folder.
func requireNoProcess(t *testing.T, dir string) {
	t.Helper()
	require.Eventually(t, func() bool {
		found, _ := filepath.Glob("/proc/[0-9]*/cwd")
		for _, link := range found {
			if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir+"/runs/") {
				return false
			}
		}
		return true
	}, 2*time.Minute, 200*time.Millisecond, "containers of %s remain", dir)
}
