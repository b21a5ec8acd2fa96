package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"hutong/internal/certs"
	"hutong/internal/codec"
	"hutong/internal/partners"
	"hutong/test/testenv/apiclient"
)

// proofs has, for each link, how its two parties prove to each other who they are. On the link with auth sign
// the proxies are gateways that end TLS.
var proofs = map[string]partners.Auth{"guest-host": partners.MTLS, "guest-third": partners.Sign,
	"host-third": partners.MTLSSign}

// The files of a party's keys: its certificates for partners and for clients, each with its key; the key that
// signs its requests, and the public one; the keys that encrypt what it stores in Temporal.
func (p *party) certificate() string       { return filepath.Join(p.dir, "partner.pem") }
func (p *party) clientCertificate() string { return filepath.Join(p.dir, "clients.pem") }
func (p *party) signingKey() string        { return filepath.Join(p.dir, "signing.pem") }
func (p *party) publicKey() string         { return filepath.Join(p.dir, "signing.pub") }
func (p *party) keysDir() string           { return filepath.Join(p.dir, "keys") }

// equip makes all keys of a party.
func (d *deployment) equip(p *party) error {
	if err := d.rotate(p); err != nil {
		return err
	}
	if err := p.rekey(); err != nil {
		return err
	}
	key, err := certs.NewKey()
	if err != nil {
		return err
	}
	private, err := certs.EncodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.signingKey(), private, 0o600); err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return os.WriteFile(p.publicKey(), text, 0o644)
}

// rotate gives a party new keys and certificates, for its partners and its clients.
func (d *deployment) rotate(p *party) error {
	for file, leaf := range map[string]certs.Leaf{p.certificate(): {Node: p.node},
		p.clientCertificate(): {Hosts: []string{"127.0.0.1"}}} {
		text, err := d.authority.Issue(leaf)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
	}
	return nil
}

// rekey makes a party encrypt what it stores in Temporal with a new key, of another algorithm than its last
// one.
func (p *party) rekey() error {
	old, err := filepath.Glob(filepath.Join(p.keysDir(), "*"+codec.KeySuffix))
	if err != nil {
		return err
	}
	id, algorithm := fmt.Sprintf("key%d", len(old)+1), codec.Algorithms()[len(old)%len(codec.Algorithms())]
	if _, err := codec.CreateKey(p.keysDir(), id, algorithm); err != nil {
		return err
	}
	return codec.UseKey(p.keysDir(), id)
}

// route returns the route of a party to another one, through proxies of their link.
func (d *deployment) route(from, to *party) (map[string]any, error) {
	server, client, err := d.betweenTLS(from, to)
	if err != nil {
		return nil, err
	}
	l, auth := d.link(from.name, to.name), d.proof(from.name, to.name)
	scheme, commands, messages := "https://", to.partners, to.partnerTransport
	if auth == partners.Sign {
		scheme, commands, messages = "http://", to.plain, to.plainTransport
		server.ClientAuth, client = tls.NoClientCert, nil
	}
	api, err := newProxy(l, scheme+commands, server, client)
	if err != nil {
		return nil, err
	}
	transport, err := newProxy(l, scheme+messages, server, client)
	if err != nil {
		return nil, err
	}

	route := map[string]any{"url": "https://" + api.addr, "transport_url": "https://" + transport.addr,
		"auth": auth, "tls": map[string]any{"ca_file": d.caFile}}
	if auth != partners.MTLS {
		route["sign"] = map[string]any{"key_file": from.signingKey(), "partner_key_file": to.publicKey()}
	}
	return route, nil
}

// proof returns how two parties prove to each other who they are.
func (d *deployment) proof(a, b string) partners.Auth {
	if auth := proofs[a+"-"+b]; auth != "" {
		return auth
	}
	return proofs[b+"-"+a]
}

// betweenTLS returns the TLS of a proxy between two parties, which is each of them to the other.
func (d *deployment) betweenTLS(from, to *party) (server, client *tls.Config, err error) {
	pairs := map[*party]*certs.KeyPair{}
	for _, p := range []*party{from, to} {
		file := filepath.Join(d.dir, "authority", "proxy-"+p.node+".pem")
		leaf := certs.Leaf{Node: p.node, Hosts: []string{"127.0.0.1"}}
		if err := d.authority.IssueFile(file, leaf); err != nil {
			return nil, nil, err
		}
		if pairs[p], err = certs.LoadKeyPair(file, file, slog.New(slog.DiscardHandler)); err != nil {
			return nil, nil, err
		}
	}
	authorities, err := certs.LoadAuthorities(d.caFile, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	server = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: pairs[to].ServerCertificate,
		ClientAuth: tls.RequireAnyClientCert}
	return server, certs.ClientConfig(certs.Peer{Node: to.node, Authorities: authorities}, pairs[from],
		false), nil
}

// newClient creates a token of an administrator with the command of a party, and returns a client with it.
func (d *deployment) newClient(hutong func(args ...string) *exec.Cmd) (c apiclient.Client, err error) {
	create := hutong("token", "create", "--direct", "--name", "chaos", "--roles", "admin")
	var problems bytes.Buffer
	create.Stderr = &problems
	token, err := create.Output()
	if err != nil {
		return c, fmt.Errorf("%w: %s", err, problems.Bytes())
	}
	pool := x509.NewCertPool()
	pool.AddCert(d.authority.Certificate)
	transport := &http.Transport{MaxIdleConnsPerHost: 200, TLSClientConfig: &tls.Config{RootCAs: pool}}
	return apiclient.Client{Token: strings.TrimSpace(string(token)),
		HTTP: &http.Client{Transport: transport}}, nil
}

// command runs a command of a party's client.
func (d *deployment) command(ctx context.Context, p *party, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "hutong"),
		append([]string{"--url", p.url()}, args...)...)
	cmd.Env = append(os.Environ(), "HUTONG_TOKEN="+p.client.Token, "HUTONG_CA_FILE="+d.caFile)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("hutong %s at %s failed: %w: %s", strings.Join(args, " "), p.name, err, out)
	}
	return nil
}

// grant lets the partners of a party use its components on its datasets of the jobs.
func (d *deployment) grant(ctx context.Context, p *party) error {
	for _, partner := range d.parties {
		for _, component := range []string{"hutong/*", sleepProvider + "/*"} {
			if partner == p {
				continue
			}
			if err := d.command(ctx, p, "grant", "add", "--partner", partner.node, "--component", component,
				"--dataset", "demo#*", "--until", "1d"); err != nil {
				return err
			}
		}
	}
	return nil
}

// trustViolations lists the signed requests that counted twice, and the audit trails that are not whole.
func (d *deployment) trustViolations(ctx context.Context) (found []string) {
	for name, l := range d.links {
		for _, path := range l.acceptedReplays() {
			found = append(found,
				fmt.Sprintf("a signed request to %s on the link %s was accepted twice", path, name))
		}
	}
	for _, p := range d.parties {
		var err error
		for end := time.Now().Add(time.Minute); ; { // the API may just start
			if err = d.command(ctx, p, "audit", "verify"); err == nil || time.Now().After(end) ||
				!waitUntil(ctx, time.Now().Add(time.Second)) {
				break
			}
		}
		if err != nil {
			found = append(found, err.Error())
		}
	}
	return found
}
