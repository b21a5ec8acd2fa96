package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/ports"
)

// measureSecurity compares the reference job between two parties that demand everything of each other and of
// their clients with the same job between two parties that demand nothing. All four run as in production:
// API, workers and transport are processes of their own. The gate, the rules of the containers' network and
// the audit trail can't be switched off, so both sides have them.
func measureSecurity(ctx context.Context, o options, into *report) error {
	docker, err := o.connectDocker(ctx)
	if err != nil || docker == nil {
		return err
	}
	defer func() { _ = docker.Close() }()
	all, err := startSecurity(ctx, o)
	for _, d := range all.pairs {
		defer d.removeLeftovers(context.WithoutCancel(ctx), docker)
	}
	defer all.stop()
	if err != nil {
		return err
	}

	section := into.addSection("The reference job with all security on", "off")
	for _, c := range []struct{ name, provider string }{
		{"one job, containers that only call back", "callback"},
		{"one job, PSI and boosted trees", "hutong"},
	} {
		var on, off samples
		for i := range o.runs + 1 {
			order := []*samples{&on, &off}
			if i%2 == 1 { // neither side always runs first
				slices.Reverse(order)
			}
			for _, side := range order {
				d := all.pairs[side == &on]
				took, err := d.timeJob(ctx, c.provider)
				if err != nil {
					return fmt.Errorf("%s, security on: %t: %w", c.name, side == &on, err)
				}
				if i > 0 { // the first round warms up
					side.add(took, nil)
				}
			}
		}
		section.add(compareMedians(c.name, on, off, atMost(1.05), spreadOf(on, off)))
	}
	return nil
}

// spreadOf describes how the ratios of the rounds differ.
func spreadOf(on, off samples) string {
	var ratios []float64
	for i := range on.total {
		ratios = append(ratios, float64(on.total[i])/float64(off.total[i]))
	}
	slices.Sort(ratios)
	n := len(ratios)
	return fmt.Sprintf("%d rounds; the ratios of rounds: median %.3f, quarters %.2f and %.2f, from %.2f to %.2f",
		n, ratios[n/2], ratios[n/4], ratios[n-1-n/4], ratios[0], ratios[n-1])
}

// securityPairs are two pairs of parties at one Temporal server.
type securityPairs struct {
	processes
	authority *certs.Authority
	caFile    string
	pairs     map[bool]*deployment // by whether security is on
}

// securityParty is one party of a pair.
type securityParty struct {
	node, dir                                             string
	listen, containers, transport, partners, toTransports string
}

// startSecurity starts the Temporal server and both pairs.
func startSecurity(ctx context.Context, o options) (s *securityPairs, err error) {
	s = &securityPairs{pairs: map[bool]*deployment{}}
	if s.processes, err = startProcesses(ctx, o.hutong); err != nil {
		return s, err
	}
	if s.authority, s.caFile, err = certs.OpenAuthority(filepath.Join(s.dir, "authority"),
		"bench"); err != nil {
		return s, err
	}

	for _, on := range []bool{true, false} {
		id := strings.ToUpper(rand.Text()[:8])
		d := &deployment{guest: "BENCH" + id + "G", host: "BENCH" + id + "H", urls: map[string]string{},
			dir: s.dir, clients: map[string]apiclient.Client{}}
		s.pairs[on] = d
		if err := s.startPair(ctx, o, d, on); err != nil {
			return s, fmt.Errorf("failed to start the parties, security on: %t: %w", on, err)
		}
	}
	return s, nil
}

// startPair starts the parties of a deployment and prepares the jobs.
func (s *securityPairs) startPair(ctx context.Context, o options, d *deployment, on bool) error {
	pair := []*securityParty{{node: d.guest}, {node: d.host}}
	for _, p := range pair {
		p.dir = filepath.Join(s.dir, p.node)
		if err := os.Mkdir(p.dir, 0o755); err != nil {
			return err
		}
		for _, a := range []*string{&p.listen, &p.containers, &p.transport, &p.partners, &p.toTransports} {
			var err error
			if *a, err = ports.Address(); err != nil {
				return err
			}
		}
	}
	for i, p := range pair {
		if err := s.startParty(ctx, o, d, p, pair[1-i], on); err != nil {
			return fmt.Errorf("%s: %w", p.node, err)
		}
	}

	for _, provider := range []string{"callback", "hutong"} {
		metadata := bfia.Metadata{Image: imageTag}
		if provider == "callback" {
			metadata.Command = []string{"CallbackOnly"}
		}
		if err := d.registerAndUpload(ctx, provider, bfia.DeviceDocker, metadata); err != nil {
			return err
		}
	}
	for node, role := range map[string]string{d.guest: "guest", d.host: "host"} {
		rows, err := os.ReadFile(filepath.Join("testdata", "breast", role+".csv"))
		if err != nil {
			return err
		}
		meta := `{"delimiter":",","match_id_name":"id"}`
		if role == "guest" {
			meta = `{"delimiter":",","label_name":"y","match_id_name":"id"}`
		}
		if err := d.uploadAs(ctx, node, "test_"+role, string(rows), meta); err != nil {
			return err
		}
	}
	return nil
}

// startParty configures and starts a party, whose partner is other.
func (s *securityPairs) startParty(ctx context.Context, o options, d *deployment, p, other *securityParty,
	on bool) error {
	settings := map[string]any{
		"node_id": p.node, "listen": p.listen, "data_dir": p.dir,
		"containers": map[string]any{"listen": p.containers},
		"runner":     map[string]any{"slots": slots, "docker": map[string]any{"enabled": "true"}},
		"temporal":   map[string]any{"address": s.temporal},
	}
	scheme := "http"
	if on {
		scheme = "https"
		if err := s.secure(p, other, settings); err != nil {
			return err
		}
	} else {
		settings["security"] = map[string]any{"mode": "open"}
		settings["partners"] = map[string]any{"plain_listen": p.partners}
		settings["transport"] = map[string]any{"listen": p.transport, "partner_plain_listen": p.toTransports}
		settings["routes"] = map[string]any{other.node: map[string]any{"url": "http://" + other.partners,
			"transport_url": "http://" + other.toTransports}}
	}
	d.urls[p.node] = scheme + "://" + p.listen
	text, err := yaml.Marshal(settings)
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir, "party.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	if err := s.run(ctx, "", "migrate", "-c", file); err != nil {
		return err
	}

	if on {
		token, err := exec.CommandContext(ctx, o.hutong, "token", "create", "--direct", "-c", file, "--name",
			"bench", "--roles", "admin").Output()
		if err != nil {
			return fmt.Errorf("failed to create a token: %w", err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(s.authority.Certificate)
		d.clients[p.node] = apiclient.Client{Token: strings.TrimSpace(string(token)),
			HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200,
				TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	}
	for _, role := range []string{"api", "worker", "transport"} {
		if err := s.start(role, "-c", file); err != nil {
			return err
		}
	}
	if err := await(ctx, p.node, func() error {
		return d.clients[p.node].Call(ctx, http.MethodGet, d.urls[p.node]+bfia.PathReady, nil, nil)
	}); err != nil {
		return err
	}
	if on {
		return s.run(ctx, d.clients[p.node].Token, "grant", "add", "--url", d.urls[p.node],
			"--ca-file", s.caFile, "--partner", other.node, "--component", "*", "--dataset", "*")
	}
	return nil
}

// secure adds to a party's settings all that it can demand.
func (s *securityPairs) secure(p, other *securityParty, settings map[string]any) error {
	forPartners, forClients := filepath.Join(p.dir, "partners.pem"), filepath.Join(p.dir, "clients.pem")
	err := errors.Join(s.authority.IssueFile(forPartners, certs.Leaf{Node: p.node}),
		s.authority.IssueFile(forClients, certs.Leaf{Hosts: []string{"127.0.0.1"}}),
		s.run(context.Background(), "", "key", "create", "--use", filepath.Join(p.dir, "keys")))
	settings["security"] = map[string]any{"mode": "strict"}
	settings["tls"] = map[string]any{"cert_file": forClients, "key_file": forClients}
	settings["partners"] = map[string]any{"listen": p.partners,
		"tls": map[string]any{"cert_file": forPartners, "key_file": forPartners, "ca_file": s.caFile}}
	settings["transport"] = map[string]any{"listen": p.transport, "partner_listen": p.toTransports}
	settings["temporal"] = map[string]any{"address": s.temporal,
		"encryption": map[string]any{"keys_dir": filepath.Join(p.dir, "keys")}}
	settings["routes"] = map[string]any{other.node: map[string]any{"url": "https://" + other.partners,
		"transport_url": "https://" + other.toTransports}}
	return err
}

// timeJob runs the reference job with a provider, and returns the time from its submission to its end.
func (d *deployment) timeJob(ctx context.Context, provider string) (time.Duration, error) {
	document, err := d.referenceJob(provider)
	if err != nil {
		return 0, err
	}
	t, err := d.runJob(ctx, document)
	if err != nil {
		return 0, err
	}
	return t.finished.Sub(t.submitted), d.awaitHost(ctx, t)
}
