package gate

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"hutong/internal/identity"
)

// MinSecret is the length of the shortest secret in bytes.
const MinSecret = 32

// CallerHeader carries the caller of a request between the processes of one party ([Keys.Seal]).
const CallerHeader = "X-Hutong-Caller"

// sealedFor is how long a sealed caller is valid. It bounds the difference between the clocks of the party's
// machines, and the use of a recorded header.
const sealedFor = 5 * time.Minute

// Keys derives what containers and processes of one party prove themselves with. All processes of the party
// share its secret.
type Keys struct{ secret []byte }

// NewKeys returns the keys of a party's secret.
func NewKeys(secret []byte) (Keys, error) {
	if len(secret) < MinSecret {
		return Keys{}, fmt.Errorf("the secret of the gate has %d bytes; it needs %d", len(secret), MinSecret)
	}
	return Keys{secret}, nil
}

// derive returns an HMAC of a text for one purpose.
func (k Keys) derive(purpose, text string) string {
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte("hutong gate " + purpose + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Token returns the token of a container (config.token). The container's name names job, task, role and
// attempt.
func (k Keys) Token(container string) string { return container + "." + k.derive("token", container) }

// ContainerOf returns the container whose token this is. ok is false for a token of another form or secret.
func (k Keys) ContainerOf(token string) (container string, ok bool) {
	dot := strings.LastIndexByte(token, '.')
	if dot <= 0 {
		return "", false
	}
	return token[:dot], hmac.Equal([]byte(k.Token(token[:dot])), []byte(token))
}

// StoragePassword returns the password of a container in system.storage, where its name is the user.
func (k Keys) StoragePassword(container string) string { return k.derive("storage", container) }

// sealed is the content of CallerHeader.
type sealed struct {
	Principal identity.Principal `json:"principal"`
	Expires   int64              `json:"expires"` // Unix time
}

// Seal returns the value of CallerHeader with which one process of the party names the caller to another.
func (k Keys) Seal(p identity.Principal, now time.Time) string {
	text, err := json.Marshal(sealed{p, now.Add(sealedFor).Unix()})
	if err != nil {
		panic(err) // a principal consists of strings
	}
	content := base64.RawURLEncoding.EncodeToString(text)
	return content + "." + k.derive("caller", content)
}

// Open returns the caller that another process of the party has sealed.
func (k Keys) Open(value string, now time.Time) (identity.Principal, error) {
	content, mac, _ := strings.Cut(value, ".")
	if !hmac.Equal([]byte(k.derive("caller", content)), []byte(mac)) {
		return identity.Principal{}, fmt.Errorf(
			"header %s: was not made by a process of this party",
			CallerHeader,
		)
	}
	text, err := base64.RawURLEncoding.DecodeString(content)
	if err != nil {
		return identity.Principal{}, fmt.Errorf("header %s: %w", CallerHeader, err)
	}
	var s sealed
	if err := json.Unmarshal(text, &s); err != nil {
		return identity.Principal{}, fmt.Errorf("header %s: %w", CallerHeader, err)
	}
	left := time.Unix(s.Expires, 0).Sub(now)
	if left < 0 || left > 2*sealedFor {
		return identity.Principal{}, fmt.Errorf(
			"header %s: the clocks of this party's machines differ by more "+
				"than %s",
			CallerHeader,
			sealedFor,
		)
	}
	return s.Principal, nil
}

// Accept returns a handler that makes the caller in CallerHeader the principal of a request. A request
// without the header keeps the principal of its context. One that was not made by a process of this party is
// refused, which onRefusal records.
func (k Keys) Accept(next http.Handler, onRefusal func(*http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value := r.Header.Get(CallerHeader)
		r.Header.Del(CallerHeader)
		if value == "" {
			next.ServeHTTP(w, r)
			return
		}
		caller, err := k.Open(value, time.Now())
		if err != nil {
			onRefusal(r, err)
			refuseChannel(w, r, http.StatusForbidden, err.Error())
			return
		}
		ctx := context.WithValue(identity.With(r.Context(), caller), fromProcess{}, true)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

type fromProcess struct{}

// IsFromProcess reports whether another process of the party has sent the request of a context, for itself or
// for a caller, as Accept has found.
func IsFromProcess(ctx context.Context) bool { return ctx.Value(fromProcess{}) != nil }

// Sender returns a transport that seals each request of a process of the party as one of its caller: the
// principal of the request's context, or else this one.
func (k Keys) Sender(caller identity.Principal, next http.RoundTripper) http.RoundTripper {
	return sender{k, caller, next}
}

type sender struct {
	keys   Keys
	caller identity.Principal
	next   http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	caller := s.caller
	if p := identity.From(r.Context()); p.Kind != identity.KindAnonymous {
		caller = p
	}
	r = r.Clone(r.Context())
	r.Header.Set(CallerHeader, s.keys.Seal(caller, time.Now()))
	return s.next.RoundTrip(r)
}
