package party

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/api"
	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/httpclient"
	"hutong/internal/httpguard"
	"hutong/internal/metrics"
	"hutong/store"
	"hutong/store/blob"
)

// pathMetrics is where Prometheus reads the metrics.
const pathMetrics = "/metrics"

// opsTimeout bounds a request to ops.listen, from its first byte to its answer.
const opsTimeout = 30 * time.Second

// names returns the names of the roles.
func (r Roles) names() []string {
	var names []string
	for _, role := range []struct {
		runs bool
		name string
	}{{r.API, "api"}, {r.Control, "control"}, {r.Runner, "runner"}, {r.Transport, "transport"}} {
		if role.runs {
			names = append(names, role.name)
		}
	}
	return names
}

// openMetrics creates the metrics of this process.
func (p *Party) openMetrics(roles Roles) {
	p.metrics = metrics.New(metrics.Options{Node: p.cfg.NodeID, Version: softwareVersion(),
		Processes: roles.names(), Routes: api.Routes(),
		KnownPartner: func(node string) bool {
			if p.partners == nil {
				return false
			}
			_, known := p.partners.Lookup(node)
			return known
		}})
	folders := map[string]string{"data": p.cfg.DataDir}
	if roles.Transport {
		folders["spool"] = p.cfg.Transport.SpoolDir
	}
	if u, err := url.Parse(p.cfg.Storage.URL.Reveal()); err == nil && u.Scheme == "file" &&
		p.cfg.Transport.Sessions != SessionsAll {
		folders["storage"] = u.Path
	}
	p.metrics.CollectDisks(folders)
	p.metrics.CollectCertificates(p.certificates)
	p.metrics.CollectDependencies(&p.dependencies)
}

// certificates returns the certificates of this process by their use.
func (p *Party) certificates() map[string][]*x509.Certificate {
	all := map[string][]*x509.Certificate{}
	if !p.started.Load() { // until then startAPI may set one
		return all
	}
	for use, pair := range map[string]*certs.KeyPair{"listen": p.listenPair, "partners": p.partnerPair} {
		if pair != nil && pair.Certificate().Leaf != nil {
			all[use] = []*x509.Certificate{pair.Certificate().Leaf}
		}
	}
	if p.authorities != nil {
		all["partners_ca"] = p.authorities.Certificates()
	}
	return all
}

// observeStores counts what the database and the storage do, from their first use.
func (p *Party) observeStores(db *store.Store) {
	db.Observe(p.metrics.Observer())
	p.metrics.CollectPools(db.Pools())
	p.dependencies.Add("database", db.Ping)
}

// observeStorage returns a storage whose operations are counted.
func (p *Party) observeStorage(s blob.Store) blob.Store { return blob.Observe(s, p.metrics.Storage) }

// observeTemporal adds Temporal to what this process needs.
func (p *Party) observeTemporal(c client.Client) {
	p.dependencies.Add("temporal", func(ctx context.Context) error {
		_, err := c.CheckHealth(ctx, nil)
		return err
	})
}

// observeRequest counts a request to the API.
func (p *Party) observeRequest(r api.Request) {
	p.metrics.Request(r.Listener, r.Method, r.Route, r.Status, r.Code, r.Took)
}

// startOps serves health, readiness and metrics at ops.listen, from the start of the process to its end.
func (p *Party) startOps(ctx context.Context) error {
	if p.cfg.Ops.Listen == "" {
		return nil
	}
	s := &http.Server{Handler: p.opsHandler(), ReadTimeout: opsTimeout, WriteTimeout: opsTimeout,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(p.logger.Handler(), slog.LevelWarn)}
	return p.serve(ctx, "ops.listen", p.cfg.Ops.Listen, func(l net.Listener) error {
		return s.Serve(httpguard.Listener(l, false))
	}, s.Shutdown)
}

// opsHandler returns the handler of ops.listen.
func (p *Party) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+bfia.PathHealth, func(w http.ResponseWriter, _ *http.Request) {
		p.answerOps(w, bfia.CodeOK, "success")
	})
	mux.HandleFunc("GET "+bfia.PathReady, func(w http.ResponseWriter, _ *http.Request) {
		if err := p.checkReady(); err != nil {
			p.answerOps(w, bfia.CodeUnavailable, err.Error())
			return
		}
		p.answerOps(w, bfia.CodeOK, "success")
	})
	mux.Handle("GET "+pathMetrics, p.metrics.Handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p.answerOps(w, bfia.CodeNotFound, fmt.Sprintf("no such endpoint: this listener serves GET %s, %s "+
			"and %s", bfia.PathHealth, bfia.PathReady, pathMetrics))
	})
	return mux
}

// Alive returns an error if this process does not answer at its own ops.listen until the end of the context.
// It returns nil if it has none. What the process needs, such as its database, does not matter.
func (p *Party) Alive(ctx context.Context) error {
	if p.cfg.Ops.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(p.cfg.Ops.Listen)
	if err != nil {
		return fmt.Errorf("failed to read ops.listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	address := "http://" + net.JoinHostPort(host, port) + bfia.PathHealth
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("failed to ask ops.listen: %w", err)
	}
	request.Close = true
	answer, err := (&http.Client{Transport: httpclient.Direct()}).Do(request)
	if err != nil {
		return fmt.Errorf("failed to ask ops.listen: %w", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ops.listen answers HTTP %d", answer.StatusCode)
	}
	return nil
}

// checkReady returns why this process does not do its work, or nil.
func (p *Party) checkReady() error {
	if !p.started.Load() {
		return fmt.Errorf("party %s starts or stops", p.cfg.NodeID)
	}
	answers := p.dependencies.Check()
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if err := answers[name]; err != nil {
			p.logger.Warn("not ready", "part", name, "error", err)
			missing = append(missing, map[string]string{"database": "the database",
				"temporal": "Temporal"}[name])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no answer from %s", strings.Join(missing, " and "))
	}
	return nil
}

func (p *Party) answerOps(w http.ResponseWriter, code bfia.Code, message string) {
	data := map[string]any{}
	if code == bfia.CodeOK {
		data["node_id"] = p.cfg.NodeID
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code.HTTPStatus())
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "msg": message, "data": data})
}
