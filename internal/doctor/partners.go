package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/httpclient"
	"hutong/internal/link"
	"hutong/internal/partners"
	"hutong/internal/party"
	"hutong/internal/placement"
	"hutong/store"
)

// maxClockSkew is the largest difference between two clocks without a warning. HTTP's Date header has whole
// seconds.
const maxClockSkew = 5 * time.Second

// partnerChecks returns the checks of the party's own addresses and of its partners, those of the
// configuration and those by contract.
func partnerChecks(ctx context.Context, cfg *party.Config) []check {
	checks := []check{
		{"listen", func(ctx context.Context) Check { return checkAPI(ctx, cfg) }},
		{"transport.listen", func(ctx context.Context) Check {
			return checkTransport(ctx, cfg.Transport.Listen)
		}},
	}
	directory, useLinks, err := party.OpenPartnersWithLinks(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return append(checks, check{"partners.tls", func(context.Context) Check {
			return failed("correct the file or the field; no partner was checked",
				"failed to read the certificates for partners: %v", err)
		}})
	}
	if own := directory.Certificate(); own != nil {
		checks = append(checks, check{"partners.tls", func(context.Context) Check {
			return checkExpiry("this party's certificate", own, "renew it, for example with hutong cert "+
				"init; the party reads it again without a restart")
		}})
	}
	// They are read before the checks, since each contract has its own.
	var links *link.Dialer
	byContract, unread := 0, withDatabase(ctx, cfg, func(ctx context.Context, db *store.Store) error {
		contracts, _, err := party.ReadContracts(ctx, db)
		directory.SetContracts(contracts)
		if err == nil {
			links, err = useLinks(ctx, db)
		}
		return err
	})
	for _, p := range directory.Partners() {
		if p.Contract != "" {
			byContract++
		}
	}
	over := directory.Transport(nil)
	if cfg.Transport.Several {
		checks = append(checks, check{"transport.several", func(ctx context.Context) Check {
			return checkTransports(ctx, cfg)
		}})
	} else if address := cfg.Transport.Advertise; address != "" {
		checks = append(checks, check{"transport.advertise", func(ctx context.Context) Check {
			return checkTransportAdvertise(ctx, address)
		}})
	}
	checks = append(checks, check{"proxy", func(ctx context.Context) Check { return checkProxy(ctx, cfg) }})
	checks = append(checks, check{"routes", func(context.Context) Check {
		return checkRoutes(cfg, byContract, unread)
	}})

	for _, p := range directory.Partners() {
		if p.Node == cfg.NodeID {
			continue
		}
		name := "routes." + p.Node
		if p.Contract != "" {
			name = "contracts." + p.Node
		}
		checks = append(checks, linkChecks(cfg, name, p, links, over)...)
		checks = append(checks, check{name, func(ctx context.Context) Check {
			return checkPartner(ctx, cfg, over, p.Node, p.URL)
		}})
		checks = append(checks, check{name + ".transport_url", func(ctx context.Context) Check {
			if err := placement.Probe(ctx, over, cfg.NodeID, p.Node, p.Transport()); err != nil {
				return failed(
					"ask the partner for its transport's address and whether the transport runs; "+
						"check firewalls",
					"failed to reach the transport of %s: %v",
					p.Node,
					err,
				)
			}
			return ok("a transport answers at %s", p.Transport())
		}})
	}

	return checks
}

// withDatabase opens the party's database for a part of the limit.
func withDatabase(ctx context.Context, cfg *party.Config,
	read func(context.Context, *store.Store) error) error {
	ctx, cancel := context.WithTimeout(ctx, Limit/2)
	defer cancel()
	db, problem := openDatabase(ctx, cfg)
	if problem != nil {
		return errors.New(problem.Detail)
	}
	defer func() { _ = db.Close() }()
	return read(ctx, db)
}

// expiresSoon is how long before the end of a certificate the doctor warns.
const expiresSoon = 30 * 24 * time.Hour

// checkExpiry checks that a certificate is valid for a while.
func checkExpiry(what string, cert *x509.Certificate, remedy string) Check {
	end := cert.NotAfter.Format(time.DateOnly)
	switch left := time.Until(cert.NotAfter); {
	case left <= 0:
		return failed(remedy, "%s has expired on %s", what, end)
	case left < expiresSoon:
		return warning(remedy, "%s expires on %s", what, end)
	}
	return ok("%s is valid until %s, fingerprint %s", what, end, certs.PinOf(cert))
}

// direct returns a transport for this party's own servers, which keeps no connections.
func direct() *http.Transport {
	t := httpclient.Direct()
	t.DisableKeepAlives = true
	return t
}

// checkRoutes checks that the party has partners, by routes or by contracts, which may be unread.
func checkRoutes(cfg *party.Config, contracts int, unread error) Check {
	switch {
	case len(cfg.Routes)+contracts > 0:
	case unread != nil:
		return warning("see the check of the database",
			"routes is empty, and the contracts are not known: %v", unread)
	default:
		return warning("invite a partner with hutong partner invite, or add it to routes",
			"this party has no partner, so jobs can only involve itself")
	}
	if _, found := cfg.Routes[cfg.NodeID]; found {
		return warning("remove the entry", "routes contains this party, %s", cfg.NodeID)
	}

	nodes := map[string]string{} // by URL
	for _, node := range slices.Sorted(maps.Keys(cfg.Routes)) {
		if cfg.Routes[node].Link == partners.Inbound {
			continue // it has no URL
		}
		address := strings.ToLower(strings.TrimRight(cfg.Routes[node].URL, "/"))
		if other, duplicate := nodes[address]; duplicate {
			return warning("correct one of the URLs, unless a gateway there routes requests by node id",
				"%s and %s have the same URL %s", other, node, address)
		}
		nodes[address] = node
	}

	return ok("%d partner(s) of the configuration, %d by contract", len(cfg.Routes), contracts)
}

// readNodeID reads the node id and the clock of the party at a base URL. node is "" if the party does not
// report it.
func readNodeID(ctx context.Context, tr http.RoundTripper, base, target string) (node string,
	response *http.Response, err error) {
	req, err := http.NewRequestWithContext(
		ctx,
		http.MethodGet,
		strings.TrimRight(base, "/")+bfia.PathHealth,
		nil,
	)
	if err != nil {
		return "", nil, err
	}
	req.Header.Set("x-target-node-id", target)
	resp, err := tr.RoundTrip(req) // like the partner client, it follows no redirects
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", nil, err
	}
	var envelope bfia.Envelope
	var health struct {
		NodeID string `json:"node_id"`
	}
	if resp.StatusCode == http.StatusOK && json.Unmarshal(body, &envelope) == nil &&
		json.Unmarshal(envelope.Data, &health) == nil {
		node = health.NodeID
	}

	return node, resp, nil
}

// post sends a request of the protocol and returns the body of the response.
func post(ctx context.Context, tr http.RoundTripper, address, from, to, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	bfia.SetHeaders(req.Header, from, to, "doctor", time.Now())
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(io.LimitReader(resp.Body, 1<<16))
}

// probeProtocol polls a task that does not exist. An implementation of the protocol answers with a code.
func probeProtocol(ctx context.Context, tr http.RoundTripper, self, node, base string) error {
	answer, err := post(ctx, tr, strings.TrimRight(base, "/")+bfia.PathTaskPoll, self, node,
		`{"task_id":"doctor","role":""}`)
	if err != nil {
		return err
	}
	var envelope struct {
		Code *json.Number `json:"code"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil || envelope.Code == nil {
		return fmt.Errorf("%s answers HTTP, but not the BFIA protocol: %.100q", base, answer)
	}
	return nil
}

func checkPartner(ctx context.Context, cfg *party.Config, over http.RoundTripper, node,
	base string) Check {
	reported, response, err := readNodeID(ctx, over, base, node)
	switch {
	case err != nil:
		return failed("ask the partner whether its API runs and at which URL; check firewalls, DNS, "+
			"certificates and the fields of proxy",
			"failed to reach %s: %v", node, err)
	case reported != "" && reported != node:
		return failed("correct the URL or the node id in routes", "%s reports node id %s, not %s", base,
			reported, node)
	}
	if reported == "" {
		if err := probeProtocol(ctx, over, cfg.NodeID, node, base); err != nil {
			return failed("ask the partner at which URL its API is; a gateway may answer instead of the "+
				"partner",
				"failed to reach %s: %v", node, err)
		}
	}

	date, _ := http.ParseTime(response.Header.Get("Date"))
	if skew := time.Since(date).Abs(); !date.IsZero() && skew > maxClockSkew {
		return warning("synchronise both clocks with NTP",
			"%s answers, but its clock differs from this one by %s", node, skew.Round(time.Second))
	}
	if response.TLS != nil && len(response.TLS.PeerCertificates) > 0 {
		c := checkExpiry(
			"the certificate of "+node,
			response.TLS.PeerCertificates[0],
			"ask the partner to renew it",
		)
		if c.State != OK {
			return c
		}
	}
	if reported == "" {
		return ok(
			"a party answers at %s; it does not report its node id, which only Hutong parties do",
			base,
		)
	}

	return ok("%s answers at %s", node, base)
}

// checkAPI checks the listener of clients, and its certificate if it has one.
func checkAPI(ctx context.Context, cfg *party.Config) Check {
	over, scheme := direct(), "http"
	valid := ok("")
	if cfg.TLS.CertFile != "" {
		pair, err := certs.LoadKeyPair(cfg.TLS.CertFile, cfg.TLS.KeyFile, slog.New(slog.DiscardHandler))
		if err != nil {
			return failed("correct the file or the field", "tls.cert_file: %v", err)
		}
		own := pair.Certificate().Leaf
		if valid = checkExpiry("the certificate of tls", own, "renew it; the party reads it again without a "+
			"restart"); valid.State == Failed {
			return valid
		}
		over, scheme = withCertificate(own), "https"
	}
	c := checkListener(ctx, cfg.Listen, "hutong api", over, scheme,
		"if it runs on another machine, nothing needs to be done here")
	if c.State != OK {
		return c
	}
	node, _, err := readNodeID(ctx, over, scheme+"://"+localAddress(cfg.Listen), "")
	if err != nil || node != cfg.NodeID {
		return failed("stop the other program, or set listen to another port",
			"a program other than the API of %s listens on %s", cfg.NodeID, cfg.Listen)
	}
	if valid.State != OK {
		return valid
	}

	return ok("this party's API answers at %s", cfg.Listen)
}

// withCertificate returns a transport for a server of this party that must show a certificate, whatever names
// it has: clients reach the server by others than this check does.
func withCertificate(own *x509.Certificate) *http.Transport {
	t := direct()
	t.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection demands the very certificate
		VerifyConnection: func(s tls.ConnectionState) error {
			if !s.PeerCertificates[0].Equal(own) {
				return errors.New("the server does not show the certificate of tls.cert_file")
			}
			return nil
		},
	}
	return t
}

func checkTransport(ctx context.Context, address string) Check {
	c := checkListener(ctx, address, "hutong transport", direct(), "http",
		"if it runs on another machine, set transport.advertise to its address there")
	if c.State != OK {
		return c
	}
	if err := placement.Probe(ctx, direct(), "", "", "http://"+localAddress(address)); err != nil {
		return failed("stop the other program, or use another port", "another program listens on %s: %v",
			address, err)
	}

	return ok("a transport answers at %s", address)
}

// checkListener checks that an HTTP server answers at an address. Otherwise it checks that the address can be
// listened on; elsewhere says what to do if the command runs on another machine.
func checkListener(ctx context.Context, address, command string, over http.RoundTripper,
	scheme, elsewhere string) Check {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", localAddress(address))
	if err == nil {
		_ = conn.Close()
		if _, _, err := readNodeID(ctx, over, scheme+"://"+localAddress(address), ""); err != nil {
			return failed("stop the other program, or use another port",
				"the program that listens on %s does not speak %s as this party does: %v", address,
				strings.ToUpper(scheme), err)
		}
		return ok("%s answers HTTP", address)
	}

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return failed("use an address of this machine and a port that is free and permitted",
			"failed to listen on %s: %v", address, err)
	}
	_ = l.Close()

	return warning(
		"if "+command+" is meant to run on this machine, start it with this configuration; "+elsewhere,
		"%s is not running: %s is free", command, address)
}

// checkTransportAdvertise checks the address at which runners and control workers reach the transport.
func checkTransportAdvertise(ctx context.Context, address string) Check {
	if err := placement.Probe(ctx, direct(), "", "", "http://"+address); err != nil {
		return warning("start hutong transport, or set transport.advertise to an address that runners and "+
			"control workers reach",
			"failed to reach this party's transport from this machine at %s: %v", address, err)
	}
	return ok("a transport answers at %s", address)
}

// checkProxy reports which connections use a proxy, and connects to it.
func checkProxy(ctx context.Context, cfg *party.Config) Check {
	switch setting := cfg.Proxy.URL.Reveal(); setting {
	case "":
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
			if os.Getenv(name) != "" {
				return ok("none; %s in the environment is not used (proxy.url: environment would use it)",
					name)
			}
		}
		return ok("none")
	case httpclient.Environment:
		return ok("as HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment say")
	default:
		address, err := httpclient.Address(setting)
		if err == nil {
			var conn net.Conn
			if conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address); err == nil {
				_ = conn.Close()
			}
		}
		if err != nil {
			return failed("start the proxy, or correct proxy.url", "failed to reach the proxy: %v", err)
		}
		return ok("%s answers", address)
	}
}

// localAddress returns the address at which this machine reaches a server that listens on address.
func localAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}

	return net.JoinHostPort(host, port)
}
