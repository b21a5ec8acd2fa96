package party

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"hutong/api"
	"hutong/bfia"
	bfiaclient "hutong/bfia/client"
	"hutong/internal/certs"
	"hutong/internal/partners"
	"hutong/store"
)

// readContractsEvery is how often each process reads the contracts. It bounds how long a removed partner
// keeps its connections to processes other than the one that has removed it.
const readContractsEvery = 2 * time.Second

// strangerPaths are the paths that nodes may call that are no partners, while the party waits for one.
var strangerPaths = map[string]bool{bfia.PathContractApply: true, bfia.PathContractQuery: true,
	bfia.PathNodeQuery: true, bfia.PathNodeHealth: true}

// contracts makes the directory of partners equal to the contracts in the database.
type contracts struct {
	p       *Party
	db      *store.Store
	pending *atomic.Bool // the party waits for the application of a node
}

var _ api.Contracts = (*contracts)(nil)

// watchContracts reads the contracts, and again regularly until the party stops.
func (p *Party) watchContracts(ctx context.Context, db *store.Store) error {
	p.contracts = &contracts{p, db, &p.pending}
	if err := p.contracts.Refresh(ctx); err != nil {
		return err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(readContractsEvery)
		defer ticker.Stop()
		for {
			select {
			case <-watching.Done():
				return
			case <-ticker.C:
			}
			if err := p.contracts.Refresh(watching); err != nil && watching.Err() == nil {
				p.logger.Warn(
					"failed to read the contracts with partners; those of before stay in use",
					"error",
					err,
				)
			}
		}
	}()
	p.onStop(func(context.Context) error {
		cancel()
		<-ended
		return nil
	})
	return nil
}

// Refresh implements [api.Contracts].
func (c *contracts) Refresh(ctx context.Context) error {
	active, pending, err := ReadContracts(ctx, c.db)
	if err != nil {
		return err
	}
	c.pending.Store(pending)
	c.p.partners.SetContracts(active)
	return nil
}

// ReadContracts returns the partners by contract, and whether the party waits for the application of a node.
func ReadContracts(ctx context.Context, db *store.Store) (active []partners.Partner, pending bool,
	err error) {
	rows, err := db.Partners(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("failed to read the contracts with partners: %w", err)
	}
	for _, row := range rows {
		pending = pending || row.Pending(time.Now())
		if row.Active() {
			active = append(active, partnerOfContract(row))
		}
	}
	return active, pending, nil
}

func partnerOfContract(row store.Partner) partners.Partner {
	p := partners.Partner{Node: row.NodeID, URL: row.Address, TransportURL: row.TransportAddress,
		Auth: partners.MTLS, Peer: certs.Peer{Node: row.NodeID}, Contract: row.ContractID}
	for _, text := range row.Pins {
		if pin, err := certs.ParsePin(text); err == nil {
			p.Peer.Pins = append(p.Peer.Pins, pin)
		}
	}
	if row.ExpiresAt != nil {
		p.Until = *row.ExpiresAt
	}
	return p
}

// Self implements [api.Contracts].
func (c *contracts) Self() (bfia.ContractApplication, error) {
	cfg := c.p.cfg
	certificate := c.p.partners.Certificate()
	if certificate == nil || cfg.Partners.URL == "" {
		return bfia.ContractApplication{}, bfia.Errorf(
			bfia.CodeConflict,
			"a contract requires partners.listen, "+
				"partners.url (the https URL at which partners reach it) and partners.tls.cert_file in the configuration "+
				"of this party",
		)
	}
	institution := cfg.Partners.Institution
	if institution == "" {
		institution = cfg.NodeID
	}
	return bfia.ContractApplication{
		Node: bfia.Node{
			NodeID:           cfg.NodeID,
			Name:             cfg.NodeID,
			Institution:      institution,
			InstID:           cfg.Partners.InstID,
			System:           "hutong",
			SystemVersion:    buildVersion(),
			Address:          cfg.Partners.URL,
			TransportAddress: cfg.Partners.TransportURL,
		},
		AuthType: bfia.AuthTypeCert, AuthCredential: string(certs.EncodeCertificate(certificate))}, nil
}

// Client implements [api.Contracts].
func (c *contracts) Client(node, url string, keys []certs.Pin) (*bfiaclient.Client, error) {
	once, err := c.p.partners.Once(partners.Partner{Node: node, URL: url, Auth: partners.MTLS,
		Peer: certs.Peer{Node: node, Pins: keys}})
	if err != nil {
		return nil, bfia.Errorf(bfia.CodeConflict, "failed to connect to %s: %v", node, err)
	}
	return bfiaclient.New(c.p.cfg.NodeID, func(string) (string, bool) { return url, true }, once,
		c.p.cfg.Remote.Timeout), nil
}

// Configured implements [api.Contracts].
func (c *contracts) Configured() []bfia.PartnerView {
	var views []bfia.PartnerView
	for _, p := range c.p.partners.Partners() {
		if p.Contract != "" {
			continue
		}
		v := bfia.PartnerView{NodeID: p.Node, Source: "configuration", State: bfia.ContractApproved,
			Auth: string(p.Auth), Address: p.URL, TransportAddress: p.TransportURL}
		if p.Link == partners.Inbound {
			v.Address, v.TransportAddress = c.p.describeLink(p.Node), ""
		}
		if len(p.Peer.Pins) > 0 {
			v.Fingerprint = p.Peer.Pins[0].String()
		}
		views = append(views, v)
	}
	return views
}

// buildVersion returns the version of this program, for partners.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// openDatabase opens the party's database until the party stops.
func (p *Party) openDatabase(ctx context.Context) (*store.Store, error) {
	db, err := p.cfg.OpenDatabase(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to open the database of party %s: %w", p.cfg.NodeID, err)
	}
	p.onStop(func(context.Context) error { return db.Close() })
	if err := db.CheckSchema(ctx); err != nil {
		return nil, fmt.Errorf("failed to use the database of party %s: %w", p.cfg.NodeID, err)
	}
	return db, nil
}

// contracts checks what contracts with partners need.
func (v *validation) contracts(c *Config) {
	t := c.Partners.TLS
	oneOf(v, "partners.tls.min_version", t.MinVersion, "", "1.2", "1.3")
	if (t.CertFile == "") != (t.KeyFile == "") {
		v.wrong("partners.tls.cert_file", "must be set together with partners.tls.key_file")
	}
	for _, u := range []struct{ field, url string }{{"partners.url", c.Partners.URL},
		{"partners.transport_url", c.Partners.TransportURL}} {
		switch {
		case u.url == "":
		case strings.HasPrefix(u.url, "http:"):
			v.wrong(u.field, "must be https, because partners reach this party by mutual TLS")
		default:
			v.httpURL(u.field, u.url)
		}
	}
}
