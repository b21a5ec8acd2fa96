package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hutong/internal/httpclient"
	"hutong/internal/httpguard"
	"hutong/internal/identity"
	"hutong/transport/status"
	"hutong/transport/wire"
)

const (
	channelPath = "/v1/interconn/chan/"
	grpcChannel = "/org.ppc.ptp.PrivateTransferTransport/"
	streamPath  = channelPath + "transport"
	headerToken = wire.HeaderToken
	// grpcInvalid, grpcForbidden and grpcUnavailable are codes of gRPC.
	grpcInvalid, grpcForbidden, grpcUnavailable = "3", "7", "14"
)

// isChannel returns whether a path is one of the transport for containers.
func isChannel(path string) bool {
	name, http := strings.CutPrefix(path, channelPath)
	if !http {
		var grpc bool
		if name, grpc = strings.CutPrefix(path, grpcChannel); !grpc {
			return false
		}
	}
	switch name {
	case "push", "pop", "peek", "release":
		return true
	}
	return false
}

// headersOf returns the x-ptp-* headers of a request, as the transport reads them.
func headersOf(r *http.Request) wire.Headers { return wire.ReadHeaders(r.Header) }

// channel passes a call to the transport, if its session is the run's.
func (g *Gate) channel(w http.ResponseWriter, r *http.Request, token string) {
	headers := headersOf(r)
	if token == "" {
		token = headers[wire.HeaderToken]
	}
	run, caller, err := g.identify(r, token)
	session := headers[wire.HeaderSessionID]
	switch {
	case err != nil:
	case headers[wire.HeaderFinal] != "":
		err = forbiddenf("header %s: a container can't release a session for good", wire.HeaderFinal)
	case run.known() && session != "" && !MayUse(run.Run, session):
		err = forbiddenf("header %s: the session of this container is %s", wire.HeaderSessionID, run.Session)
	}
	if refusal, ok := errors.AsType[*errForbidden](err); ok {
		g.cfg.Logger.Info(
			"refused a container's call of the transport",
			"remote",
			r.RemoteAddr,
			"path",
			r.URL.Path,
			"session_id",
			session,
			"error",
			err,
		)
		g.refused(r, caller, session, refusal.text)
		refuseChannel(w, r, http.StatusForbidden, refusal.text)
		return
	}
	if err != nil {
		g.cfg.Logger.Error("failed to identify a container", "remote", r.RemoteAddr, "error", err)
		refuseChannel(
			w,
			r,
			http.StatusServiceUnavailable,
			"the party can't look up its containers; try again",
		)
		return
	}
	g.setHeaders(r, headers, run)
	ctx, cancel := context.WithCancel(identity.With(r.Context(), caller))
	defer cancel()
	defer context.AfterFunc(g.stopped, cancel)()
	answer := &startedWriter{ResponseWriter: w}
	g.cfg.Transport.ServeHTTP(answer, r.WithContext(ctx))
	if !answer.started && g.stopped.Err() != nil {
		refuseChannel(w, r, http.StatusServiceUnavailable, "the party's gate restarts; try again")
	}
}

// setHeaders leaves one spelling of each x-ptp-* header, so that no one behind the gate reads another value
// than the gate did. The token stays at home, and the source is this party.
func (g *Gate) setHeaders(r *http.Request, headers wire.Headers, run Run) {
	for name := range r.Header {
		if wire.IsHeader(name) {
			r.Header.Del(name)
			delete(r.Header, name) // a name in another form
		}
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	r.Header.Del(wire.HeaderToken)
	if run.known() {
		// The specification requires a token. The session's id is no secret.
		r.Header.Set(wire.HeaderToken, run.Session)
	}
	r.Header.Del(wire.HeaderFromNodeID)
	r.Header.Set(wire.HeaderSourceNodeID, g.cfg.Node)
}

// refuseChannel answers a call of the transport with an error, in the encoding of the call.
func refuseChannel(w http.ResponseWriter, r *http.Request, httpStatus int, message string) {
	code, grpc := status.Forbidden, grpcForbidden
	switch httpStatus {
	case http.StatusServiceUnavailable:
		code, grpc = status.NoInstance, grpcUnavailable
	case http.StatusBadRequest:
		code, grpc = status.BadRequest, grpcInvalid
	}
	contentType := r.Header.Get("Content-Type")
	if wire.IsGRPC(contentType) {
		h := w.Header()
		h.Set("Content-Type", wire.GRPCType)
		h.Set("Grpc-Status", grpc)
		h.Set("Grpc-Message", wire.EncodeGRPCMessage(message))
		w.WriteHeader(http.StatusOK)
		return
	}
	encoding := wire.EncodingOf(contentType)
	head, tail, _ := wire.EncodeAnswer(encoding, wire.Unframed, wire.Answer{Code: code, Message: message}, 0)
	w.Header().Set("Content-Type", encoding.ContentType())
	w.WriteHeader(httpStatus)
	_, _ = w.Write(append(head, tail...))
}

// RemoteTransport returns a handler that relays calls to the transport at a host:port of another process
// of the party. Calls carry their principal, sealed.
func RemoteTransport(address string, keys Keys, logger *slog.Logger) http.Handler {
	m := NewRemote(keys, logger, nil)
	m.relays = false
	return m.To(&url.URL{Scheme: "http", Host: address})
}

// Remote relays calls to transports in other processes of the party. Calls carry their principal, sealed.
type Remote struct {
	keys      Keys
	logger    *slog.Logger
	onFailure func()
	relays    bool              // calls of partners too
	one, two  http.RoundTripper // for HTTP/1 and HTTP/2
}

// NewRemote returns a Remote. onFailure, if set, is called when a transport does not answer. It must not
// wait.
func NewRemote(keys Keys, logger *slog.Logger, onFailure func()) *Remote {
	one, two := httpclient.Direct(), httpclient.Direct()
	one.MaxIdleConnsPerHost = 256
	one.DisableCompression, two.DisableCompression = true, true
	one.WriteBufferSize, one.ReadBufferSize = 64<<10, 64<<10
	two.Protocols = new(http.Protocols)
	two.Protocols.SetUnencryptedHTTP2(true)
	// All calls of gRPC share one connection. One to a machine without power must not hold them.
	two.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second}
	return &Remote{keys: keys, logger: logger, onFailure: onFailure, relays: true,
		one: keys.Sender(identity.Principal{}, one), two: keys.Sender(identity.Principal{}, two)}
}

// To returns a handler that relays calls to the transport at a URL, whose path precedes theirs.
func (m *Remote) To(target *url.URL) http.Handler {
	forHTTP1, forHTTP2 := m.proxy(target, m.one, false), m.proxy(target, m.two, true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.relays {
			defer limitBody(w, r)()
		}
		// Over HTTP/1, the answer to a partner's stream that ends early may be lost.
		if r.ProtoMajor >= 2 || r.URL.Path == streamPath {
			forHTTP2.ServeHTTP(w, r)
			return
		}
		if m.relays {
			// Otherwise the server closes the body when the answer begins. If the proxy has not read its
			// end, it then breaks the connection from which it copies the answer.
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		forHTTP1.ServeHTTP(w, r)
	})
}

func (m *Remote) proxy(target *url.URL, pool http.RoundTripper, overHTTP2 bool) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(target)
			pr.Out.Host = target.Host
			var body io.ReadCloser
			if pr.Out.Body != nil && pr.Out.Body != http.NoBody {
				body = pr.In.Body
			}
			if m.relays && body != nil && overHTTP2 {
				// The proxy's own body ignores Close, which ends the read of a body whose call was answered.
				pr.Out.Body = body
			}
			httpguard.EndBody(pr.Out)
			if m.relays && body != nil {
				pr.Out.Body = &callersBody{ReadCloser: pr.Out.Body, in: body}
			}
		},
		Transport:      pool,
		ModifyResponse: keepGRPCStatus,
		FlushInterval:  -1,
		BufferPool:     buffers{},
		ErrorLog:       slog.NewLogLogger(m.logger.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			body, _ := r.Body.(*callersBody)
			if body != nil && body.failed.Load() {
				// net/http may have ended the context, but the caller may still read.
				refuseChannel(w, r, http.StatusBadRequest, "the body ended or stalled before it was complete")
				return
			}
			if r.Context().Err() != nil {
				return // the caller is gone, or this process stops
			}
			m.logger.Warn("failed to relay a call to the transport", "address", target.Host,
				"path", r.URL.Path, "error", err)
			if m.onFailure != nil {
				m.onFailure()
			}
			if body != nil {
				discard(w, r, body.in)
			}
			RefuseUnavailable(w, r, "the transport does not answer; try again")
		},
	}
}

// callersBody is the body of a relayed call. It records whether its caller has failed to send it: another try
// of the same call would not help.
type callersBody struct {
	io.ReadCloser
	in             io.Reader // what the caller sends, also after Close
	closed, failed atomic.Bool
}

// Read implements [io.Reader].
func (b *callersBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !b.closed.Load() {
		b.failed.Store(true)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *callersBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// limitBody bounds what a caller still sends once its call was answered or ended. The proxy waits until it
// has read that, and net/http keeps the connection.
func limitBody(w http.ResponseWriter, r *http.Request) (end func()) {
	limit := func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(discardGrace)) }
	limited := make(chan struct{})
	stop := context.AfterFunc(r.Context(), func() {
		defer close(limited)
		limit()
	})
	return func() {
		if stop() {
			limit()
			return
		}
		<-limited // the next request of the connection must not have this deadline
	}
}

const (
	// discardGrace and maxDiscard bound what is read of a body that nobody needs.
	discardGrace = 30 * time.Second
	maxDiscard   = 256 << 20
)

// discard reads what the caller of a refused call still sends over HTTP/1: many clients read an answer only
// after they have sent their body. The read deadline stays, since net/http continues to read.
func discard(w http.ResponseWriter, r *http.Request, body io.Reader) {
	if r.ProtoMajor < 2 && !strings.HasSuffix(r.URL.Path, streamPath) && r.ContentLength <= maxDiscard &&
		r.Header.Get("Expect") == "" {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(discardGrace))
		_, _ = io.CopyN(io.Discard, body, maxDiscard)
	}
}

// keepGRPCStatus makes the status of a call that failed before its answer a trailer. It came in the headers
// of an answer that had nothing else. Once the proxy has flushed them, clients look for it in trailers only.
func keepGRPCStatus(r *http.Response) error {
	for _, name := range []string{"Grpc-Status", "Grpc-Message"} {
		if value := r.Header.Get(name); value != "" {
			r.Header.Del(name)
			r.Header.Set(http.TrailerPrefix+name, value)
		}
	}
	return nil
}

// RefuseUnavailable refuses a call of the transport with a retryable answer, in the encoding of the call.
func RefuseUnavailable(w http.ResponseWriter, r *http.Request, message string) {
	refuseChannel(w, r, http.StatusServiceUnavailable, message)
}

// RefuseUnread is RefuseUnavailable for a call whose body was not read.
func RefuseUnread(w http.ResponseWriter, r *http.Request, message string) {
	discard(w, r, r.Body)
	RefuseUnavailable(w, r, message)
}

// startedWriter records whether an answer was started.
type startedWriter struct {
	http.ResponseWriter
	started bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *startedWriter) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *startedWriter) Write(b []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *startedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// buffers is the pool of the buffers through which messages pass.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Get implements [httputil.BufferPool].
func (buffers) Get() []byte { return bufferPool.Get().(*[64 << 10]byte)[:] }

// Put implements [httputil.BufferPool].
func (buffers) Put(b []byte) { bufferPool.Put((*[64 << 10]byte)(b)) }
