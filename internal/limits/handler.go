package limits

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"hutong/internal/identity"
)

// Handler returns a handler that limits the requests and the bytes of its callers, whom the request's context
// names. It answers 429 with the header Retry-After, in the form of refuse.
func (l *Limiter) Handler(next http.Handler, refuse func(w http.ResponseWriter, r *http.Request, e *Exceeded),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := identity.From(r.Context())
		if p.Kind == identity.KindAnonymous { // the listener has not determined it; next decides
			next.ServeHTTP(w, r)
			return
		}
		var exceeded *Exceeded
		if err := l.Request(p); errors.As(err, &exceeded) {
			w.Header().Set("Retry-After", strconv.Itoa(exceeded.Seconds()))
			refuse(w, r, exceeded)
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
