package limits

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"hutong/internal/identity"
)

// Refuse answers a request beyond a limit. The header Retry-After is set.
type Refuse func(w http.ResponseWriter, r *http.Request, e *Exceeded)

// Handler returns a handler that limits the requests and the bytes of its callers, whom the request's context
// names. It answers 429 with the header Retry-After, in the form of refuse.
func (l *Limiter) Handler(next http.Handler, refuse Refuse) http.Handler {
	return l.handler(next, refuse, func(_ *http.Request, p identity.Principal) error { return l.Request(p) })
}

// Messages describes the messages of a handler.
type Messages struct {
	// Session returns the session of a message, by its headers, and how long its caller waits for the answer;
	// 0 is unknown.
	Session func(r *http.Request) (id string, atMost time.Duration)
	// Refuse answers a message that is refused.
	Refuse Refuse
	// OnLimited is called for each message beyond its caller's rate, when its wait has ended.
	OnLimited func(p identity.Principal, outcome Outcome)
}

// Outcome is what becomes of a message beyond its caller's rate.
type Outcome string

// The outcomes.
const (
	Served    Outcome = "served"    // after it has waited
	Refused   Outcome = "refused"   // with 429
	Cancelled Outcome = "cancelled" // by its caller, while it waited
)

// Queue returns a handler that limits messages as Handler limits requests, except that a message beyond its
// caller's rate waits, see [Limiter.Wait]. Nothing of its body is read before, so that it waits at its
// sender, or in the buffers of the connection.
//
// The end of a caller's HTTP/2 stream ends its wait. A caller of HTTP/1.1 that leaves is noticed only when
// its body is read, so its message keeps its place until it is served.
func (l *Limiter) Queue(next http.Handler, m Messages) http.Handler {
	return l.handler(next, m.Refuse, func(r *http.Request, p identity.Principal) error {
		session, atMost := m.Session(r)
		waited, err := l.Wait(r.Context(), p, session, atMost)
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			m.OnLimited(p, Cancelled)
		case err != nil:
			m.OnLimited(p, Refused)
		case waited:
			m.OnLimited(p, Served)
		}
		return err
	})
}

// handler returns a handler whose requests must be admitted.
func (l *Limiter) handler(next http.Handler, refuse Refuse,
	admit func(*http.Request, identity.Principal) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := identity.From(r.Context())
		if p.Kind == identity.KindAnonymous { // the listener has not determined it; next decides
			next.ServeHTTP(w, r)
			return
		}
		if err := admit(r, p); err != nil {
			if exceeded, ok := errors.AsType[*Exceeded](err); ok {
				w.Header().Set("Retry-After", strconv.Itoa(exceeded.Seconds()))
				refuse(w, r, exceeded)
				return
			}
			// The caller has left, or has ended its sending side and still reads the answer.
			http.Error(w, "the message was not received: its wait has ended", http.StatusServiceUnavailable)
			return
		}
		if r.Body != nil {
			r.Body = l.Transfer(r.Context(), p, r.Body)
		}
		next.ServeHTTP(w, r)
	})
}

// RefuseText answers an exceeded limit in plain text.
func RefuseText(w http.ResponseWriter, _ *http.Request, e *Exceeded) {
	http.Error(w, fmt.Sprint(e), http.StatusTooManyRequests)
}
