package doctor

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/deploy/party"
)

// clockSlack is the difference of clocks from which on a partner is warned of. HTTP's Date tells whole seconds.
const clockSlack = 5 * time.Second

func partners(cfg *party.Config) []check {
	checks := []check{
		{"listen", func(ctx context.Context) Check { return own(ctx, cfg) }},
		{"transport.listen", func(ctx context.Context) Check { return listening(ctx, cfg.Transport.Listen, "hutong transport") }},
	}
	if l := cfg.Transport.PartnerListen; l != "" {
		checks = append(checks, check{"transport.partner_listen", func(ctx context.Context) Check { return listening(ctx, l, "hutong transport") }})
	}
	checks = append(checks, check{"routes", func(context.Context) Check { return table(cfg) }})
	for _, node := range slices.Sorted(maps.Keys(cfg.Routes)) {
		if node == cfg.NodeID {
			continue
		}
		route := cfg.Routes[node]
		checks = append(checks, check{"routes." + node, func(ctx context.Context) Check { return partner(ctx, node, route.URL) }})
		if route.Transport() != route.URL {
			checks = append(checks, check{"routes." + node + ".transport_url", func(ctx context.Context) Check {
				if _, _, err := get(ctx, route.Transport()); err != nil {
					return failed("ask the partner for its transport's address; see firewalls on the way", "%v", err)
				}
				return ok("%s answers HTTP", route.Transport())
			}})
		}
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

func partner(ctx context.Context, node, base string) Check {
	is, date, err := get(ctx, base)
	switch {
	case err != nil:
		return failed("ask the partner whether it runs and at which URL; see firewalls, DNS and certificates on the way", "%s: %v", node, err)
	case is != "" && is != node:
		return failed("mend the URL or the node id in routes", "%s answers as node %s, not %s", base, is, node)
	}
	if away := time.Since(date).Abs(); !date.IsZero() && away > clockSlack {
		return warning("set both clocks by NTP", "%s answers; its clock and this one are %s apart", node, away.Round(time.Second))
	}
	if is == "" {
		return ok("%s answers HTTP, and does not tell its node id (only Hutong does)", base)
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
