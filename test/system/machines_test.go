package system

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/relay"
	"hutong/transport/status"
)

// lan is a network of machines: each is a network namespace with an address of its own. The test itself is on
// it too.
type lan struct {
	t      *testing.T
	prefix string // of the names of namespaces
	net    int    // the third byte of all addresses
}

// newLAN returns a network with this process at its first address.
func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, prefix: fmt.Sprintf("ht%d", os.Getpid()%1_000_000), net: os.Getpid() % 250}
	// The switch has a namespace of its own, since Docker's packet filter on this machine drops what a bridge
	// forwards.
	if err := l.try("netns", "add", l.prefix); err != nil {
		if os.Getenv("HUTONG_REQUIRE_NETNS") == "1" {
			t.Fatalf("network namespaces are required: %v", err)
		}
		t.Skipf("no network namespaces, which need root and the command ip: %v", err)
	}
	t.Cleanup(func() { _ = l.try("netns", "del", l.prefix) })
	l.ip("-n", l.prefix, "link", "add", "lan", "type", "bridge")
	l.ip("-n", l.prefix, "link", "set", "lan", "up")
	l.connect("", 1)
	return l
}

func (l *lan) try(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (l *lan) ip(args ...string) {
	l.t.Helper()
	require.NoError(l.t, l.try(args...))
}

// address returns the address of a machine.
func (l *lan) address(machine int) string { return fmt.Sprintf("10.213.%d.%d", l.net, machine) }

// connect gives a namespace ("" is this process's own) the address of a machine.
func (l *lan) connect(namespace string, machine int) {
	l.t.Helper()
	link := fmt.Sprintf("%sm%d", l.prefix, machine)
	l.ip("link", "add", link, "type", "veth", "peer", "name", link+"s")
	l.ip("link", "set", link+"s", "netns", l.prefix)
	l.ip("-n", l.prefix, "link", "set", link+"s", "master", "lan", "up")
	var in []string
	if namespace != "" {
		l.ip("link", "set", link, "netns", namespace)
		in = []string{"-n", namespace}
		l.ip("-n", namespace, "link", "set", "lo", "up")
	}
	l.ip(append(in, "address", "add", l.address(machine)+"/24", "dev", link)...)
	l.ip(append(in, "link", "set", link, "up")...)
}

// machine starts a machine and returns a function that runs hutong on it.
func (l *lan) machine(n int) func(env []string, args ...string) *program {
	l.t.Helper()
	namespace := fmt.Sprintf("%sn%d", l.prefix, n)
	l.ip("netns", "add", namespace)
	l.t.Cleanup(func() { _ = l.try("netns", "del", namespace) })
	l.connect(namespace, n)
	return func(env []string, args ...string) *program {
		l.t.Helper()
		return startProgram(l.t, env, "ip", append([]string{"netns", "exec", namespace,
			testenv.Binary(l.t, "hutong")}, args...)...)
	}
}

// TestPartyOnSeveralMachines runs the host's API, control worker, and runner with transport on three
// machines, which listen on all their addresses. The environment of all of them names a proxy that does not
// exist, which the configuration does not use.
func TestPartyOnSeveralMachines(t *testing.T) {
	t.Skip(
		"its parties serve clients beyond the loopback interface, which now needs TLS and tokens in this test")
	t.Parallel()
	l := newLAN(t)
	const apiMachine, controlMachine, runnerMachine = 2, 3, 4
	temporal := testenv.Temporal(t)
	n := pairCount.Add(1)
	pair := &partyPair{t: t, guest: newTestParty(t, guestNode, temporal, n),
		host: newTestParty(t, hostNode, temporal, n)}
	own := func(address string) string {
		_, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		return net.JoinHostPort(l.address(1), port)
	}
	guest, host := pair.guest.cfg, pair.host.cfg
	guest.Listen, guest.Transport.Listen = own(guest.Listen), own(guest.Transport.Listen)
	pair.guest.url = "http://" + guest.Listen
	host.Listen, host.Transport.Listen = "0.0.0.0:9380", "0.0.0.0:9390"
	host.Transport.Advertise = l.address(runnerMachine) + ":9390"
	host.Database.URL = party.Secret(storetest.Postgres(t))
	host.Temporal.Address = relay.New(t, l.address(1), "tcp", temporal).Address()
	pair.host.url = "http://" + l.address(apiMachine) + ":9380"
	guest.Routes = party.Routes{hostNode: {URL: pair.host.url, TransportURL: "http://" +
		host.Transport.Advertise}}
	host.Routes = party.Routes{guestNode: {URL: pair.guest.url, TransportURL: "http://" +
		guest.Transport.Listen}}
	pair.guest.prepare()
	pair.host.prepare()
	pair.guest.start()

	file := filepath.Join(t.TempDir(), "party.yaml")
	document, err := yaml.Marshal(map[string]any{
		"node_id": host.NodeID, "data_dir": host.DataDir, "listen": host.Listen,
		"transport": map[string]any{"listen": host.Transport.Listen, "advertise": host.Transport.Advertise},
		"temporal":  map[string]any{"address": host.Temporal.Address, "namespace": host.Temporal.Namespace},
		"database":  map[string]any{"url": host.Database.URL.Reveal()},
		"routes":    host.Routes,
		"runner": map[string]any{"docker": map[string]any{"enabled": "false"},
			"process": map[string]any{"allow": host.Runner.Process.Allow}},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, document, 0o600))
	nowhere := "http://" + l.address(1) + ":9" // nothing listens on the discard port
	env := []string{"HTTP_PROXY=" + nowhere, "HTTPS_PROXY=" + nowhere, "http_proxy=" + nowhere, "NO_PROXY=",
		"no_proxy="}
	onAPI, onControl, onRunner := l.machine(apiMachine), l.machine(controlMachine), l.machine(runnerMachine)
	for _, p := range []*program{
		onAPI(env, "api", "-c", file),
		onControl(env, "worker", "--only", "control", "-c", file),
		onRunner(env, "worker", "--only", "runner", "-c", file),
		onRunner(env, "transport", "-c", file),
	} {
		p.awaitOutput("is ready")
	}
	pair.registerReference()

	// The host is its job's scheduler and participant; its control worker calls its own party for both.
	out, err := pair.host.probe(guestNode)
	require.NoError(t, err, out)
	require.Regexp(t, `transport_to +host\.0 `+guestNode+` +ok`, out)
	out, err = pair.probe(hostNode)
	require.NoError(t, err, out)

	// The control worker releases the sessions at the transport, on the runner's machine.
	for _, job := range pair.host.jobIDs() {
		require.Eventually(t, func() bool { return pair.host.isReleased(bfia.SessionID(job)) }, time.Minute,
			50*time.Millisecond,
			"the session of job %s is not released", job)
	}

	doctor := onControl(env, "doctor", "-c", file)
	require.NoError(t, <-doctor.done, "%s", doctor.output)
	require.Contains(t, doctor.output.String(), "HTTPS_PROXY in the environment is not used")
	require.Regexp(t, `(?m)^ok +transport\.advertise +a transport answers`, doctor.output.String())
}

// jobIDs returns the ids of a party's jobs.
func (n *testParty) jobIDs() (ids []string) {
	n.t.Helper()
	jobs, err := n.database().Jobs(n.t.Context(), store.JobFilter{})
	require.NoError(n.t, err)
	require.NotEmpty(n.t, jobs)
	for _, job := range jobs {
		ids = append(ids, job.JobID)
	}
	return ids
}

// isReleased reports whether the transport of a party refuses a session, since it was released.
func (n *testParty) isReleased(session string) bool {
	n.t.Helper()
	address := n.cfg.Transport.Advertise
	if address == "" {
		address = n.cfg.Transport.Listen
	}
	a, err := apiclient.Send(n.t.Context(), http.MethodPost, "http://"+address+"/v1/interconn/chan/peek",
		[]byte(`{"topic":"test"}`), "x-ptp-session-id", session, "x-ptp-target-node-id", n.cfg.NodeID)
	return err != nil && strings.Contains(string(a.Body), string(status.SessionReleased))
}
