package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/internal/temporalns"
	"hutong/store"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/ports"
)

const (
	guestNode = "JG0100001100000010"
	hostNode  = "JG0110017800000000"
)

// limitedFlow is a flow of three jobs, of which the limit of the open guest makes one wait.
const limitedFlow = "nightly-scores"

// builder makes a stage.
type builder struct {
	options
	dir      string
	temporal string
	logger   *slog.Logger
	running  []*party.Party
	oidc     oidcLogin
	stopDex  func()
}

// stageParty is a running party, and its client with all rights.
type stageParty struct {
	cfg    *party.Config
	url    string
	client apiclient.Client
}

// partyPair is a guest and a host.
type partyPair struct{ guest, host *stageParty }

func (b *builder) stopParties() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, p := range b.running {
		p.Stop(ctx)
	}
	if b.stopDex != nil {
		b.stopDex()
	}
}

// pair starts a guest and a host. The host approves jobs by hand. In the mode strict both serve TLS.
func (b *builder) pair(ctx context.Context, name string, mode party.SecurityMode) (partyPair, error) {
	authority, caFile, err := certs.OpenAuthority(filepath.Join(b.dir, name, "authority"), "console tests")
	if err != nil {
		return partyPair{}, err
	}
	var configs []*party.Config
	for _, node := range []string{guestNode, hostNode} {
		cfg, err := b.config(name, node, mode, authority, caFile)
		if err != nil {
			return partyPair{}, err
		}
		configs = append(configs, cfg)
	}
	if mode == party.SecurityStrict {
		if err := b.addProvider(ctx, configs[0]); err != nil {
			return partyPair{}, err
		}
	}
	var parties []*stageParty
	for i, cfg := range configs {
		other := configs[1-i]
		cfg.Routes = party.Routes{other.NodeID: {URL: "https://" + other.Partners.Listen}}
		p, err := b.start(ctx, cfg)
		if err != nil {
			return partyPair{}, fmt.Errorf("party %s (%s): %w", cfg.NodeID, name, err)
		}
		parties = append(parties, p)
	}
	return partyPair{parties[0], parties[1]}, nil
}

// config returns the configuration of a party without routes.
func (b *builder) config(name, node string, mode party.SecurityMode, authority *certs.Authority,
	caFile string) (*party.Config, error) {
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir = node, filepath.Join(b.dir, name, node)
	for _, listen := range []*string{&cfg.Listen, &cfg.Transport.Listen, &cfg.Containers.Listen,
		&cfg.Partners.Listen} {
		address, err := ports.Address()
		if err != nil {
			return nil, err
		}
		*listen = address
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cfg.Temporal.Address = b.temporal
	cfg.Temporal.UIURL = "https://temporal.bank.example"
	cfg.Temporal.Namespace = strings.ToLower("console-" + name + "-" + node)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	cfg.Runner.Process.Allow = []string{filepath.Join(b.bin, "provider"), program}
	cfg.Runner.StopGrace = 2 * time.Second
	cfg.Runner.Slots = 16
	cfg.Jobs.MaxJobsPerFlow = 2
	cfg.Limits.EventStreams = 500 // without sign-in all pages are of one client; load.ts opens 200 of them
	if node == hostNode {
		cfg.Jobs.Approval = party.ApprovalManual
		cfg.Jobs.ShareFailure = bfia.ShareLog
	}

	cfg.Security.Mode = mode
	leaves := map[string]certs.Leaf{"partners": {Node: node}}
	if mode == party.SecurityStrict {
		cfg.Runner.Unsafe = true // for the process driver
		leaves["clients"] = certs.Leaf{Node: node, Hosts: []string{"127.0.0.1", "localhost"}}
	}
	for use, leaf := range leaves {
		file := filepath.Join(b.dir, name, "authority", node+"-"+use+".pem")
		if err := authority.IssueFile(file, leaf); err != nil {
			return nil, err
		}
		if use == "clients" {
			cfg.TLS = party.ServerTLSConfig{CertFile: file, KeyFile: file}
		} else {
			cfg.Partners.TLS = party.PartnerTLSConfig{CertFile: file, KeyFile: file, CAFile: caFile}
		}
	}
	return cfg, nil
}

// start prepares a party's namespace and database, and starts all its roles.
func (b *builder) start(ctx context.Context, cfg *party.Config) (*stageParty, error) {
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := temporalns.Ensure(ctx, client.Options{HostPort: b.temporal}, cfg.Temporal.Namespace,
		30*24*time.Hour); err != nil {
		return nil, err
	}
	if err := party.Migrate(ctx, cfg); err != nil {
		return nil, err
	}
	p := &stageParty{cfg: cfg, url: "http://" + cfg.Listen}
	if cfg.Security.Mode == party.SecurityStrict {
		if err := p.secure(ctx); err != nil {
			return nil, err
		}
	}
	running, err := party.Start(ctx, cfg,
		party.Roles{API: true, Control: true, Runner: true, Transport: true}, b.logger)
	if err != nil {
		return nil, err
	}
	b.running = append(b.running, running)
	return p, nil
}

// secure gives the client of a strict party a token and the party's authority, and the partner all grants.
func (p *stageParty) secure(ctx context.Context) error {
	p.url = "https://" + p.cfg.Listen
	text, err := os.ReadFile(p.cfg.Partners.TLS.CAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return errors.New("the file of the authority has no certificate")
	}
	p.client.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	if p.client.Token, err = p.token(ctx, "console-tests", identity.Admin); err != nil {
		return err
	}
	partner := hostNode
	if p.cfg.NodeID == hostNode {
		partner = guestNode
	}
	return p.withStore(ctx, func(db *store.Store) error {
		_, err := db.AddGrant(ctx, bfia.DataGrant{Partner: partner, Component: "*", Dataset: "*",
			CreatedBy: "console-tests"})
		return err
	})
}

// token makes a token of a user with a role.
func (p *stageParty) token(ctx context.Context, name string, roles ...identity.Role) (string, error) {
	secret, _, err := party.CreateToken(ctx, p.cfg, name, roles, nil)
	return secret, err
}

// withStore calls f with a connection of its own to the party's database.
func (p *stageParty) withStore(ctx context.Context, f func(*store.Store) error) error {
	db, err := store.Open(ctx, p.cfg.Database.URL.Reveal())
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

// call sends a request that must succeed.
func (p *stageParty) call(ctx context.Context, method, path string, body, data any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return p.client.Call(ctx, method, p.url+path, text, data)
}
