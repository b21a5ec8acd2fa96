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
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/party"
)

// clockSlack is the difference of clocks from which on a partner is warned of. HTTP's Date tells whole seconds.
const clockSlack = 5 * time.Second

func partners(cfg *party.Config) []check {
	checks := []check{
		{"listen", func(ctx context.Context) Check { return own(ctx, cfg) }},
		{"transport.listen", func(ctx context.Context) Check { return ownTransport(ctx, cfg.Transport.Listen) }},
	}
	if l := cfg.Transport.PartnerListen; l != "" {
		checks = append(checks, check{"transport.partner_listen", func(ctx context.Context) Check { return ownTransport(ctx, l) }})
	}
	checks = append(checks, check{"routes", func(context.Context) Check { return table(cfg) }})
	for _, node := range slices.Sorted(maps.Keys(cfg.Routes)) {
		if node == cfg.NodeID {
			continue
		}
		route := cfg.Routes[node]
		checks = append(checks, check{"routes." + node, func(ctx context.Context) Check { return partner(ctx, cfg.NodeID, node, route.URL) }})
		checks = append(checks, check{"routes." + node + ".transport_url", func(ctx context.Context) Check {
			if err := channel(ctx, route.Transport()); err != nil {
				return failed("ask the partner for its transport's address and whether it runs; see firewalls on the way", "%s: %v", node, err)
			}
			return ok("a transport answers at %s", route.Transport())
		}})
	}
	return checks
}

func table(cfg *party.Config) Check {
	if len(cfg.Routes) == 0 {
		return warning("put the partners in routes", "no partner is known; jobs can only be this party's own")
	}
	if _, there := cfg.Routes[cfg.NodeID]; there {
		return warning("take it out", "the table has this party itself, %s", cfg.NodeID)
	}
	at := map[string]string{}
	for _, node := range slices.Sorted(maps.Keys(cfg.Routes)) {
		address := strings.ToLower(strings.TrimRight(cfg.Routes[node].URL, "/"))
		if other, twice := at[address]; twice {
			return warning("see which of them is there; only behind a gateway that tells nodes apart can it be both", "%s and %s are both at %s", other, node, address)
		}
		at[address] = node
	}
	return ok("%d partner(s)", len(cfg.Routes))
}

// get asks a base URL who it is: node is "" if it does not tell.
func get(ctx context.Context, base string) (node string, date time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+bfia.PathHealth, nil)
	if err != nil {
		return "", date, err
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req) // follows no redirection, as commands don't
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
	var who struct {
		NodeID string `json:"node_id"`
	}
	if resp.StatusCode == http.StatusOK && json.Unmarshal(body, &envelope) == nil && json.Unmarshal(envelope.Data, &who) == nil {
		node = who.NodeID
	}
	return node, date, nil
}

// post sends an empty question to a path of the protocol, and reads what it answers.
func post(ctx context.Context, address, from, to, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	bfia.SetHeaders(req.Header, from, to, "doctor", time.Now())
	tr := http.DefaultTransport.(*http.Transport).Clone()
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(io.LimitReader(resp.Body, 1<<16))
}

// speaks asks a party for a task that nobody has: whoever speaks the protocol answers with a code.
func speaks(ctx context.Context, self, node, base string) error {
	answer, err := post(ctx, strings.TrimRight(base, "/")+bfia.PathTaskPoll, self, node, `{"task_id":"doctor","role":""}`)
	if err != nil {
		return err
	}
	var envelope struct {
		Code *json.Number `json:"code"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil || envelope.Code == nil {
		return fmt.Errorf("%s answers HTTP, but not the protocol: %.100q", base, answer)
	}
	return nil
}

// channel asks a transport to take a message that has no session: it refuses with a code of its own (part 4).
func channel(ctx context.Context, base string) error {
	answer, err := post(ctx, strings.TrimRight(base, "/")+"/v1/interconn/chan/invoke", "", "", "{}")
	if err != nil {
		return err
	}
	var refusal struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(answer, &refusal); err != nil || !strings.HasPrefix(refusal.Code, "E") {
		return fmt.Errorf("%s answers HTTP, but is no transport: %.100q", base, answer)
	}
	return nil
}

func partner(ctx context.Context, self, node, base string) Check {
	is, date, err := get(ctx, base)
	switch {
	case err != nil:
		return failed("ask the partner whether it runs and at which URL; see firewalls, DNS and certificates on the way", "%s: %v", node, err)
	case is != "" && is != node:
		return failed("mend the URL or the node id in routes", "%s answers as node %s, not %s", base, is, node)
	}
	if is == "" {
		if err := speaks(ctx, self, node, base); err != nil {
			return failed("ask the partner at which URL its API is; a gateway on the way may answer in its place", "%s: %v", node, err)
		}
	}
	if away := time.Since(date).Abs(); !date.IsZero() && away > clockSlack {
		return warning("set both clocks by NTP", "%s answers; its clock and this one are %s apart", node, away.Round(time.Second))
	}
	if is == "" {
		return ok("a party answers at %s; it does not tell its node id, as only Hutong does", base)
	}
	return ok("%s answers as %s", base, node)
}

func own(ctx context.Context, cfg *party.Config) Check {
	c := listening(ctx, cfg.Listen, "hutong api")
	if c.State != OK {
		return c
	}
	if is, _, err := get(ctx, "http://"+local127(cfg.Listen)); err != nil || is != cfg.NodeID {
		return failed("end the other program, or take another port in listen", "another program, not the API of %s, listens on %s", cfg.NodeID, cfg.Listen)
	}
	return ok("this party's API answers at %s", cfg.Listen)
}

func ownTransport(ctx context.Context, address string) Check {
	c := listening(ctx, address, "hutong transport")
	if c.State != OK {
		return c
	}
	if err := channel(ctx, "http://"+local127(address)); err != nil {
		return failed("end the other program, or take another port", "another program listens on %s: %v", address, err)
	}
	return ok("a transport answers at %s", address)
}

// listening tells whether something answers HTTP at an address, or whether it could be listened on.
func listening(ctx context.Context, address, command string) Check {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", local127(address))
	if err == nil {
		_ = conn.Close()
		if _, _, err := get(ctx, (&url.URL{Scheme: "http", Host: local127(address)}).String()); err != nil {
			return failed("end the other program, or take another port", "what listens on %s does not speak HTTP: %v", address, err)
		}
		return ok("%s answers HTTP", address)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return failed("name an address of this machine and a port that is free and allowed", "%s can't be listened on: %v", address, err)
	}
	_ = l.Close()
	return warning("start "+command+" with this configuration, if it is to run on this machine", "%s is free: %s is not running here", address, command)
}

// local127 is where this machine reaches what listens on an address.
func local127(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
