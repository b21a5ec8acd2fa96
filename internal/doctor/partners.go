package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/httpclient"
	"hutong/internal/party"
)

// maxClockSkew is the largest difference between two clocks without a warning. HTTP's Date header has whole
// seconds.
const maxClockSkew = 5 * time.Second

// partnerChecks returns the checks of the party's own addresses and of its partners.
func partnerChecks(cfg *party.Config) []check {
	checks := []check{
		{"listen", func(ctx context.Context) Check { return checkAPI(ctx, cfg) }},
		{"transport.listen", func(ctx context.Context) Check {
			return checkTransport(ctx, cfg.Transport.Listen)
		}},
	}
	if address := cfg.Transport.PartnerListen; address != "" {
		checks = append(checks, check{"transport.partner_listen", func(ctx context.Context) Check {
			return checkTransport(ctx, address)
		}})
	}
	if address := cfg.Transport.Advertise; address != "" {
		checks = append(checks, check{"transport.advertise", func(ctx context.Context) Check {
			return checkTransportAdvertise(ctx, address)
		}})
	}
	checks = append(checks, check{"proxy", func(ctx context.Context) Check { return checkProxy(ctx, cfg) }})
	checks = append(checks, check{"routes", func(context.Context) Check { return checkRoutes(cfg) }})

	for _, node := range slices.Sorted(maps.Keys(cfg.Routes)) {
		if node == cfg.NodeID {
			continue
		}
		route := cfg.Routes[node]
		checks = append(checks, check{"routes." + node, func(ctx context.Context) Check {
			return checkPartner(ctx, cfg, node, route.URL)
		}})
		checks = append(checks, check{"routes." + node + ".transport_url", func(ctx context.Context) Check {
			if err := probeTransport(ctx, cfg.Proxy.Rule(), route.Transport()); err != nil {
				return failed("ask the partner for its transport's address and whether the transport runs; "+
					"check firewalls",
					"failed to reach the transport of %s: %v", node, err)
			}
			return ok("a transport answers at %s", route.Transport())
		}})
	}

	return checks
}

func checkRoutes(cfg *party.Config) Check {
	if len(cfg.Routes) == 0 {
		return warning("add the partners to routes", "routes is empty, so jobs can only involve this party")
	}
	if _, found := cfg.Routes[cfg.NodeID]; found {
		return warning("remove the entry", "routes contains this party, %s", cfg.NodeID)
	}

	nodes := map[string]string{} // by URL
	for _, node := range slices.Sorted(maps.Keys(cfg.Routes)) {
		address := strings.ToLower(strings.TrimRight(cfg.Routes[node].URL, "/"))
		if other, duplicate := nodes[address]; duplicate {
			return warning("correct one of the URLs, unless a gateway there routes requests by node id",
				"%s and %s have the same URL %s", other, node, address)
		}
		nodes[address] = node
	}

	return ok("%d partner(s)", len(cfg.Routes))
}

// readNodeID reads the node id and the clock of the party at a base URL. node is "" if the party does not
// report it.
func readNodeID(ctx context.Context, proxy httpclient.Proxy, base string) (node string, date time.Time,
	err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+bfia.PathHealth,
		nil)
	if err != nil {
		return "", date, err
	}
	tr := proxy.Transport()
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req) // like the partner client, it follows no redirects
	if err != nil {
		return "", date, err
	}
	defer func() { _ = resp.Body.Close() }()
	date, _ = http.ParseTime(resp.Header.Get("Date"))
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", date, err
	}
	var envelope bfia.Envelope
	var health struct {
		NodeID string `json:"node_id"`
	}
	if resp.StatusCode == http.StatusOK && json.Unmarshal(body, &envelope) == nil &&
		json.Unmarshal(envelope.Data, &health) == nil {
		node = health.NodeID
	}

	return node, date, nil
}

// post sends a request of the protocol and returns the body of the response.
func post(ctx context.Context, proxy httpclient.Proxy, address, from, to, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	bfia.SetHeaders(req.Header, from, to, "doctor", time.Now())
	tr := proxy.Transport()
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(io.LimitReader(resp.Body, 1<<16))
}

// probeProtocol polls a task that does not exist. An implementation of the protocol answers with a code.
func probeProtocol(ctx context.Context, proxy httpclient.Proxy, self, node, base string) error {
	answer, err := post(ctx, proxy, strings.TrimRight(base, "/")+bfia.PathTaskPoll, self, node,
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

// probeTransport sends a transport a message without a session. A transport rejects it with a code that
// starts with E (BFIA specification, part 4).
func probeTransport(ctx context.Context, proxy httpclient.Proxy, base string) error {
	answer, err := post(ctx, proxy, strings.TrimRight(base, "/")+"/v1/interconn/chan/invoke", "", "", "{}")
	if err != nil {
		return err
	}
	var rejection struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(answer, &rejection); err != nil || !strings.HasPrefix(rejection.Code, "E") {
		return fmt.Errorf("%s answers HTTP, but is not a transport: %.100q", base, answer)
	}
	return nil
}

func checkPartner(ctx context.Context, cfg *party.Config, node, base string) Check {
	proxy := cfg.Proxy.Rule()
	reported, date, err := readNodeID(ctx, proxy, base)
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
		if err := probeProtocol(ctx, proxy, cfg.NodeID, node, base); err != nil {
			return failed("ask the partner at which URL its API is; a gateway may answer instead of the "+
				"partner",
				"failed to reach %s: %v", node, err)
		}
	}

	if skew := time.Since(date).Abs(); !date.IsZero() && skew > maxClockSkew {
		return warning("synchronise both clocks with NTP",
			"%s answers, but its clock differs from this one by %s", node, skew.Round(time.Second))
	}
	if reported == "" {
		return ok("a party answers at %s; it does not report its node id, which only Hutong parties do", base)
	}

	return ok("%s answers at %s", node, base)
}

func checkAPI(ctx context.Context, cfg *party.Config) Check {
	c := checkListener(ctx, cfg.Listen, "hutong api", "advertise")
	if c.State != OK {
		return c
	}
	node, _, err := readNodeID(ctx, httpclient.Proxy{}, "http://"+localAddress(cfg.Listen))
	if err != nil || node != cfg.NodeID {
		return failed("stop the other program, or set listen to another port",
			"a program other than the API of %s listens on %s", cfg.NodeID, cfg.Listen)
	}

	return ok("this party's API answers at %s", cfg.Listen)
}

func checkTransport(ctx context.Context, address string) Check {
	c := checkListener(ctx, address, "hutong transport", "transport.advertise")
	if c.State != OK {
		return c
	}
	if err := probeTransport(ctx, httpclient.Proxy{}, "http://"+localAddress(address)); err != nil {
		return failed("stop the other program, or use another port", "another program listens on %s: %v",
			address, err)
	}

	return ok("a transport answers at %s", address)
}

// checkListener checks that an HTTP server answers at an address. Otherwise it checks that the address can be
// listened on.
func checkListener(ctx context.Context, address, command, advertise string) Check {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", localAddress(address))
	if err == nil {
		_ = conn.Close()
		server := url.URL{Scheme: "http", Host: localAddress(address)}
		if _, _, err := readNodeID(ctx, httpclient.Proxy{}, server.String()); err != nil {
			return failed("stop the other program, or use another port",
				"a program that does not speak HTTP listens on %s: %v", address, err)
		}
		return ok("%s answers HTTP", address)
	}

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return failed("use an address of this machine and a port that is free and permitted",
			"failed to listen on %s: %v", address, err)
	}
	_ = l.Close()

	return warning("if "+command+" is meant to run on this machine, start it with this configuration; "+
		"if it runs on another one, set "+advertise+" to its address there",
		"%s is not running: %s is free", command, address)
}

// checkTransportAdvertise checks the address at which runners and control workers reach the transport.
func checkTransportAdvertise(ctx context.Context, address string) Check {
	if err := probeTransport(ctx, httpclient.Proxy{}, "http://"+address); err != nil {
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
