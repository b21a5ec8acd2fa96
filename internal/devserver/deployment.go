package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"hutong/internal/certs"
	"hutong/internal/party"
)

// PartyAddress holds the node id of a party and the host:port of its API. Its other servers listen on the
// next ports that no party's API uses.
type PartyAddress struct {
	NodeID string
	Listen string
}

// ParsePartyAddress parses NODE_ID=HOST:PORT.
func ParsePartyAddress(text string) (PartyAddress, error) {
	node, listen, ok := strings.Cut(text, "=")
	if _, port, err := net.SplitHostPort(listen); !ok || err != nil || node == "" || port == "0" {
		return PartyAddress{}, fmt.Errorf("%q is not of the form NODE_ID=HOST:PORT with a fixed port", text)
	}
	return PartyAddress{NodeID: node, Listen: listen}, nil
}

// DefaultParties returns the two parties of the documentation's examples.
func DefaultParties() []PartyAddress {
	return []PartyAddress{{"JG0100001100000010", "127.0.0.1:9380"}, {"JG0110017800000000", "127.0.0.1:9480"}}
}

// Options configure a development deployment.
type Options struct {
	DataDir      string
	Parties      []PartyAddress
	TemporalPort int
	UIPort       int
	// Docker switches the Docker driver of all parties.
	Docker party.Switch
	// OpenPartners also takes partners without certificates, by their header.
	OpenPartners bool
	// HostNetwork runs containers on the machine's network.
	HostNetwork bool
	// Allow lists the programs that providers of device process may run.
	Allow []string
	// Slots is the number of slots of each party's runner; 0 means the default.
	Slots int
	// Environ is the environment, of which the variables of [party.Config.ReadSharedEnv] hold for all
	// parties. The other options override them.
	Environ []string
	Logger  *slog.Logger
}

// Deployment is a running development deployment: Temporal and several parties in one process. Each party has
// its own namespace, database, storage, workers and transport, as in production. The parties communicate over
// HTTP only.
type Deployment struct {
	Temporal *TemporalServer
	Parties  []*party.Config
	running  []*party.Party
}

// Start starts a deployment. Unfinished jobs of an earlier deployment in the same folder resume.
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
	if err := checkPartyPorts(d.Parties); err != nil {
		return nil, err
	}
	var namespaces []string
	for _, cfg := range d.Parties {
		namespaces = append(namespaces, cfg.Temporal.Namespace)
	}
	if d.Temporal, err = StartTemporalServer(ctx, TemporalServerOptions{
		DataDir: filepath.Join(o.DataDir, "temporal"), Port: o.TemporalPort, UIPort: o.UIPort,
		PortFlag: "--temporal-port", UIPortFlag: "--ui-port",
		Namespaces: namespaces, Logger: o.Logger}); err != nil {
		return nil, err
	}
	for _, cfg := range d.Parties {
		cfg.Temporal.Address = d.Temporal.Address()
		if cfg.Temporal.UIURL == "" {
			cfg.Temporal.UIURL = d.Temporal.UIAddress()
		}
		if err := party.Migrate(ctx, cfg); err != nil {
			return nil, err
		}
		p, err := party.Start(ctx, cfg, party.Roles{API: true, Control: true, Runner: true, Transport: true},
			o.Logger)
		if err != nil {
			return nil, err
		}
		d.running = append(d.running, p)
	}
	return d, nil
}

// configs returns the configurations of the parties, each with routes to all others. A party's other servers
// listen on the first ports above the party's own that no other server uses.
func configs(o Options) ([]*party.Config, error) {
	taken := map[string]bool{}
	for _, a := range o.Parties {
		if taken[a.NodeID] || taken[a.Listen] {
			return nil, fmt.Errorf("party %s=%s: the node id or the address is given twice",
				a.NodeID, a.Listen)
		}
		taken[a.NodeID], taken[a.Listen] = true, true
	}

	var all []*party.Config
	for _, a := range o.Parties {
		cfg := party.Default()
		if err := cfg.ReadSharedEnv(o.Environ); err != nil {
			return nil, fmt.Errorf("invalid configuration in the environment: %w", err)
		}
		o.apply(cfg)
		cfg.NodeID, cfg.Listen = a.NodeID, a.Listen
		cfg.DataDir = filepath.Join(o.DataDir, a.NodeID)

		host, portText, err := net.SplitHostPort(a.Listen)
		if err != nil {
			return nil, fmt.Errorf("invalid configuration of party %s: %w", a.NodeID, err)
		}
		port, err := strconv.Atoi(portText)
		if err != nil {
			return nil, fmt.Errorf("party %s: port %q is not a number", a.NodeID, portText)
		}
		for _, listen := range []*string{&cfg.Transport.Listen, &cfg.Containers.Listen,
			&cfg.Partners.Listen, &cfg.Ops.Listen} {
			for *listen = ""; *listen == "" || taken[*listen]; {
				port++
				*listen = net.JoinHostPort(host, strconv.Itoa(port))
			}
			taken[*listen] = true
		}
		cfg.Security = party.SecurityConfig{Mode: party.SecurityOpen, OpenPartners: o.OpenPartners}

		if err := cfg.Complete(); err != nil {
			return nil, fmt.Errorf("invalid configuration of party %s: %w", a.NodeID, err)
		}
		all = append(all, cfg)
	}

	if err := o.issueCertificates(all); err != nil {
		return nil, err
	}
	for _, cfg := range all {
		cfg.Routes = party.Routes{}
		for _, other := range all {
			if other != cfg {
				cfg.Routes[other.NodeID] = party.Route{URL: "https://" + other.Partners.Listen}
			}
		}
		if err := cfg.Validate(); err != nil {
			return nil, fmt.Errorf("invalid configuration of party %s: %w", cfg.NodeID, err)
		}
	}
	return all, nil
}

// issueCertificates gives each party a certificate of an authority in the data folder.
func (o *Options) issueCertificates(all []*party.Config) error {
	authority, caFile, err := certs.OpenAuthority(filepath.Join(o.DataDir, "authority"), "hutong dev")
	if err != nil {
		return fmt.Errorf("failed to open the authority of the parties: %w", err)
	}
	for _, cfg := range all {
		file := filepath.Join(o.DataDir, "authority", cfg.NodeID+".pem")
		if err := authority.IssueFile(file, certs.Leaf{Node: cfg.NodeID}); err != nil {
			return fmt.Errorf("failed to issue the certificate of party %s: %w", cfg.NodeID, err)
		}
		cfg.Partners.TLS = party.PartnerTLSConfig{CertFile: file, KeyFile: file, CAFile: caFile}
	}
	return nil
}

// apply sets what the options say of every party. An option that is not given leaves the configuration.
func (o *Options) apply(cfg *party.Config) {
	if o.Docker != "" {
		cfg.Runner.Docker.Enabled = o.Docker
	}
	if o.HostNetwork {
		cfg.Runner.Docker.HostNetwork = true
	}
	if len(o.Allow) > 0 {
		cfg.Runner.Process.Allow = o.Allow
	}
	if o.Slots > 0 {
		cfg.Runner.Slots = o.Slots
	}
}

// checkPartyPorts checks that the ports of all parties are free, because the errors of their servers would
// not name the flag.
func checkPartyPorts(parties []*party.Config) error {
	var flags []string
	for _, cfg := range parties {
		host, _, _ := net.SplitHostPort(cfg.Listen)
		flags = append(flags, fmt.Sprintf("--party %s=%s", cfg.NodeID, net.JoinHostPort(host, "PORT")))
	}
	for _, cfg := range parties {
		for _, server := range []struct{ name, listen string }{{"API", cfg.Listen},
			{"transport", cfg.Transport.Listen}, {"server for containers", cfg.Containers.Listen},
			{"server for partners", cfg.Partners.Listen}, {"server of metrics", cfg.Ops.Listen}} {
			l, err := net.Listen("tcp", server.listen)
			if err == nil {
				err = l.Close()
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf(
					"--party: %s is in use, where the %s of party %s would listen: stop the program that "+
						"listens there, or choose other ports with %s (a party also uses the next ports, for its transport, its containers, its partners and its metrics)",
					server.listen, server.name, cfg.NodeID, strings.Join(flags, " "))
			}
			if err != nil {
				return fmt.Errorf("--party: failed to listen on %s for party %s: %w", server.listen,
					cfg.NodeID, err)
			}
		}
	}
	return nil
}

// Failed returns a channel that receives the error of a party's server that has stopped unexpectedly.
func (d *Deployment) Failed() <-chan error {
	failed := make(chan error, len(d.running))
	for _, p := range d.running {
		go func() { failed <- <-p.Failed() }()
	}

	return failed
}

// Stop stops the parties, then Temporal.
func (d *Deployment) Stop(ctx context.Context) {
	for _, p := range d.running {
		p.Stop(ctx)
	}
	if d.Temporal != nil {
		d.Temporal.Stop()
	}
}
