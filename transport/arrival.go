package transport

import (
	"context"
	"net/http"
	"time"

	"hutong/transport/wire"
)

// arrivalKey is the key of a call's arrival in its context.
type arrivalKey struct{}

// WithArrival returns a handler that notes when a call has arrived, for those that wait before they reach a
// handler of [Transport]: that is part of the time which their caller gives them.
func WithArrival(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), arrivalKey{}, time.Now())))
	})
}

// arrivalOf returns when a call has arrived, or the zero time.
func arrivalOf(ctx context.Context) time.Time {
	arrived, _ := ctx.Value(arrivalKey{}).(time.Time)
	return arrived
}

// Pace waits until the next message of a stream may be received, whose headers name a session. Its error ends
// the stream.
type Pace func(ctx context.Context, sessionID string) error

type paceKey struct{}

// WithPace returns a context for the calls of a partner. The messages of a stream wait for pace before their
// bodies are read, except the first one: the call is limited before it reaches a handler of [Transport].
func WithPace(ctx context.Context, pace Pace) context.Context {
	return context.WithValue(ctx, paceKey{}, pace)
}

// pace waits until the next message of a stream may be received, or until the transport stops.
func (t *Transport) pace(x *exchange) error {
	pace, ok := x.r.Context().Value(paceKey{}).(Pace)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	return pace(ctx, x.headers[wire.HeaderSessionID])
}

// SessionOf returns the session that the headers of a call name, and how long its caller waits for the
// answer; 0 is unknown.
func SessionOf(r *http.Request) (id string, atMost time.Duration) {
	headers := wire.ReadHeaders(r.Header)
	ms, err := wire.ParseMilliseconds(headers[wire.HeaderTimeout])
	if err != nil || ms < 0 {
		ms = 0 // the call will be refused
	}
	return headers[wire.HeaderSessionID], time.Duration(ms) * time.Millisecond
}
