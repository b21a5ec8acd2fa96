package system

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/doctor"
	"hutong/internal/partners"
	"hutong/internal/party"
	"hutong/store/storetest"
	"hutong/test/testenv"
	"hutong/test/testenv/relay"
)

// oneWay makes the host a party that can only dial out: it has no listener for partners, and keeps links to
// the guest at the URLs.
func oneWay(cfg *party.Config, urls ...string) {
	if cfg.NodeID == guestNode {
		cfg.Routes[hostNode] = party.Route{Link: partners.Inbound}
		return
	}
	cfg.Partners.Listen = ""
	route := cfg.Routes[guestNode]
	route.Link, route.LinkURLs = partners.Outbound, urls
	cfg.Routes[guestNode] = route
}

// reversed returns a job of the host, in which the parties have each other's roles.
func reversed(job []byte) []byte {
	return []byte(strings.NewReplacer(guestNode, hostNode, hostNode, guestNode).Replace(string(job)))
}

// awaitLinks waits until a process of the guest has had a number of links with the host, and one is up.
func awaitLinks(t *testing.T, ops string, connects int) {
	t.Helper()
	labels := "{direction=inbound,partner=" + hostNode + "}"
	require.Eventually(t, func() bool {
		s := scrape(t, ops)
		return s["hutong_partner_links"+labels] == 1 &&
			s["hutong_partner_link_connects_total"+labels] >= float64(connects)
	}, busy*time.Minute, 50*time.Millisecond)
}

// requireLinksChecked checks that the doctor of a party finds its links and reaches its partner.
func requireLinksChecked(t *testing.T, cfg *party.Config) {
	t.Helper()
	var names []string
	for _, c := range doctor.Examine(t.Context(), cfg) {
		if strings.HasPrefix(c.Name, "routes.") {
			names = append(names, c.Name[strings.LastIndexByte(c.Name, '.')+1:])
			require.Equal(t, doctor.OK, c.State, "%s: %s", c.Name, c.Detail)
		}
	}
	require.Contains(t, names, "link")
	require.Contains(t, names, "transport_url")
}

// TestOneWayPartner runs jobs of a party that can only dial out, with messages in both directions. Each party
// initiates and schedules one. Their link breaks while their containers exchange messages, and while one of
// them runs without any.
func TestOneWayPartner(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	require.NoError(t, err)
	network := relay.New(t, "127.0.0.1", "", "")
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, program)
		cfg.Ops.Listen = testenv.FreeAddress(t)
		oneWay(cfg, "https://"+network.Address())
	})
	guest, host := pair.guest, pair.host
	network.Lead("tcp", guest.cfg.Partners.Listen)
	for _, n := range []*testParty{host, guest} { // the guest is down at first
		n.start()
		n.register(sleepProvider(t), bfia.DeviceProcess)
		n.exchangeProvider(bfia.SessionPerTask)
	}
	awaitLinks(t, guest.cfg.Ops.Listen, 1)
	for _, n := range []*testParty{guest, host} {
		requireLinksChecked(t, n.cfg)
	}
	var views []bfia.PartnerView
	guest.mustRequest("GET", bfia.PathPartnerQuery, nil, &views)
	require.Equal(t, "link inbound, 1 up", views[0].Address)
	cut := func(connects int) {
		network.Cut()
		network.Lead("tcp", guest.cfg.Partners.Listen)
		awaitLinks(t, guest.cfg.Ops.Listen, connects)
	}

	// The containers of a job need all slots.
	links := 1
	for n, as := range map[*testParty]func([]byte) []byte{host: reversed,
		guest: func(job []byte) []byte { return job }} {
		folder := t.TempDir()
		job := n.submit(as(exchangeJobIn(t, folder)))
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(folder, "x guest.0 has sent"))
			return err == nil
		}, busy*time.Minute, time.Millisecond)
		links++
		cut(links)
		requireSuccess(t, n.awaitJob(job, 2*time.Minute, isFinished))
	}

	// The commands and reports of a job, with the link gone while a task ends.
	job := sleepJob(t, 2, map[string]any{"s1": seconds(2), "s2": seconds(0)}, nil)
	jobs := map[*testParty]string{guest: guest.submit(job), host: host.submit(reversed(job))}
	for n, job := range jobs {
		n.awaitJob(job, time.Minute, hasTaskBegun("s1"))
	}
	cut(links + 1)
	for n, job := range jobs {
		requireSuccess(t, n.awaitJob(job, time.Minute, isFinished))
	}
	stopped := guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(600)}, nil))
	guest.awaitJob(stopped, time.Minute, isTaskRunning("s1"))
	guest.mustRequest("POST", bfia.PathPlatformStopAll, []byte(`{"job_id":"`+stopped+`"}`), nil)
	require.Equal(t, bfia.OutcomeStopped, guest.awaitJob(stopped, time.Minute, isFinished).Outcome)
}

// TestOneWayPartnerOfProcesses runs a job with a party that can only dial out, and keeps links to both
// transports of its partner. The one that the partner's other process uses is killed while the job runs, and
// the job's next task is started over the other's.
func TestOneWayPartnerOfProcesses(t *testing.T) {
	t.Parallel()
	database := storetest.Postgres(t)
	names := []string{"one", "two"}
	messages := map[string]string{}
	var urls []string
	for _, name := range names {
		messages[name] = testenv.FreeAddress(t)
		urls = append(urls, "https://"+messages[name])
	}
	pair := newPartyPair(t, func(cfg *party.Config) {
		oneWay(cfg, urls...)
		if cfg.NodeID == guestNode {
			cfg.Database.URL, cfg.Transport.Several = party.Secret(database), true
			return
		}
		route := cfg.Routes[guestNode]
		route.TransportURL = urls[1]
		cfg.Routes[guestNode] = route
	})
	cfg := pair.guest.cfg
	start := map[string]func() *program{}
	ops, running := map[string]string{}, map[string]*program{}
	for _, name := range names {
		file := filepath.Join(t.TempDir(), "party.yaml")
		ops[name] = testenv.FreeAddress(t)
		document, err := yaml.Marshal(map[string]any{"node_id": cfg.NodeID, "data_dir": t.TempDir(),
			"database": map[string]any{"url": database},
			"partners": map[string]any{"tls": map[string]any{"cert_file": cfg.Partners.TLS.CertFile,
				"key_file": cfg.Partners.TLS.KeyFile, "ca_file": cfg.Partners.TLS.CAFile}},
			"transport": map[string]any{"listen": testenv.FreeAddress(t), "partner_listen": messages[name],
				"several": true, "name": name},
			"ops":    map[string]any{"listen": ops[name]},
			"routes": map[string]any{hostNode: map[string]any{"link": "inbound"}},
		})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, document, 0o600))
		start[name] = func() *program {
			p := startHutong(t, nil, "transport", "--config", file)
			p.awaitOutput("is ready")
			return p
		}
		running[name] = start[name]()
	}
	pair.guest.startAs(party.Roles{API: true, Control: true, Runner: true})
	pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	for _, name := range names {
		awaitLinks(t, ops[name], 1)
	}
	labels := "{direction=inbound,partner=" + hostNode + "}"
	job := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(5), "s2": seconds(1)}, nil))
	pair.guest.awaitJob(job, time.Minute, isTaskRunning("s1"))
	used := "" // by the guest's process
	for _, name := range names {
		if scrape(t, ops[name])["hutong_partner_link_connections"+labels] > 0 {
			used = name
		}
	}
	require.NotEmpty(t, used)
	running[used].kill(syscall.SIGKILL)
	pair.guest.awaitJob(job, time.Minute, hasTaskBegun("s2"))
	start[used]()
	awaitLinks(t, ops[used], 1)
	requireSuccess(t, pair.guest.awaitJob(job, time.Minute, isFinished))
}
