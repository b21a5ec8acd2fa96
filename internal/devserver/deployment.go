package devserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"hutong/internal/party"
)

// PartyAddress is one party of a development deployment: its node id and where its API listens. Its transport listens
// on the next port that none of the parties' APIs has.
type PartyAddress struct {
	NodeID string
	Listen string
}

// ParsePartyAddress reads NODE_ID=HOST:PORT.
func ParsePartyAddress(text string) (PartyAddress, error) {
	node, listen, ok := strings.Cut(text, "=")
	if _, port, err := net.SplitHostPort(listen); !ok || err != nil || node == "" || port == "0" {
		return PartyAddress{}, fmt.Errorf("%q is not of the form NODE_ID=HOST:PORT", text)
	}
	return PartyAddress{NodeID: node, Listen: listen}, nil
}

// DefaultParties are the guest and the host of the documentation.
func DefaultParties() []PartyAddress {
	return []PartyAddress{{"JG0100001100000010", "127.0.0.1:9380"}, {"JG0110017800000000", "127.0.0.1:9480"}}
}

// Options say what a development deployment is made of.
type Options struct {
	DataDir      string
	Parties      []PartyAddress
	TemporalPort int
	UIPort       int
	// Docker switches the docker device of all parties.
	Docker party.Switch
	// HostNetwork runs containers on the host's network.
	HostNetwork bool
	// Allow are the programs that providers of device process may run.
	Allow []string
	// Slots is how many containers each party runs at once; 0 is the default.
	Slots  int
	Logger *slog.Logger
}

// Deployment is a development deployment: the engine and N parties in one process, which talk over HTTP only. Each party
// is what a production one is, with its own namespace, database, storage, workers and transport.
type Deployment struct {
	Temporal *TemporalServer
	Parties  []*party.Config
	running  []*party.Party
}

// Start starts a deployment, or goes on with the one whose folder it is: jobs that had not ended go on.
func Start(ctx context.Context, o Options) (_ *Deployment, err error) {
	d := &Deployment{}
	defer func() {
		if err != nil {
			d.Stop(context.WithoutCancel(ctx))
		}
	}()
	if d.Parties, err = configs(o); err != nil {
		return nil, err
	}
	var namespaces []string
	for _, cfg := range d.Parties {
		namespaces = append(namespaces, cfg.Temporal.Namespace)
	}
	if d.Temporal, err = StartTemporalServer(ctx, TemporalServerOptions{DataDir: filepath.Join(o.DataDir, "temporal"), Port: o.TemporalPort,
		UIPort: o.UIPort, Namespaces: namespaces, Logger: o.Logger}); err != nil {
		return nil, err
	}
	for _, cfg := range d.Parties {
		cfg.Temporal.Address = d.Temporal.Address()
		if err := party.Migrate(ctx, cfg); err != nil {
			return nil, err
		}
		p, err := party.Start(ctx, cfg, party.Roles{API: true, Control: true, Runner: true, Transport: true}, o.Logger)
		if err != nil {
			return nil, err
		}
		d.running = append(d.running, p)
	}
	return d, nil
}

// configs makes the parties' configurations, each with routes to all others.
func configs(o Options) ([]*party.Config, error) {
	taken := map[string]bool{}
	for _, a := range o.Parties {
		if taken[a.NodeID] || taken[a.Listen] {
			return nil, fmt.Errorf("party %s=%s: the node id or the address stands there twice", a.NodeID, a.Listen)
		}
		taken[a.NodeID], taken[a.Listen] = true, true
	}
	var all []*party.Config
	for _, a := range o.Parties {
		cfg := party.Default()
		cfg.NodeID, cfg.Listen = a.NodeID, a.Listen
		cfg.DataDir = filepath.Join(o.DataDir, a.NodeID)
		cfg.Runner.Docker.Enabled = o.Docker
		cfg.Runner.Docker.HostNetwork = o.HostNetwork
		cfg.Runner.Process.Allow = o.Allow
		if o.Slots > 0 {
			cfg.Runner.Slots = o.Slots
		}
		host, portText, err := net.SplitHostPort(a.Listen)
		if err != nil {
			return nil, fmt.Errorf("party %s: %w", a.NodeID, err)
		}
		port, err := strconv.Atoi(portText)
		if err != nil {
			return nil, fmt.Errorf("party %s: port %q is no number", a.NodeID, portText)
		}
		for {
			port++
			if cfg.Transport.Listen = net.JoinHostPort(host, strconv.Itoa(port)); !taken[cfg.Transport.Listen] {
				taken[cfg.Transport.Listen] = true
				break
			}
		}
		if err := cfg.Complete(); err != nil {
			return nil, fmt.Errorf("party %s: %w", a.NodeID, err)
		}
		all = append(all, cfg)
	}
	for _, cfg := range all {
		cfg.Routes = party.Routes{}
		for _, other := range all {
			if other != cfg {
				cfg.Routes[other.NodeID] = party.Route{URL: "http://" + other.Listen, TransportURL: "http://" + other.Transport.Listen}
			}
		}
		if err := cfg.Validate(); err != nil {
			return nil, fmt.Errorf("party %s: %w", cfg.NodeID, err)
		}
	}
	return all, nil
}

// Failed tells when a part that serves has ended by itself.
func (d *Deployment) Failed() <-chan error {
	failed := make(chan error, len(d.running))
	for _, p := range d.running {
		go func() { failed <- <-p.Failed() }()
	}
	return failed
}

// Stop stops the parties, then the engine.
func (d *Deployment) Stop(ctx context.Context) {
	for _, p := range d.running {
		p.Stop(ctx)
	}
	if d.Temporal != nil {
		d.Temporal.Stop()
	}
}
