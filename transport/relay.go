package transport

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hutong/internal/httpguard"
	"hutong/internal/identity"
	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// A party may have several transports, each with a spool of its own. Each session is at one of them. The
// others relay its calls, once: a transport serves what comes to its RelayHandler, or refuses it.

// pathRelayed begins the paths of RelayHandler: /volume/VOLUME_ID/v1/interconn/chan/push.
const pathRelayed = "/volume/"

// RelayPath returns what precedes the path of a call to the RelayHandler of the transport with a volume.
func RelayPath(volumeID string) string { return pathRelayed + volumeID }

// IsRelayPath reports whether a path is one of RelayHandler.
func IsRelayPath(path string) bool { return strings.HasPrefix(path, pathRelayed) }

// RelayHandler returns a handler for the calls that other processes of the party relay, of containers and
// partners, at RelayPath. They have found that this transport holds the session. A call for another volume is
// refused with status.NoInstance: its caller has an old address, and tries again.
func (t *Transport) RelayHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		volume, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, pathRelayed), "/")
		r.URL.Path, r.URL.RawPath = httpguard.CleanPath("/"+path), ""
		x := t.newExchange(w, r)
		x.relayed = true
		if volume != t.VolumeID() {
			x.refuse(http.StatusServiceUnavailable, status.Errorf(status.NoInstance,
				"this transport does not hold the session; try again"))
			return
		}
		x.receivedBytes, _ = strconv.ParseInt(r.Header.Get(headerReceived), 10, 64)
		t.serveRoute(x, routesOf(identity.From(r.Context())))
	})
}

// headerReceived says how many bytes the body of a push had that was received by another transport. Both
// parties count these.
const headerReceived = "X-Hutong-Received-Bytes"

// routesOf returns the routes that a caller has at the listener for it.
func routesOf(caller identity.Principal) map[string]operation {
	switch {
	case caller.Kind == identity.KindContainer:
		return containerRoutes
	case caller.Kind == identity.KindPartner && caller.Proof != identity.ByProcess:
		return partnerRoutes
	}
	return allRoutes
}

// findElsewhere returns a handler that relays a call to the transport that holds its session, or nil if this
// one does, or if only the metadata inside the body names the session.
func (t *Transport) findElsewhere(x *exchange) (http.Handler, error) {
	id := x.headers[wire.HeaderSessionID]
	if t.elsewhere == nil || x.relayed || id == "" {
		return nil, nil
	}
	if err := t.admit(x); err != nil {
		return nil, err
	}
	return t.elsewhere(x.r.Context(), id)
}

// relay relays a call. Its body streams through this process, as fast as the other transport accepts it.
func (t *Transport) relay(x *exchange, to http.Handler) {
	t.counters.relayed.Add(1)
	ctx, cancel := t.relayContext(x)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	// The rest of a body that was refused must not hold the connection, nor a stream that was ended.
	defer x.setReadTimeout(x.minRate.grace)
	r := x.r.WithContext(ctx)
	r.Header = x.relayedHeaders()
	if x.r.URL.Path == pathStream && x.r.ProtoMajor < 2 {
		_ = x.rc.EnableFullDuplex()
		body := &interruptible{Reader: x.r.Body, interrupt: func() { x.setReadTimeout(-1) }}
		r.Body = body
		defer func() { _ = body.Close() }()
	}

	w := &relayedAnswer{ResponseWriter: x.w, x: x}
	to.ServeHTTP(w, r)
	switch {
	case w.started:
	case t.ctx.Err() != nil:
		x.refuse(http.StatusServiceUnavailable, queue.ErrClosed)
	case x.r.Context().Err() != nil:
		// The caller is gone; or its body has failed, for which net/http also ends the context.
		x.bodyFailed = true
		x.refuse(http.StatusBadRequest, errIncomplete)
	case ctx.Err() != nil:
		x.refuse(http.StatusServiceUnavailable, errNoHolder)
	}
}

// relayContext returns a context for a relayed call. A push ends when the holder must have answered it: one
// that is stopped, or whose disk hangs, must not hold its callers. Pops and streams may take days.
func (t *Transport) relayContext(x *exchange) (context.Context, context.CancelFunc) {
	switch op := x.call().Op; {
	case op == "push", op == "invoke":
		deadline, err := t.pushDeadline(x)
		if err != nil {
			break // the holder refuses it
		}
		n := x.length
		if n < 0 {
			n = 2 * t.limits.MessageBytes // with its encoding
		}
		return context.WithDeadline(x.r.Context(), deadline.Add(x.minRate.timeout(n)+answerGrace))
	case op == "release":
		return context.WithTimeout(x.r.Context(), 2*x.minRate.grace)
	}
	return context.WithCancel(x.r.Context())
}

// relayedHeaders returns the headers of a call as they were understood here. The holder must not understand
// them otherwise: a header Connection could make the proxy drop the one that names the session.
func (x *exchange) relayedHeaders() http.Header {
	h := make(http.Header, len(x.r.Header))
	for name, values := range x.r.Header {
		if !wire.IsHeader(name) {
			h[name] = values
		}
	}
	h.Del("Connection")
	h.Del(headerReceived)
	for name, value := range x.headers {
		h.Set(name, value)
	}
	return h
}

// interruptible is the body of a stream over HTTP/1. Its Close ends a Read, for which the body's own waits.
type interruptible struct {
	io.Reader
	interrupt func()
	ended     atomic.Bool // nothing more is read
}

// Read implements [io.Reader].
func (b *interruptible) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.ended.Store(true)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *interruptible) Close() error {
	if !b.ended.Load() {
		b.interrupt()
	}
	return nil
}

// relayedAnswer records whether an answer was started, and bounds the time in which the caller must read it:
// the transport that holds the session does not see that caller.
type relayedAnswer struct {
	http.ResponseWriter
	x       *exchange
	started bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *relayedAnswer) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *relayedAnswer) Write(b []byte) (int, error) {
	w.started = true
	w.x.setWriteTimeout(w.x.minRate.timeout(int64(len(b))))
	defer w.x.setWriteTimeout(0) // a pop or a stream may wait between two writes
	return w.ResponseWriter.Write(b)
}

// FlushError sends what was written, for [http.ResponseController].
func (w *relayedAnswer) FlushError() error {
	w.x.setWriteTimeout(w.x.minRate.grace)
	defer w.x.setWriteTimeout(0)
	return w.x.rc.Flush()
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *relayedAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// exchangeTimeout bounds how long the body of a push that is relayed may lie in the spool without a budget
// while its own session has too many in transit.
const exchangeTimeout = 2 * time.Second

// relayPush relays a push whose session was named inside its body, and which was received here. It sends it
// once: if that fails, the partner repeats the push.
func (t *Transport) relayPush(ctx context.Context, x *exchange, topic string, p *incomingPush,
	to http.Handler) (duplicate bool, err error) {
	t.counters.relayed.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()

	// The budget of the session "" must not wait for its own session. Until the other transport has accepted
	// it, it counts here as a message that is sent on. To hold both would count it twice for its partner.
	s, err := t.broker.Enter(x.headers[wire.HeaderSessionID])
	if err != nil {
		return false, err
	}
	defer s.Leave()
	soon, stop := context.WithTimeout(ctx, exchangeTimeout)
	defer stop()
	p.allocation.Release()
	allocation, err := s.Allocate(soon, queue.Outbound, p.body.Size()+queue.MessageOverhead, x.partner())
	if err != nil {
		return false, err
	}
	p.allocation = allocation
	head := wire.EncodeProtobufPush(topic, p.body.Size())
	body := io.MultiReader(bytes.NewReader(head), p.body.Reader())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, pathInvoke, body)
	if err != nil {
		return false, err
	}
	r.ContentLength = int64(len(head)) + p.body.Size()
	for name, value := range x.headers {
		r.Header.Set(name, value)
	}
	if deadline, ok := ctx.Deadline(); ok {
		r.Header.Set(grpcTimeout, wire.FormatGRPCTimeout(time.Until(deadline)))
	}
	r.Header.Set(headerReceived, strconv.FormatInt(p.encoded, 10))
	r.Header.Set("Content-Type", wire.Protobuf.ContentType())
	r.Header.Set(wire.HeaderVersion, wire.PassThrough)
	r.Header.Set(wire.HeaderURI, pathPush)
	r.RemoteAddr = x.r.RemoteAddr

	w := &bufferedAnswer{header: http.Header{}}
	err = serveUnlessAborted(to, w, r)
	if err != nil {
		w.body.Reset() // of an answer that was cut off
	}
	switch out, err := wire.Protobuf.DecodeAnswer(w.body.Bytes()); {
	case t.ctx.Err() != nil:
		return false, queue.ErrClosed
	case ctx.Err() != nil:
		return false, status.Errorf(status.Timeout, "the message was not relayed in time; try again")
	case err != nil || out.Code == "":
		return false, errNoHolder
	case out.Code != status.OK:
		return false, &status.Error{Code: out.Code, Message: out.Message}
	default:
		p.relayed = true
		return strings.HasPrefix(out.Message, duplicateMark), nil
	}
}

// serveUnlessAborted runs a handler. One that aborts its answer must not end the call with what it holds.
func serveUnlessAborted(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch cause := recover(); cause {
		case nil:
		case http.ErrAbortHandler:
			err = errNoHolder
		default:
			panic(cause)
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

var errNoHolder = status.Errorf(status.NoInstance, "the transport that holds the session does not answer; "+
	"try again")

// bufferedAnswer keeps the answer to a push, which holds no message.
type bufferedAnswer struct {
	header http.Header
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (w *bufferedAnswer) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter].
func (w *bufferedAnswer) WriteHeader(int) {}

// Write implements [http.ResponseWriter].
func (w *bufferedAnswer) Write(b []byte) (int, error) {
	if w.body.Len()+len(b) > maxAnswer {
		return 0, errNoHolder
	}
	return w.body.Write(b)
}
