package party

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(*Config)
		want  string // "" for valid
	}{
		{"valid", func(*Config) {}, ""},
		{"retention", func(c *Config) { c.Jobs.Retention = -time.Hour },
			"jobs.retention: must not be negative, but is -1h0m0s; 0 means forever"},
		{"retention forever", func(c *Config) { c.Jobs.Retention = 0 }, ""},
		{"no node", func(c *Config) { c.NodeID, c.Scheduler = "", "" }, "node_id: is required"},
		{"node", func(c *Config) { c.NodeID, c.Scheduler = "a/b", "" }, `node_id: "a/b" can contain only`},
		{"listen", func(c *Config) { c.Listen = "9380" }, `listen: must be host:port, but is "9380"`},
		{"listen port", func(c *Config) { c.Listen = "127.0.0.1:http" },
			`listen: must be host:port, but is "127.0.0.1:http"`},
		{"listen anywhere", func(c *Config) { c.Transport.Listen = ":0" }, ""},
		{"same port", func(c *Config) { c.Transport.Listen = c.Listen },
			"transport.listen: must differ from listen, but both are 127.0.0.1:9380"},
		{"advertise", func(c *Config) { c.Transport.Advertise = ":9390" }, "transport.advertise:"},
		{"advertised", func(c *Config) { c.Transport.Advertise = "hutong:9390" }, ""},
		{"message", func(c *Config) { c.Transport.MaxMessageMiB = 0 },
			"transport.max_message_mib: must be positive, but is 0"},
		{"session", func(c *Config) { c.Transport.SessionMiB = 1 },
			"transport.session_mib: must be at least transport.max_message_mib (2048), but is 1"},
		{"quota of a partner", func(c *Config) { c.Transport.PartnerMiB = 1 },
			"transport.partner_mib: must be at least transport.max_message_mib (2048), but is 1"},
		{"total", func(c *Config) { c.Transport.TotalMiB = 1000 },
			"transport.total_mib: must be at least transport.session_mib (8192), but is 1000"},
		{"temporal", func(c *Config) { c.Temporal.Address = "temporal" }, "temporal.address:"},
		{"Temporal's UI", func(c *Config) { c.Temporal.UIURL = "temporal.bank.example" },
			`temporal.ui_url: must be http://host:port or https://host:port, but is "temporal.bank.example"`},
		{"Temporal's UI with a script", func(c *Config) { c.Temporal.UIURL = "javascript:alert(1)" },
			"temporal.ui_url: must be http://host:port"},
		{"Temporal's UI below a path",
			func(c *Config) { c.Temporal.UIURL = "https://bank.example/temporal/" }, ""},
		{"key without certificate", func(c *Config) { c.Temporal.TLS.KeyFile = "k" },
			"temporal.tls: requires both cert_file and key_file, or neither"},
		{"database", func(c *Config) { c.Database.URL = "mysql://u:hush@h" },
			"database.url: must start with one of postgres://"},
		{"database no URL", func(c *Config) { c.Database.URL = "postgres://u:hush%@h" },
			"database.url: must be a URL"},
		{"postgres", func(c *Config) { c.Database.URL = "postgres://u:hush@h/db?sslmode=verify-full" }, ""},
		{"storage", func(c *Config) { c.Storage.URL = "/hush" },
			"storage.url: must start with one of file://, s3://"},
		{"s3",
			func(c *Config) { c.Storage.URL = "s3://h:1?username=u&password=hush&bucket=b&secure=true" }, ""},
		{"upload", func(c *Config) { c.Upload.MaxBytes = -1 },
			"upload.max_bytes: must be positive, but is -1"},
		{"document", func(c *Config) { c.Jobs.MaxDocumentBytes = 0 }, "jobs.max_document_bytes:"},
		{"poll", func(c *Config) { c.Jobs.PollEvery = 0 }, "jobs.poll_every: must be positive, but is 0s"},
		{"poll after", func(c *Config) { c.Jobs.PollAfter = -1 }, "jobs.poll_after:"},
		{"parameters", func(c *Config) { c.Jobs.Parameters = "lax" },
			`jobs.parameters: must be one of [warn strict], but is "lax"`},
		{"approval", func(c *Config) { c.Jobs.Approval = "never" },
			`jobs.approval: must be one of [auto manual], but is "never"`},
		{"share", func(c *Config) { c.Jobs.ShareFailure = "all" },
			`jobs.share_failure: must be one of [kind reason log], but is "all"`},
		{"slots", func(c *Config) { c.Runner.Slots = 0 }, "runner.slots: must be positive, but is 0"},
		{"log files", func(c *Config) { c.Runner.LogFilesMiB = -1 },
			"runner.log_files_mib: must not be negative, but is -1"},
		{"grace", func(c *Config) { c.Runner.StopGrace = -time.Second },
			"runner.stop_grace: must not be negative, but is -1s"},
		{"docker", func(c *Config) { c.Runner.Docker.Enabled = "yes" },
			`runner.docker.enabled: must be one of [auto true false], but is "yes"`},
		{"networks", func(c *Config) { c.Runner.Docker.HostNetwork, c.Runner.Docker.Network = true, "n" },
			"runner.docker.network:"},
		{"party host", func(c *Config) { c.Runner.Docker.PartyHost = "" },
			"runner.docker.party_host: is required"},
		{"pods and files", func(c *Config) { enableKubernetes(c); c.Storage.URL = "file:///srv" },
			"runner.k8s.enabled: requires S3, because pods can't read"},
		{"pods and containers", func(c *Config) { enableKubernetes(c); c.Runner.Docker.Enabled = SwitchAuto },
			"runner.k8s.enabled: must be the only driver of a worker"},
		{"pods and processes",
			func(c *Config) { enableKubernetes(c); c.Runner.Process.Allow = []string{"/ok"} },
			"runner.k8s.enabled: must be the only driver of a worker"},
		{"address for pods", func(c *Config) { enableKubernetes(c); c.Runner.K8s.Advertise = "" },
			"runner.k8s.advertise:"},
		{"GPU", func(c *Config) { c.Runner.GPUs = []string{"0", "any"} },
			"runner.gpus[1]: must be an index or UUID that nvidia-smi -L shows"},
		{"same GPU", func(c *Config) { c.Runner.GPUs = []string{"0", "0"} },
			`runner.gpus[1]: is given twice: "0"`},
		{"names of GPUs", func(c *Config) {
			c.Runner.GPUs = []string{"0", "GPU-8f3c11aa-0000-1111-2222-333344445555", "nvidia.com/gpu=0",
				"/dev/dri/renderD128"}
		}, ""},
		{"GPUs of a cluster", func(c *Config) { enableKubernetes(c); c.Runner.GPUs = []string{"0"} },
			"runner.gpus: must be empty with Kubernetes"},
		{"tmp", func(c *Config) { c.Runner.TmpMiB = 0 }, "runner.tmp_mib: must be positive, but is 0"},
		{"pids", func(c *Config) { c.Runner.Docker.Pids = -1 },
			"runner.docker.pids: must be positive, but is -1"},
		{"shared memory", func(c *Config) { c.Runner.SharedMemory = -1 },
			"runner.shared_memory: must be from"},
		{"program", func(c *Config) { c.Runner.Process.Allow = []string{"/ok", "python"} },
			`runner.process.allow[1]: must be an absolute path, but is "python"`},
		{"timeout", func(c *Config) { c.Remote.Timeout = 0 }, "remote.timeout:"},
		{"give up", func(c *Config) { c.Remote.GiveUpAfter = time.Second },
			"remote.give_up_after: must be at least remote.timeout (10s), but is 1s"},
		{"format", func(c *Config) { c.Log.Format = "xml" }, "log.format:"},
		{"scheduler", func(c *Config) { c.Scheduler = "Z" },
			`scheduler: must be this party or an entry of routes, but is "Z"`},
		{"known scheduler", func(c *Config) { c.Scheduler = "Z"; c.Routes = Routes{"Z": {URL: "http://z"}} },
			""},
		{"route", func(c *Config) { c.Routes = Routes{"Z": {URL: "z:1"}} }, "routes.Z.url:"},
		{"route with password", func(c *Config) { c.Routes = Routes{"Z": {URL: "http://u:hush@z"}} },
			"routes.Z.url: must not contain a user or password"},
		{"transport URL", func(c *Config) {
			c.Routes = Routes{"Z": {URL: "http://z",
				TransportURL: "ftp://z"}}
		}, "routes.Z.transport_url:"},
		{"scheduler of a partner", func(c *Config) {
			c.Routes = Routes{"Z": {URL: "http://z", Schedulers: []string{"Z", "Y"}}}
		}, `routes.Z.schedulers[1]: must be an entry of routes, but is "Y"`},
		{"proxies without keys", func(c *Config) {
			c.Partners.TrustedProxies.Header, c.Partners.Listen = "Client-Cert", "127.0.0.1:7"
			c.Partners.TLS = PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem"}
		}, "partners.trusted_proxies.spki_sha256: is required with header"},
		{"proxies without a header", func(c *Config) {
			c.Partners.TrustedProxies.SPKI = []string{strings.Repeat("ab", 32)}
			c.Partners.Listen = "127.0.0.1:7"
			c.Partners.TLS = PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem"}
		}, "partners.trusted_proxies.header: must be the name of a header"},
		{"proxies with a header of the protocol", func(c *Config) {
			c.Partners.TrustedProxies = ProxiesConfig{"X-Source-Node-Id", []string{strings.Repeat("ab", 32)}}
			c.Partners.Listen = "127.0.0.1:7"
			c.Partners.TLS = PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem"}
		}, "partners.trusted_proxies.header: must be a header of its own"},
		{"proxies with a wrong key", func(c *Config) {
			c.Partners.TrustedProxies = ProxiesConfig{"Client-Cert", []string{"00"}}
			c.Partners.Listen = "127.0.0.1:7"
			c.Partners.TLS = PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem"}
		}, "partners.trusted_proxies.spki_sha256[0]:"},
		{"proxies without a listener", func(c *Config) {
			c.Partners.TrustedProxies = ProxiesConfig{"Client-Cert", []string{strings.Repeat("ab", 32)}}
		}, "partners.trusted_proxies: requires partners.listen or transport.partner_listen"},
		{"proxy with a partner's key", func(c *Config) {
			c.Partners.TrustedProxies = ProxiesConfig{"Client-Cert", []string{strings.Repeat("ab", 32)}}
			c.Partners.Listen = "127.0.0.1:7"
			c.Partners.TLS = PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem"}
			c.Routes = Routes{"B": {URL: "https://b:1",
				TLS: RouteTLS{SPKI: []string{strings.Repeat("ab", 32)}}}}
		}, "routes.B.tls.spki_sha256: has the key of a gateway"},
		{"proxies", func(c *Config) {
			c.Partners.TrustedProxies = ProxiesConfig{"Client-Cert", []string{strings.Repeat("ab", 32)}}
			c.Partners.Listen = "127.0.0.1:7"
			c.Partners.TLS = PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem"}
		}, ""},
		{"limits.open_jobs", func(c *Config) { c.Limits.OpenJobs = -1 }, "must be from 0 to 1000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Default()
			config.NodeID, config.Security.Mode = "A", SecurityOpen
			require.NoError(t, config.Complete())
			c.wrong(config)
			err := config.Validate()
			if c.want == "" {
				assert.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			assert.Len(t, strings.Split(err.Error(), "\n"), 1, "an invalid field is reported once")
			assert.NotContains(t, err.Error(), "hush")
		})
	}
}

// TestStrict checks what the mode for production refuses.
func TestStrict(t *testing.T) {
	own := PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem", CAFile: "/ca.pem"}
	for _, c := range []struct {
		name  string
		wrong func(*Config)
		want  string // "" for valid
	}{
		{"valid", func(*Config) {}, ""},
		{"listener of clients", func(c *Config) { c.Listen = "0.0.0.0:1" },
			"listen: must have TLS beyond the loopback interface"},
		{"listener with TLS", func(c *Config) {
			c.Listen, c.TLS = "0.0.0.0:1", ServerTLSConfig{CertFile: "/c.pem", KeyFile: "/c.pem"}
		}, ""},
		{"permits", func(c *Config) { c.Grants = GrantsPermits }, ""},
		{"grants", func(c *Config) { c.Grants = "some" }, "grants: "},
		{"open partners", func(c *Config) { c.Security.OpenPartners = true },
			"security.open_partners: requires security.mode open"},
		{"processes", func(c *Config) { c.Runner.Process.Allow = []string{"/bin/a"} },
			"runner.process.allow: must be empty"},
		{"unsafe processes", func(c *Config) {
			c.Runner.Process.Allow, c.Runner.Unsafe = []string{"/bin/a"}, true
		}, ""},
		{"host network", func(c *Config) { c.Runner.Docker.HostNetwork = true },
			"runner.docker.host_network: must be false"},
		{"partner over http", func(c *Config) { c.Routes = Routes{"B": {URL: "http://b:1"}} },
			"routes.B.from: is required, because auth is none"},
		{"partner by its network", func(c *Config) {
			c.Routes = Routes{"B": {URL: "http://b:1", From: []string{"192.0.2.7/32"}}}
		}, ""},
		{"partner from everywhere", func(c *Config) {
			c.Routes = Routes{"B": {URL: "http://b:1", From: []string{"everywhere"}}}
		}, "routes.B.from[0]: must be a network"},
		{"no certificate", func(c *Config) {
			c.Routes = Routes{"B": {URL: "https://b:1", TLS: RouteTLS{CAFile: "/b.pem"}}}
		}, "partners.tls: requires cert_file and key_file, because auth of routes.B is mtls"},
		{"link", func(c *Config) {
			c.Partners.Listen = ":9382"
			c.Partners.TLS = own
			c.Routes = Routes{"B": {Link: "inbound"}, "C": {Link: "outbound", URL: "https://c",
				LinkURLs: []string{"https://one", "https://two"}}}
		}, ""},
		{"link of another kind", func(c *Config) {
			c.Partners.TLS, c.Routes = own, Routes{"B": {Link: "both", URL: "https://b"}}
		}, `routes.B.link: must be inbound, outbound or empty, but is "both"`},
		{"link without TLS", func(c *Config) {
			c.Routes = Routes{"B": {Link: "outbound", URL: "http://b", From: []string{"192.0.2.7/32"}}}
		}, "routes.B.link: requires auth mtls or mtls+sign, but auth is none"},
		{"link without a listener", func(c *Config) {
			c.Partners.TLS, c.Routes = own, Routes{"B": {Link: "inbound"}}
		}, "routes.B.link: inbound requires transport.partner_listen or partners.listen"},
		{"link with a URL", func(c *Config) {
			c.Partners.Listen, c.Partners.TLS = ":9382", own
			c.Routes = Routes{"B": {Link: "inbound", URL: "https://b"}}
		}, "routes.B.url: must be empty with link inbound"},
		{"URLs of links", func(c *Config) {
			c.Partners.TLS = own
			c.Routes = Routes{"B": {Link: "outbound", URL: "https://b", LinkURLs: []string{"http://b"}}}
		}, "routes.B.link_urls[0]: must be https"},
		{"URLs without a link", func(c *Config) {
			c.Partners.TLS, c.Routes = own, Routes{"B": {URL: "https://b", LinkURLs: []string{"https://b"}}}
		}, "routes.B.link_urls: requires link outbound"},
		{"no authority", func(c *Config) {
			c.Partners.TLS = PartnerTLSConfig{CertFile: "/p.pem", KeyFile: "/p.pem"}
			c.Routes = Routes{"B": {URL: "https://b:1"}}
		}, "routes.B.tls: requires ca_file or spki_sha256"},
		{"mutual TLS", func(c *Config) { c.Partners.TLS, c.Routes = own, Routes{"B": {URL: "https://b:1"}} },
			""},
		{"mutual TLS over http", func(c *Config) {
			c.Partners.TLS, c.Routes = own, Routes{"B": {URL: "http://b:1", Auth: "mtls"}}
		}, "routes.B.url: must be https, because auth is mtls"},
		{"pin", func(c *Config) {
			c.Partners.TLS, c.Routes = own, Routes{"B": {URL: "https://b:1",
				TLS: RouteTLS{SPKI: []string{"00"}}}}
		}, "routes.B.tls.spki_sha256[0]:"},
		{"all sessions", func(c *Config) { c.Transport.Sessions = SessionsAll },
			"transport.sessions: all requires security.mode open"},
		{"partners' listener", func(c *Config) { c.Partners.Listen = "0.0.0.0:2" },
			"partners.listen: requires this party's certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Default()
			config.NodeID = "A"
			require.NoError(t, config.Complete())
			c.wrong(config)
			err := config.Validate()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.Len(t, strings.Split(err.Error(), "\n"), 1, "an unsafe field is reported once")
		})
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add("A=http://a B=http://b|http://t")
	f.Add("=|=")
	f.Fuzz(func(t *testing.T, text string) {
		var routes Routes
		if err := routes.UnmarshalText([]byte(text)); err != nil {
			return
		}
		for node, route := range routes {
			if node == "" || strings.ContainsAny(node+route.URL+route.TransportURL, " \t\n") {
				t.Fatalf("%q was parsed as %q: %+v", text, node, route)
			}
		}
	})
}

// enableKubernetes switches the k8s device on, with all that it needs.
func enableKubernetes(c *Config) {
	c.Storage.URL, c.Runner.Docker.Enabled = "s3://h:9000?bucket=b&secure=true", SwitchOff
	c.Runner.K8s = KubernetesConfig{Enabled: true, Advertise: "worker:9381"}
}

func TestKubernetesConfig(t *testing.T) {
	c := Default()
	c.NodeID = "A"
	require.NoError(t, c.Complete())
	enableKubernetes(c)
	require.NoError(t, c.Validate())
}

// TestTransportAddress checks that an address in brackets, which a variable may need, is of any kind.
func TestTransportAddress(t *testing.T) {
	t.Parallel()
	for advertise, want := range map[string]string{"": "127.0.0.1:9390", "hutong:1": "hutong:1",
		"[10.0.0.7]:9390": "10.0.0.7:9390", "[fd00::7]:9390": "[fd00::7]:9390"} {
		c := Default()
		c.NodeID = "A"
		require.NoError(t, c.Complete())
		c.Transport.Listen, c.Transport.Advertise = "0.0.0.0:9390", advertise
		require.NoError(t, c.Validate())
		assert.Equal(t, want, c.TransportAddress())
	}
}
