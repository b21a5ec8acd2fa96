package transport

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"hutong/internal/httpclient"
	"hutong/internal/httpguard"
	"hutong/internal/identity"
	"hutong/transport/queue"
)

// Config configures a transport for its party. NodeID, Spool and Route are required; the zero value of
// everything else is a good default.
type Config struct {
	// NodeID is the party's own node id.
	NodeID string
	// Spool is the folder that holds the messages. New creates it. It belongs to one transport at a time, or
	// New returns ErrInUse.
	Spool string
	// KnownSpool makes New fail if the folder holds no spool yet, such as one whose disk is not mounted.
	KnownSpool bool
	// Route returns the base URL of a partner's transport, to which /v1/interconn/chan/invoke is appended. It
	// is called for every push to another node and must not block.
	Route func(nodeID string) (baseURL string, ok bool)
	// Authorize decides on every call before its body is read. It returns nil for a call that is allowed, a
	// [status.Error] that is sent as it is, or another error, which is sent as status.Internal without its
	// text. Nil allows everything, which is for tests.
	Authorize func(ctx context.Context, call Call) error
	// Elsewhere finds the transport of the party that holds a session, before the body is read. It returns a
	// handler that relays the call to its RelayHandler, or nil if this transport holds the session. Nil is
	// for a party with one transport.
	Elsewhere func(ctx context.Context, sessionID string) (http.Handler, error)
	// Confirm returns an error, which is sent as it is, if another process may serve the spool. It is called
	// between the work of a call and its acknowledgement: a process that was paused must not acknowledge what
	// is not in the spool any more. Nil is for a party with one transport.
	Confirm func(ctx context.Context) error
	// Outgoing sends the requests to the transports of partners. Nil sends them directly, which is for tests.
	Outgoing interface {
		http.RoundTripper
		CloseIdleConnections()
	}
	// OnTransfer is called for each message that a partner has accepted (sent) or sent, once for each, with
	// the size of its push. OnForwardFailure is called for each try to send a message to a partner that
	// failed. Each may be nil.
	OnTransfer       func(partner string, sent bool, bytes int64)
	OnForwardFailure func(partner string)
	// Logger receives what an operator should know; never a message's content.
	Logger *slog.Logger
	// Limits bounds bytes and time.
	Limits Limits
}

// Limits bounds what a transport holds and how long it waits. Zero fields get their defaults.
type Limits struct {
	// MessageBytes is the largest payload, 64 MiB. It is lowered to a quarter of SessionBytes, so that one
	// message leaves space for others.
	MessageBytes int64
	// SessionBytes is what one session may hold unread, and again in transit to partners: 256 MiB, at least 1
	// MiB. Set it to four times the largest message.
	SessionBytes int64
	// TotalBytes is what all sessions together may hold: 1 GiB.
	TotalBytes int64
	// PartnerBytes is what the messages of one partner may hold in all sessions: half of TotalBytes.
	PartnerBytes int64
	// PushTimeout is how long a push waits for its allocation, and for its partner: 60 s. A call's
	// x-ptp-timeout (milliseconds) can shorten it.
	PushTimeout time.Duration
	// PopTimeout is how long a pop waits that names no timeout: 120 s (API_SPECS part 4, 3.2.2).
	PopTimeout time.Duration
	// MaxPopTimeout is the longest wait of a pop: 7 days.
	MaxPopTimeout time.Duration
	// SessionTTL is the idle time after which a session is released: 24 h.
	SessionTTL time.Duration
	// ReleasedSessions is how many released sessions are remembered: 10,000.
	ReleasedSessions int
}

func (l Limits) withDefaults() Limits {
	q := l.queueLimits().WithDefaults()
	l.SessionBytes, l.TotalBytes, l.PartnerBytes = q.SessionBytes, q.TotalBytes, q.PartnerBytes
	l.SessionTTL, l.ReleasedSessions = q.SessionTTL, q.ReleasedSessions

	l.MessageBytes = min(cmp.Or(l.MessageBytes, 64<<20), l.SessionBytes/4)
	l.PushTimeout = cmp.Or(l.PushTimeout, time.Minute)
	l.PopTimeout = cmp.Or(l.PopTimeout, 2*time.Minute)
	l.MaxPopTimeout = cmp.Or(l.MaxPopTimeout, 7*24*time.Hour)
	return l
}

// queueLimits returns the limits that the queues enforce.
func (l Limits) queueLimits() queue.Limits {
	return queue.Limits{
		SessionBytes:     l.SessionBytes,
		TotalBytes:       l.TotalBytes,
		PartnerBytes:     l.PartnerBytes,
		SessionTTL:       l.SessionTTL,
		ReleasedSessions: l.ReleasedSessions,
	}
}

// Call describes a request before its body is read.
type Call struct {
	// Op is push, pop, peek, release, invoke or transport. The last two are for partners.
	Op string
	// Caller is who calls, as the listener has determined it; the zero value if it has not.
	Caller identity.Principal
	// SessionID is the session of the call. It may come from inside the message.
	SessionID string
	// Final reports a release that ends the session for good.
	Final bool
	// RemoteAddr is the caller's network address.
	RemoteAddr string
}

// Transport is the transport of one party. It is safe for concurrent use.
type Transport struct {
	nodeID    string
	route     func(string) (string, bool)
	authorize func(context.Context, Call) error
	elsewhere func(context.Context, string) (http.Handler, error)
	confirm   func(context.Context) error
	client    *http.Client
	pool      interface{ CloseIdleConnections() } // of client
	log       *slog.Logger
	limits    Limits
	broker    *queue.Broker
	forwards  keyedMutex // one forwarded push at a time for each forwardKey
	minRate   minRate
	counters  forwardCounters
	transfers *transfers

	onTransfer       func(partner string, sent bool, bytes int64)
	onForwardFailure func(partner string)

	ctx    context.Context // ends at Close
	cancel context.CancelFunc

	mu     sync.Mutex
	calls  int // in progress
	closed bool
	idle   chan struct{} // closed when the transport is closed and the last call has ended
}

// New returns a transport that recovers the messages in its spool. It starts no goroutine; only calls have
// some. Close unlocks the spool for another transport.
func New(cfg Config) (*Transport, error) {
	t := &Transport{
		nodeID:    cfg.NodeID,
		route:     cfg.Route,
		authorize: cfg.Authorize,
		elsewhere: cfg.Elsewhere,
		confirm:   cfg.Confirm,
		log:       cfg.Logger,
		limits:    cfg.Limits.withDefaults(),
		minRate:   defaultMinRate,
		idle:      make(chan struct{}),
	}
	if t.route == nil {
		t.route = func(string) (string, bool) { return "", false }
	}
	if t.confirm == nil {
		t.confirm = func(context.Context) error { return nil }
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	t.log = t.log.With("node_id", t.nodeID)
	if t.onTransfer = cfg.OnTransfer; t.onTransfer == nil {
		t.onTransfer = func(string, bool, int64) {}
	}
	if t.onForwardFailure = cfg.OnForwardFailure; t.onForwardFailure == nil {
		t.onForwardFailure = func(string) {}
	}

	outgoing := cfg.Outgoing
	if outgoing == nil {
		direct := httpclient.Direct()
		TunePool(direct)
		outgoing = direct
	}
	t.pool = outgoing
	t.client = &http.Client{
		Transport: outgoing,
		// A partner must not send a message on to an address of its choice.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	var err error
	t.broker, err = queue.Open(queue.Config{Dir: cfg.Spool, Known: cfg.KnownSpool,
		Limits: t.limits.queueLimits(), Logger: t.log})
	if err != nil {
		return nil, err
	}
	if t.transfers, err = openTransfers(cfg.Spool, t.limits.SessionTTL, t.log); err != nil {
		t.broker.Close()
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// TunePool sets what a pool of connections to transports needs.
func TunePool(pool *http.Transport) {
	pool.DisableCompression = true
	pool.WriteBufferSize = 64 << 10
}

// ReleaseSession closes a session: it drops the messages, wakes the readers and writers, and refuses later
// calls with status.SessionReleased. It is called at the job's end. It may be repeated, and the session may
// be unknown.
func (t *Transport) ReleaseSession(sessionID string) { t.broker.ReleaseSession(sessionID) }

// VolumeID returns the id of the spool. It stays the same when another process opens the spool.
func (t *Transport) VolumeID() string { return t.broker.Volume() }

// Epoch returns the epoch in the spool: the last one that was set, by this process or another; 0 at first.
func (t *Transport) Epoch() (int64, error) { return t.broker.Epoch() }

// SetEpoch writes the epoch to the spool. It survives a crash of the machine.
func (t *Transport) SetEpoch(n int64) error { return t.broker.SetEpoch(n) }

// SessionIDs returns the ids of the sessions that hold or remember something, or are in use.
func (t *Transport) SessionIDs() []string { return t.broker.SessionIDs() }

// IdleSessions returns the ids of the sessions that no call has used for a time.
func (t *Transport) IdleSessions(idle time.Duration) []string { return t.broker.IdleSessions(idle) }

// ErrInUse reports that another process uses the spool.
var ErrInUse = queue.ErrInUse

// Server is an http.Server whose listener refuses requests that HTTP forbids.
type Server struct{ *http.Server }

// Serve serves a listener until Shutdown.
func (s *Server) Serve(l net.Listener) error { return s.Server.Serve(httpguard.Listener(l, true)) }

// Server returns a server for all routes, without an address. For another set of routes replace its Handler.
//
// It bounds headers and idle connections, not whole requests: a pop may wait for hours, and bodies have
// deadlines by their size. Its Shutdown stops this transport, so that waiting pops do not delay it.
func (t *Transport) Server() *Server {
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
	if t.elsewhere != nil {
		// Each of the party's other processes relays all calls of gRPC on one connection. One that waits
		// until its message fits into its session holds its own window; those must not use up that of the
		// connection.
		srv.HTTP2.MaxReceiveBufferPerStream = 128 << 10
		srv.HTTP2.MaxReceiveBufferPerConnection = 128 << 20
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true) // gRPC, on the same port
	srv.RegisterOnShutdown(t.Stop)
	return &Server{srv}
}

// Close refuses new calls with status.NoInstance, wakes those that wait, and waits until all have ended.
// Messages stay in the spool for the next transport. The error is ctx's.
func (t *Transport) Close(ctx context.Context) error {
	t.Stop()
	select {
	case <-t.idle:
	case <-ctx.Done():
		return fmt.Errorf("failed to close the transport: calls are in progress: %w", ctx.Err())
	}

	t.transfers.close()
	t.broker.Close()
	t.pool.CloseIdleConnections()
	return nil
}

// Stop refuses new calls and wakes those that wait, as Close does, but does not wait for their end.
func (t *Transport) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}

	t.closed = true
	t.broker.Stop()
	t.cancel()
	if t.calls == 0 {
		close(t.idle)
	}
}

// beginCall counts a call. It returns false if the transport is closed.
func (t *Transport) beginCall() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.calls++
	return true
}

func (t *Transport) endCall() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls--
	if t.closed && t.calls == 0 {
		close(t.idle)
	}
}
