package system

import (
	"crypto/tls"
	"crypto/x509"
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
	"hutong/gate"
	"hutong/internal/certs"
	"hutong/internal/identity"
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

// strictly makes a party demand grants, and serve its clients with a certificate that is valid for a host.
// dir holds the authority of all certificates of the test.
func (n *testParty) strictly(dir, host string) {
	n.t.Helper()
	authority, caFile, err := certs.OpenAuthority(dir, "test")
	require.NoError(n.t, err)
	forPartners := filepath.Join(dir, n.cfg.NodeID+".pem")
	require.NoError(n.t, authority.IssueFile(forPartners, certs.Leaf{Node: n.cfg.NodeID}))
	forClients := filepath.Join(dir, n.cfg.NodeID+"-clients.pem")
	require.NoError(n.t, authority.IssueFile(forClients, certs.Leaf{Hosts: []string{host}}))

	n.cfg.Grants = party.GrantsRequired
	n.cfg.Partners.TLS = party.PartnerTLSConfig{CertFile: forPartners, KeyFile: forPartners, CAFile: caFile}
	n.cfg.TLS = party.ServerTLSConfig{CertFile: forClients, KeyFile: forClients}
	n.caFile = caFile
	pool := x509.NewCertPool()
	pool.AddCert(authority.Certificate)
	n.client.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	n.t.Cleanup(n.client.HTTP.CloseIdleConnections)
}

// TestPartyOnSeveralMachines runs the host's API, control worker, and runner with transport on three
// machines, which listen on all their addresses, with security.mode strict. The environment of all of them
// names a proxy that does not exist, which the configuration does not use.
func TestPartyOnSeveralMachines(t *testing.T) {
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
	certificates := t.TempDir()
	pair.guest.strictly(certificates, l.address(1))
	pair.host.strictly(certificates, l.address(apiMachine))
	guest, host := pair.guest.cfg, pair.host.cfg
	guest.Listen, guest.Partners.Listen = own(guest.Listen), own(guest.Partners.Listen)
	pair.guest.url = "https://" + guest.Listen
	host.Listen, host.Partners.Listen = "0.0.0.0:9380", "0.0.0.0:9382"
	host.Transport.Listen, host.Transport.PartnerListen = "0.0.0.0:9390", "0.0.0.0:9391"
	host.Transport.Advertise = l.address(runnerMachine) + ":9390"
	host.Database.URL = party.Secret(storetest.Postgres(t))
	pair.host.url = "https://" + l.address(apiMachine) + ":9380"
	guest.Routes = party.Routes{hostNode: {URL: "https://" + l.address(apiMachine) + ":9382",
		TransportURL: "https://" + l.address(runnerMachine) + ":9391"}}
	host.Routes = party.Routes{guestNode: {URL: "https://" + guest.Partners.Listen}}
	pair.guest.prepare()
	pair.host.prepare()
	pair.guest.start()

	// Temporal speaks no TLS; on its machine, something before it does.
	forTemporal := filepath.Join(certificates, "temporal.pem")
	authority, caFile, err := certs.OpenAuthority(certificates, "test")
	require.NoError(t, err)
	require.NoError(t, authority.IssueFile(forTemporal, certs.Leaf{Hosts: []string{l.address(1)}}))
	keyPair, err := tls.LoadX509KeyPair(forTemporal, forTemporal)
	require.NoError(t, err)
	secureTemporal := relay.NewTLS(t, l.address(1), &tls.Config{Certificates: []tls.Certificate{keyPair},
		NextProtos: []string{"h2"}}, "tcp", temporal).Address()

	file := filepath.Join(t.TempDir(), "party.yaml")
	document, err := yaml.Marshal(map[string]any{
		"node_id": host.NodeID, "data_dir": host.DataDir, "listen": host.Listen, "tls": host.TLS,
		"partners": map[string]any{"listen": host.Partners.Listen, "tls": host.Partners.TLS},
		"transport": map[string]any{"listen": host.Transport.Listen, "advertise": host.Transport.Advertise,
			"partner_listen": host.Transport.PartnerListen},
		"temporal": map[string]any{"address": secureTemporal, "namespace": host.Temporal.Namespace,
			"tls": map[string]any{"ca_file": caFile}},
		"database": map[string]any{"url": host.Database.URL.Reveal()},
		"routes":   host.Routes,
		"runner": map[string]any{"docker": map[string]any{"enabled": "false"}, "unsafe": true,
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
	create := onAPI(env, "token", "create", "--direct", "-c", file, "--name", "admin", "--roles", "admin")
	require.NoError(t, <-create.done, "%s", create.output)
	pair.host.client.Token = ""
	_, code := pair.host.request(http.MethodGet, bfia.PathRunnerQuery, nil)
	require.Equal(t, http.StatusUnauthorized, code, "without the token")
	pair.host.client.Token = lastLine(create.output.String())
	pair.registerReference(bfia.DeviceProcess)

	// Each party lets the other one probe it, and nothing else.
	out, err := pair.probe(hostNode)
	require.Error(t, err)
	require.Contains(t, out, guestNode+" has no grant at "+hostNode)
	pair.guest.mustCommand("grant", "add", "--partner", hostNode, "--component", "hutong/Probe")
	pair.host.mustCommand("grant", "add", "--partner", guestNode, "--component", "hutong/Probe")

	// The host is its job's scheduler and participant; its control worker calls its own party for both.
	out, err = pair.host.probe(guestNode)
	require.NoError(t, err, out)
	require.Regexp(t, `transport_to +host\.0 `+guestNode+` +ok`, out)
	out, err = pair.probe(hostNode)
	require.NoError(t, err, out)

	// The control worker releases the sessions at the transport, on the runner's machine. Only processes of
	// the party learn that.
	process := pair.host.asProcess()
	for _, job := range pair.host.jobIDs() {
		session := bfia.SessionID(job)
		require.Eventually(t, func() bool {
			return strings.Contains(pair.host.peek(process, session), string(status.SessionReleased))
		}, time.Minute, 50*time.Millisecond, "the session of job %s is not released", job)
		require.Contains(t, pair.host.peek(http.DefaultTransport, session), string(status.Forbidden))
	}

	doctor := onControl(env, "doctor", "-c", file)
	require.NoError(t, <-doctor.done, "%s", doctor.output)
	require.Contains(t, doctor.output.String(), "HTTPS_PROXY in the environment is not used")
	require.Regexp(t, `(?m)^ok +transport\.advertise +a transport answers`, doctor.output.String())
	require.Regexp(t, `(?m)^ok +routes\.`+guestNode+` `, doctor.output.String())
	doctor = onAPI(env, "doctor", "-c", file)
	require.NoError(t, <-doctor.done, "%s", doctor.output)
	require.Regexp(t, `(?m)^ok +listen +this party's API answers`, doctor.output.String())
}

// jobIDs returns the ids of a party's jobs.
func (n *testParty) jobIDs() (ids []string) {
	n.t.Helper()
	page, err := n.database().Jobs(n.t.Context(), store.JobFilter{})
	require.NoError(n.t, err)
	require.NotEmpty(n.t, page.Jobs)
	for _, job := range page.Jobs {
		ids = append(ids, job.JobID)
	}
	return ids
}

// peek asks the transport of a party for a message of a session, and returns the answer.
func (n *testParty) peek(over http.RoundTripper, session string) string {
	a, err := apiclient.Client{HTTP: &http.Client{Transport: over}}.Send(n.t.Context(), http.MethodPost,
		"http://"+n.cfg.TransportAddress()+"/v1/interconn/chan/peek", []byte(`{"topic":"test"}`),
		"x-ptp-session-id", session, "x-ptp-target-node-id", n.cfg.NodeID)
	return fmt.Sprintf("%s (%v)", a.Body, err) // the codes of transports are not those of envelopes
}

// asProcess returns a transport whose requests come from a process of the party.
func (n *testParty) asProcess() http.RoundTripper {
	n.t.Helper()
	secret, err := n.database().Secret(n.t.Context(), "gate")
	require.NoError(n.t, err)
	keys, err := gate.NewKeys(secret)
	require.NoError(n.t, err)
	return keys.Sender(identity.Principal{Kind: identity.KindPartner, Node: n.cfg.NodeID,
		Proof: identity.ByProcess}, http.DefaultTransport)
}
