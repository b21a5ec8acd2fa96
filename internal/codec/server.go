package codec

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.temporal.io/sdk/converter"

	"hutong/internal/identity"
	"hutong/internal/limits"
)

// maxRequest bounds a request of the web UI; Temporal's own limit for a message is 4 MiB.
const maxRequest = 16 << 20

// Authenticator determines who makes a request. Its error is the reason of a refusal.
type Authenticator func(r *http.Request) (identity.Principal, error)

// CheckOrigin returns an error if text is not the origin of a web page.
func CheckOrigin(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.String() != text ||
		text != u.Scheme+"://"+u.Host {
		return fmt.Errorf("%.100q is not an origin, such as https://temporal.bank.example", text)
	}
	return nil
}

// Handler returns the codec endpoint of Temporal's web UI and command line: POST /decode with payloads in
// JSON. Only clients with the role viewer may call it, from a page of one of the origins or from no page. It
// does not encrypt: nobody needs that, and a viewer could use it to write into a job.
func Handler(c *Codec, origins []string, authenticate Authenticator) http.Handler {
	decode := converter.NewPayloadCodecHTTPHandler(c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" {
			if !slices.Contains(origins, origin) {
				http.Error(w, "the web pages of this origin may not decrypt; see temporal.codec.origins",
					http.StatusForbidden)
				return
			}
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Allow-Methods", http.MethodPost)
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace")
		}
		switch {
		case r.URL.Path != "/decode":
			http.NotFound(w, r)
		case r.Method == http.MethodOptions:
			w.WriteHeader(http.StatusNoContent) // a preflight request carries no credentials
		case r.Method != http.MethodPost:
			h.Set("Allow", "POST, OPTIONS")
			http.Error(w, "the method must be POST", http.StatusMethodNotAllowed)
		case !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
			http.Error(w, "the content type must be application/json", http.StatusUnsupportedMediaType)
		default:
			p, err := authenticate(r)
			var exceeded *limits.Exceeded
			if errors.As(err, &exceeded) {
				h.Set("Retry-After", strconv.Itoa(exceeded.Seconds()))
				http.Error(w, exceeded.Error(), http.StatusTooManyRequests)
				return
			}
			if err != nil || p.Kind == identity.KindAnonymous {
				h.Set("WWW-Authenticate", "Bearer")
				http.Error(w, "valid credentials of a client are required", http.StatusUnauthorized)
				return
			}
			if !p.Can(identity.Viewer) {
				http.Error(w, fmt.Sprintf("%s lacks the role viewer", p), http.StatusForbidden)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			decode.ServeHTTP(w, r)
		}
	})
}
