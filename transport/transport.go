package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config is what a transport needs to know of its party. NodeID, Spool and Route
// are required; the zero value of everything else is a good default.
type Config struct {
	// NodeID is the party's own node id.
	NodeID string
	// Spool is the folder in which messages are kept. It is made if it isn't there,
	// and belongs to one transport at a time.
	Spool string
	// Route finds the base URL of a partner's transport, to which
	// /v1/interconn/chan/invoke is appended. It is called for every push to
	// another node and must not block.
	Route func(nodeID string) (baseURL string, ok bool)
	// Authorize, if set, decides on every call before its body is read. An error
	// answers CodeForbidden with the error's text.
	Authorize func(ctx context.Context, call Call) error
	// HTTP calls partners. It must not have a Timeout below Limits.PushTimeout.
	// Redirects are never followed. The default has its own connection pool.
	HTTP *http.Client
	// Logger gets what an operator should know; never a message's content.
	Logger *slog.Logger
	// Limits bound room and time.
	Limits Limits
}

// Limits bound what a transport holds and how long it waits. Zero fields get
// their defaults.
type Limits struct {
	// MessageBytes is the largest payload, 64 MiB. It is lowered to a quarter of
	// SessionBytes, so that one message leaves room for others.
	MessageBytes int64
	// SessionBytes is what one session may hold unread, and again under way to
	// partners: 256 MiB, at least 1 MiB. Give it four times the largest message.
	SessionBytes int64
	// TotalBytes is what all sessions may hold: 1 GiB.
	TotalBytes int64
	// PushTimeout is how long a push waits for room, and for its partner: 60 s.
	// A call's x-ptp-timeout (milliseconds) can shorten it.
	PushTimeout time.Duration
	// PopTimeout is how long a pop waits that names no timeout: 120 s (API_SPECS
	// part 4, 3.2.2).
	PopTimeout time.Duration
	// MaxPopTimeout is the longest that a pop may wait: 7 days.
	MaxPopTimeout time.Duration
	// SessionTTL is the silence after which a session is released: 24 h.
	SessionTTL time.Duration
	// ReleasedSessions is how many released sessions are remembered: 10,000.
	ReleasedSessions int
}

func (l Limits) withDefaults() Limits {
	l.SessionBytes = cmp.Or(l.SessionBytes, 256<<20)
	l.TotalBytes = cmp.Or(l.TotalBytes, 1<<30)
	l.SessionBytes = max(l.SessionBytes, 1<<20)
	l.TotalBytes = max(l.TotalBytes, l.SessionBytes)
	l.MessageBytes = min(cmp.Or(l.MessageBytes, 64<<20), l.SessionBytes/4)
	l.PushTimeout = cmp.Or(l.PushTimeout, time.Minute)
	l.PopTimeout = cmp.Or(l.PopTimeout, 2*time.Minute)
	l.MaxPopTimeout = cmp.Or(l.MaxPopTimeout, 7*24*time.Hour)
	l.SessionTTL = cmp.Or(l.SessionTTL, 24*time.Hour)
	l.ReleasedSessions = cmp.Or(l.ReleasedSessions, 10_000)
	return l
}

// Call is what is known of a request before its body is read.
type Call struct {
	// Op is push, pop, peek, release, invoke or transport; the last two come from a partner.
	Op string
	// SessionID, Token, TraceID, SourceNodeID and TargetNodeID are the x-ptp-* headers of
	// these names; SourceNodeID is what the caller says of itself.
	SessionID, Token, TraceID, SourceNodeID, TargetNodeID string
	// RemoteAddr is the caller's network address, TLS its connection if encrypted.
	RemoteAddr string
	TLS        *tls.ConnectionState
}

// Transport is one party's transport. It is safe for concurrent use.
type Transport struct {
	nodeID    string
	route     func(string) (string, bool)
	authorize func(context.Context, Call) error
	client    *http.Client
	ownPool   *http.Transport // nil if the client was given
	log       *slog.Logger
	limits    Limits
	broker    *broker
	turns     turns
	pace      pace
	sent      sentCounts

	ctx    context.Context // ends at Close
	cancel context.CancelFunc

	mu     sync.Mutex
	calls  int
	closed bool
	idle   chan struct{} // closed when closed and no call is left
}

// New makes a transport that goes on with what is in its spool. It starts
// nothing: no goroutine runs but those of calls. Close frees the spool for another.
func New(cfg Config) (*Transport, error) {
	t := &Transport{
		nodeID:    cfg.NodeID,
		route:     cfg.Route,
		authorize: cfg.Authorize,
		log:       cfg.Logger,
		limits:    cfg.Limits.withDefaults(),
		pace:      defaultPace,
		idle:      make(chan struct{}),
	}
	if t.route == nil {
		t.route = func(string) (string, bool) { return "", false }
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	t.log = t.log.With("node_id", t.nodeID)
	client := cfg.HTTP
	if client == nil {
		t.ownPool = partnerPool()
		client = &http.Client{Transport: t.ownPool}
	}
	t.client = withoutRedirects(client)
	sp, err := openSpool(cfg.Spool, t.log)
	if err != nil {
		return nil, err
	}
	if t.broker, err = newBroker(sp, t.limits, t.log); err != nil {
		sp.close()
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// partnerPool is a connection pool to partners: a dial that hangs must leave
// time for another try, and a partner that vanished must be noticed.
func partnerPool() *http.Transport {
	dialer := &net.Dialer{
		Timeout:         5 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
		WriteBufferSize:     64 << 10,
	}
}

// withoutRedirects copies a client so that a partner can't send a message on to
// an address of its choice.
func withoutRedirects(c *http.Client) *http.Client {
	copied := *c
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &copied
}

// ReleaseSession closes a session for good: its messages are dropped, its
// readers and writers wake, and later calls get CodeSessionReleased. The job's
// end calls it; repeating it, or an unknown session, is no error.
func (t *Transport) ReleaseSession(sessionID string) { t.broker.releaseSession(sessionID) }

// Server makes an http.Server for all routes. It has no address yet; for another
// set of routes replace its Handler. It bounds headers and idle connections, not
// whole requests: a pop may wait for hours, and bodies have deadlines by their
// size. Its Shutdown stops this transport, so that waiting pops don't hold it up.
func (t *Transport) Server() *http.Server {
	srv := &http.Server{
		Handler:           t.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(t.log.Handler(), slog.LevelWarn),
		Protocols:         new(http.Protocols),
		// A container waits in one pop for each topic, all on one connection.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10_000, MaxReceiveBufferPerConnection: 4 << 20,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true) // gRPC, on the same port
	srv.RegisterOnShutdown(t.stop)
	return srv
}

// Close refuses new calls with CodeNoInstance and wakes those that wait, then waits
// for the calls to end. Messages stay in the spool for the next transport. The error is ctx's.
func (t *Transport) Close(ctx context.Context) error {
	t.stop()
	select {
	case <-t.idle:
	case <-ctx.Done():
		return fmt.Errorf("transport: close with calls in progress: %w", ctx.Err())
	}
	t.broker.spool.close()
	if t.ownPool != nil {
		t.ownPool.CloseIdleConnections()
	}
	return nil
}

func (t *Transport) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	t.broker.close()
	t.cancel()
	if t.calls == 0 {
		close(t.idle)
	}
}

// begin counts a call in; it is false when the transport is closed.
func (t *Transport) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.calls++
	return true
}

func (t *Transport) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls--
	if t.closed && t.calls == 0 {
		close(t.idle)
	}
}
