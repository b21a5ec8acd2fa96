package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver/process"
	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/identity"
	"hutong/internal/image"
	"hutong/internal/party"
	"hutong/store"
	"hutong/test/testenv"
	"hutong/test/testenv/apiclient"
)

const (
	guestNode = "JG0100001100000010"
	hostNode  = "JG0110017800000000"
	// referenceImage is the image that the captured registration names.
	referenceImage = "unionpay:2.0.0"
)

func TestMain(m *testing.M) {
	// The process driver starts this program again as its supervisor.
	if len(os.Args) > 2 && os.Args[1] == "supervise" {
		os.Exit(process.Supervise(os.Args[2:]))
	}
	if len(os.Args) == 2 && os.Args[1] == fateContainer {
		os.Exit(runFATEContainer())
	}
	if len(os.Args) == 2 && os.Args[1] == exchangeContainer {
		os.Exit(runExchangeContainer())
	}
	if len(os.Args) == 4 && os.Args[1] == countStarts {
		os.Exit(runCounted(os.Args[2], os.Args[3]))
	}
	runMoreAtOnce()
	os.Exit(testenv.Main(m))
}

// partyPair is a guest and a host that run in this process.
type partyPair struct {
	t           *testing.T
	guest, host *testParty
}

// testParty is one party that runs in this process.
type testParty struct {
	t   *testing.T
	cfg *party.Config
	url string
	// client is the user as whom the helpers of tests call, also with commands. caFile holds the authorities
	// of the party's certificate for clients. Both are empty where the party demands nothing.
	client apiclient.Client
	caFile string
}

var pairCount atomic.Int32

// newPartyPair configures a guest and a host and prepares them to be started. change may adapt their
// configurations.
func newPartyPair(t *testing.T, change func(*party.Config)) *partyPair {
	t.Helper()
	address := testenv.Temporal(t)
	n := pairCount.Add(1)
	pair := &partyPair{t: t}
	pair.guest, pair.host = newTestParty(t, guestNode, address, n), newTestParty(t, hostNode, address, n)
	certify(t, pair.guest.cfg, pair.host.cfg)
	for _, n := range []*testParty{pair.guest, pair.host} {
		other := pair.host
		if n == pair.host {
			other = pair.guest
		}
		n.cfg.Routes = party.Routes{other.cfg.NodeID: {URL: "https://" + other.cfg.Partners.Listen}}
		if change != nil {
			change(n.cfg)
		}
		n.prepare()
	}
	return pair
}

// newTestParty configures a party without routes; pair makes its namespace unique.
func newTestParty(t *testing.T, id, address string, pair int32) *testParty {
	t.Helper()
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir = id, filepath.Join(t.TempDir(), id)
	cfg.Listen, cfg.Transport.Listen = testenv.FreeAddress(t), testenv.FreeAddress(t)
	cfg.Containers.Listen, cfg.Partners.Listen = testenv.FreeAddress(t), testenv.FreeAddress(t)
	cfg.Security.Mode = party.SecurityStrict
	cfg.Runner.Unsafe = true // for the process driver
	cfg.Temporal.Address = address
	cfg.Temporal.Namespace = fmt.Sprintf("test-%d-%d-%s", os.Getpid(), pair, strings.ToLower(id))
	cfg.Runner.Docker.Enabled = party.SwitchOff
	cfg.Runner.Process.Allow = []string{testenv.Binary(t, "provider")}
	cfg.Runner.StopGrace = 2 * time.Second
	cfg.Runner.Slots = 4
	return &testParty{t: t, cfg: cfg, url: "http://" + cfg.Listen}
}

// openly makes a party demand nothing of clients and partners on this machine, as hutong dev --open-partners
// does.
func openly(cfg *party.Config) {
	cfg.Security = party.SecurityConfig{Mode: party.SecurityOpen, OpenPartners: true}
}

// plainRoute returns a route to a party without TLS, for tests that look into its requests. Call it before
// the party starts.
func (n *testParty) plainRoute() party.Route {
	n.t.Helper()
	if n.cfg.Partners.PlainListen == "" {
		n.cfg.Partners.PlainListen = testenv.FreeAddress(n.t)
	}
	return party.Route{URL: "http://" + n.cfg.Partners.PlainListen, From: []string{"127.0.0.0/8"}}
}

// certify gives each party a certificate of one authority.
func certify(t *testing.T, parties ...*party.Config) {
	t.Helper()
	dir := t.TempDir()
	authority, caFile, err := certs.OpenAuthority(dir, "test")
	require.NoError(t, err)
	for _, cfg := range parties {
		file := filepath.Join(dir, cfg.NodeID+".pem")
		require.NoError(t, authority.IssueFile(file, certs.Leaf{Node: cfg.NodeID}))
		cfg.Partners.TLS = party.PartnerTLSConfig{CertFile: file, KeyFile: file, CAFile: caFile}
	}
}

// prepare completes the configuration, creates the namespace and migrates the database.
func (n *testParty) prepare() {
	n.t.Helper()
	grantAll := n.cfg.Grants == "" // the test does not choose
	require.NoError(n.t, n.cfg.Complete())
	require.NoError(n.t, n.cfg.Validate())
	temporal := n.cfg.Temporal
	testenv.Namespace(n.t, temporal.Address, temporal.Namespace)
	address, proxy := temporal.Address, n.cfg.Proxy
	n.t.Cleanup(func() { // after the parties have stopped
		now := *n.cfg // keys may have changed, but the proxy of a test is gone
		now.Temporal.Address, now.Proxy = address, proxy
		replayHistories(n.t, &now)
	})
	require.NoError(n.t, party.Migrate(n.t.Context(), n.cfg))
	if n.cfg.Security.Mode == party.SecurityStrict {
		n.admit(grantAll)
	}
}

// admit gives the party's user a token with all roles, and the other party of a pair all grants.
func (n *testParty) admit(grantAll bool) {
	n.t.Helper()
	n.client = n.as("admin").client
	if !grantAll {
		return
	}
	db := n.database()
	for _, partner := range []string{guestNode, hostNode} {
		if partner != n.cfg.NodeID {
			_, err := db.AddGrant(n.t.Context(), bfia.DataGrant{Partner: partner, Component: "*",
				Dataset: "*", CreatedBy: "the test"})
			require.NoError(n.t, err)
		}
	}
}

// as returns the party with another user, who has all roles.
func (n *testParty) as(user string) *testParty {
	n.t.Helper()
	token, _, err := party.CreateToken(n.t.Context(), n.cfg, user, []identity.Role{identity.Admin}, nil)
	require.NoError(n.t, err)
	other := *n
	other.client.Token = token
	return &other
}

// start starts all roles of a party in this process, until the test ends or stop is called.
func (n *testParty) start() (stop func()) {
	n.t.Helper()
	return n.startAs(party.Roles{API: true, Control: true, Runner: true, Transport: true})
}

// startAs starts some roles of a party.
func (n *testParty) startAs(roles party.Roles) (stop func()) {
	n.t.Helper()
	p, err := party.Start(n.t.Context(), n.cfg, roles, n.logger())
	require.NoError(n.t, err)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			p.Stop(ctx)
		}
	}
	n.t.Cleanup(stop)
	return stop
}

// startSleepPair starts a guest and a host with the Sleep component. change may adapt their configurations.
func startSleepPair(t *testing.T, change func(*party.Config)) *partyPair {
	t.Helper()
	pair := newPartyPair(t, change)
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	return pair
}

func (n *testParty) logger() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// request sends a request and returns the envelope and the HTTP status of its answer.
func (n *testParty) request(method, path string, body []byte, headers ...string) (bfia.Envelope, int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), busy*time.Minute)
	defer cancel()
	a, err := n.client.Send(ctx, method, n.url+path, body, headers...)
	require.NoError(n.t, err)
	return a.Envelope, a.Status
}

// mustRequest sends a request that must succeed, and decodes the answer's data.
func (n *testParty) mustRequest(method, path string, body []byte, data any) {
	n.t.Helper()
	env, _ := n.request(method, path, body)
	require.True(n.t, env.OK(), "%s %s: %d %s", method, path, env.Code, env.Text())
	if data != nil {
		require.NoError(n.t, json.Unmarshal(env.Data, data))
	}
}

// register registers a provider; on the device process it runs the reference provider's program.
func (n *testParty) register(registration []byte, device bfia.Device) {
	n.t.Helper()
	if device == bfia.DeviceProcess {
		registration = editJSON(n.t, registration, func(fields map[string]any) {
			fields["device"] = "process"
			fields["metadata"] = map[string]any{"command": []string{testenv.Binary(n.t, "provider")}}
		})
	}
	env, _ := n.request(http.MethodPost, bfia.PathProviderRegister, registration)
	require.True(n.t, env.OK(), env.Text())
}

// upload uploads one of the breast cancer files.
func (n *testParty) upload(file, namespace, name string) {
	n.t.Helper()
	rows, err := os.ReadFile(filepath.Join(testenv.Root(n.t), "testdata", "breast", file))
	require.NoError(n.t, err)
	require.NoError(n.t, n.client.Upload(n.t.Context(), n.url, file, rows, map[string]string{
		"head": "true", "partitions": "4", "extend_sid": "true",
		"meta": `{"delimiter":",","match_id_name":"id"}`, "namespace": namespace, "name": name}))
}

// submit submits a job and returns its id.
func (n *testParty) submit(document []byte) string {
	n.t.Helper()
	var created bfia.JobCreated
	n.mustRequest(http.MethodPost, bfia.PathPlatformCreateAll, document, &created)
	require.Len(n.t, created.JobID, 21)
	return created.JobID
}

// logFailures logs the state and reason of all tasks of this party.
func (n *testParty) logFailures() {
	n.t.Helper()
	page, err := n.database().Jobs(n.t.Context(), store.JobFilter{})
	require.NoError(n.t, err)
	for _, job := range page.Jobs {
		tasks, err := n.database().Tasks(n.t.Context(), job.JobID)
		require.NoError(n.t, err)
		for _, task := range tasks {
			n.t.Logf("job %s %s task %s %s.%d %s: %s", job.JobID, job.Reason, task.Name, task.Role,
				task.RoleIndex, task.State, task.Reason)
		}
	}
}

func (n *testParty) status(jobID string) bfia.JobStatus {
	n.t.Helper()
	var status bfia.JobStatus
	n.mustRequest(http.MethodGet, bfia.PathPlatformStatusAll+"?job_id="+jobID, nil, &status)
	return status
}

// busy is how many times longer than expected a busy machine may take.
const busy = 3

// awaitJob waits until a job's status satisfies a condition, and returns that status. No test depends on the
// limit.
func (n *testParty) awaitJob(jobID string, limit time.Duration,
	wanted func(bfia.JobStatus) bool) bfia.JobStatus {
	n.t.Helper()
	deadline := time.Now().Add(busy * limit)
	for {
		status := n.status(jobID)
		if wanted(status) {
			return status
		}
		if time.Now().After(deadline) {
			text, _ := json.MarshalIndent(status, "", "  ")
			n.t.Fatalf("job %s did not reach the expected status within %s: %s", jobID, busy*limit, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func isFinished(s bfia.JobStatus) bool { return s.State == bfia.JobFinished }

func isTaskRunning(task string) func(bfia.JobStatus) bool {
	return func(s bfia.JobStatus) bool {
		for _, t := range s.Tasks {
			if t.Name == task {
				return t.State == bfia.TaskRunning
			}
		}
		return false
	}
}

// hasTaskBegun reports the same of a task that may have ended before somebody looks.
func hasTaskBegun(task string) func(bfia.JobStatus) bool {
	return func(s bfia.JobStatus) bool {
		return slices.ContainsFunc(s.Tasks, func(t bfia.TaskStatus) bool {
			return t.Name == task && (t.State == bfia.TaskRunning || t.State.Terminal())
		})
	}
}

// requireSuccess checks that a job and all parts of all its tasks succeeded.
func requireSuccess(t *testing.T, s bfia.JobStatus) {
	t.Helper()
	require.Equal(t, bfia.JobFinished, s.State)
	require.Empty(t, s.Reason)
	for _, task := range s.Tasks {
		require.Equal(t, bfia.TaskSuccess, task.State, "%s: %s", task.Name, task.Reason)
		for _, p := range task.Parties {
			require.Equal(t, bfia.TaskSuccess, p.State, "%s %s.%d: %s", task.Name, p.Role, p.Index, p.Reason)
		}
	}
}

// outputs returns a job's outputs at a party, by task, role and output name.
func (n *testParty) outputs(jobID string) map[string]bfia.Output {
	n.t.Helper()
	var list struct{ Outputs []bfia.Output }
	n.mustRequest(http.MethodGet, bfia.PathJobOutputs+"?job_id="+jobID, nil, &list)
	byName := map[string]bfia.Output{}
	for _, o := range list.Outputs {
		byName[o.TaskName+" "+o.Role+" "+o.Output] = o
	}
	return byName
}

func (n *testParty) download(o bfia.Output) string {
	n.t.Helper()
	query := url.Values{"namespace": {o.Namespace}, "name": {o.Name}}.Encode()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet,
		n.url+bfia.PathDataDownload+"?"+query, nil)
	require.NoError(n.t, err)
	resp, err := n.client.Do(r)
	require.NoError(n.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(n.t, err)
	require.Equal(n.t, http.StatusOK, resp.StatusCode, "%s", b)
	return string(b)
}

// database opens a second connection to the party's database.
func (n *testParty) database() *store.Store {
	n.t.Helper()
	db, err := store.Open(n.t.Context(), n.cfg.Database.URL.Reveal())
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = db.Close() })
	return db
}

// readVector reads a captured request from testdata/vectors.
func readVector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Root(t), "testdata", "vectors", name))
	require.NoError(t, err)
	return b
}

// editJSON returns a changed copy of a JSON object.
func editJSON(t testing.TB, document []byte, change func(map[string]any)) []byte {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal(document, &fields))
	change(fields)
	b, err := json.Marshal(fields)
	require.NoError(t, err)
	return b
}

// referenceJob returns the captured job of intersection and boosting, with the host at another party when
// apart is set.
func referenceJob(t testing.TB, apart bool) []byte {
	document := readVector(t, "job_create_all.request.json")
	if !apart {
		return document
	}
	return bytes.Replace(document, []byte(`"host": [
        "`+guestNode+`"`), []byte(`"host": [
        "`+hostNode+`"`), 1)
}

// sleepProvider returns a registration of the reference provider's test component Sleep, for both roles.
func sleepProvider(t testing.TB) []byte {
	t.Helper()
	b, err := json.Marshal(
		map[string]any{"name": "test", "version": "1", "device": "process", "protocol": "bfia",
			"metadata": map[string]any{
				"image": referenceImage,
			}, "components_description": map[string]any{"Sleep": map[string]any{
				"componentName": "Sleep", "title": "Sleep", "provider": "test", "version": "1",
				"roleList": []string{"guest", "host"}, "storageEngine": []string{"file"},
				"inputParam": []any{},
				"inputData":  []any{map[string]any{"name": "in", "category": "dataset"}},
				"outputData": []any{
					map[string]any{"name": "out", "category": "dataset"},
				}, "result": []any{}}}},
	)
	require.NoError(t, err)
	return b
}

// sleepJob returns a job with a chain of Sleep tasks s1, s2, …, with common parameters and those of each role
// by task.
func sleepJob(t testing.TB, tasks int, common map[string]any, roles map[string]map[string]any) []byte {
	t.Helper()
	var components []any
	for i := 1; i <= tasks; i++ {
		input := []any{}
		if i > 1 {
			input = []any{map[string]string{"type": "dataset", "key": fmt.Sprintf("s%d.out", i-1)}}
		}
		components = append(
			components,
			map[string]any{"name": fmt.Sprintf("s%d", i), "componentName": "Sleep", "provider": "test",
				"version": "1", "input": input,
				"output": []any{map[string]string{"type": "dataset", "key": "out"}}},
		)
	}
	params := map[string]any{"common": common}
	for role, values := range roles {
		params[role] = map[string]any{"0": values}
	}
	b, err := json.Marshal(
		map[string]any{"flow_id": "sleep", "dag": map[string]any{"version": "2.0", "components": components},
			"config": map[string]any{
				"version":   "2.0.0",
				"initiator": map[string]string{"role": "guest", "node_id": guestNode},
				"role":      map[string]any{"guest": []string{guestNode}, "host": []string{hostNode}},
				"job_params": map[string]any{
					"common": map[string]any{"sync_type": "callback"},
				},
				"task_params": params,
			}},
	)
	require.NoError(t, err)
	return b
}

// dockerClient returns a client of the Docker Engine and loads the reference provider's image under the name
// of the captured registration. Without a Docker Engine the test is skipped, or fails where one is required.
func dockerClient(t *testing.T) *client.Client {
	t.Helper()
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	if _, err := cli.Ping(t.Context()); err != nil {
		if os.Getenv("HUTONG_REQUIRE_DOCKER") == "1" {
			t.Fatalf("HUTONG_REQUIRE_DOCKER=1, but no Docker Engine answers: %v", err)
		}
		t.Skipf("no Docker Engine answers: %v", err)
	}
	require.NoError(t, image.Load(t.Context(), cli, testenv.Binary(t, "provider"), referenceImage))
	return cli
}
