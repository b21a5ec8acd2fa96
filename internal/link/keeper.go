package link

//lint:file-ignore SA1019 net/http lets a link buffer less than 4 MiB: its connections would wait for others.

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"hutong/bfia"
)

const (
	// firstPause and maxPause bound the pause before the next try to make a link; it doubles.
	firstPause = 200 * time.Millisecond
	maxPause   = 10 * time.Second
	// connectTimeout bounds one try.
	connectTimeout = 15 * time.Second
)

// KeeperConfig configures a [Keeper].
type KeeperConfig struct {
	// Node is the partner that can't connect to this party, and URL the base URL of one of its transports.
	Node, URL string
	// Services are what this process serves the partner.
	Services map[Service]*Listener
	// Outgoing sends the request for the link. It proves this party to the partner, and the partner to it.
	Outgoing http.RoundTripper
	Logger   *slog.Logger
	// firstPause replaces that constant in tests.
	firstPause time.Duration
}

// Keeper keeps a link to a partner: it makes one, serves it, and makes another one when it ends.
type Keeper struct {
	cfg    KeeperConfig
	id     string
	logger *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	state    State // while up
	up       bool
	connects int64
	reported string // the failure that the log has
}

// Keep starts a keeper. Close ends it.
func Keep(cfg KeeperConfig) *Keeper {
	if cfg.firstPause == 0 {
		cfg.firstPause = firstPause
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &Keeper{cfg: cfg, id: rand.Text(), cancel: cancel, ended: make(chan struct{}),
		logger: cfg.Logger.With("partner", cfg.Node, "url", cfg.URL)}
	go k.run(ctx)
	return k
}

// Close closes the link, with the connections over it.
func (k *Keeper) Close() {
	k.cancel()
	<-k.ended
}

// State returns the link, if it is up, and how many there were.
func (k *Keeper) State() (state State, up bool, connects int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state, k.up, k.connects
}

// Node returns the partner.
func (k *Keeper) Node() string { return k.cfg.Node }

func (k *Keeper) run(ctx context.Context) {
	defer close(k.ended)
	pause := k.cfg.firstPause
	for {
		began := time.Now()
		if err := k.connectAndServe(ctx); err != nil && ctx.Err() == nil {
			k.report(err)
		}
		if time.Since(began) > maxPause+connectTimeout {
			pause = k.cfg.firstPause
		}
		// All processes of all partners lose their links at once when a transport stops.
		jittered := pause/2 + mathrand.N(pause/2)
		pause = min(2*pause, maxPause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered):
		}
	}
}

// report logs a failure once, not with every try.
func (k *Keeper) report(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	level := slog.LevelWarn
	if k.reported == err.Error() {
		level = slog.LevelDebug
	}
	k.reported = err.Error()
	k.logger.Log(context.Background(), level, "failed to keep a link to a partner, which can't reach this party "+
		"now; it is tried again", "error", err)
}

// connectAndServe makes a link and serves it until it ends.
func (k *Keeper) connectAndServe(ctx context.Context) error {
	services := slices.Sorted(maps.Keys(k.cfg.Services))
	header := http.Header{}
	header.Set("x-target-node-id", k.cfg.Node)
	header.Set(headerServices, formatServices(services))
	header.Set(headerID, k.id)
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := askUpgrade(connecting, k.cfg.Outgoing, strings.TrimRight(k.cfg.URL, "/")+bfia.PathNodeLink,
		upgradeLink, header)
	if err != nil {
		return fmt.Errorf("failed to make a link: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()

	began := time.Now()
	k.setState(&State{Node: k.cfg.Node, Services: services, Address: conn.RemoteAddr().String(),
		Since: began})
	k.logger.Info("keeps a link to a partner", "services", formatServices(services),
		"address", conn.RemoteAddr().String())
	k.serve(ctx, conn)
	k.setState(nil)
	return fmt.Errorf("the link has ended after %s", time.Since(began).Round(time.Second))
}

func (k *Keeper) setState(state *State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.up = state != nil; k.up {
		k.state, k.reported = *state, ""
		k.connects++
	}
}

// serve serves the partner's connections over a link until it ends.
func (k *Keeper) serve(ctx context.Context, conn net.Conn) {
	remote := Address{Node: k.cfg.Node, Address: conn.RemoteAddr().String()}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		listener := k.cfg.Services[Service(strings.TrimPrefix(r.URL.Path, "/"))]
		if listener == nil || r.Method != http.MethodPost {
			http.Error(w, "this link does not serve that", http.StatusNotFound)
			return
		}
		k.count(1)
		defer k.count(-1)
		listener.serveStream(w, r, conn.LocalAddr(), remote)
	})
	server := &http2.Server{MaxConcurrentStreams: maxConnections, MaxUploadBufferPerStream: streamWindow,
		MaxUploadBufferPerConnection: linkWindow, ReadIdleTimeout: pingAfter, PingTimeout: pingTimeout,
		WriteByteTimeout: pingTimeout}
	server.ServeConn(conn, &http2.ServeConnOpts{Context: ctx, Handler: handler,
		BaseConfig: &http.Server{ErrorLog: slog.NewLogLogger(k.logger.Handler(), slog.LevelDebug),
			MaxHeaderBytes: maxHeaders}})
}

func (k *Keeper) count(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Connections += n
}
