package sign

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// Window is how far the timestamp of a request may be from the receiver's clock, in both directions.
	Window = 5 * time.Minute
	// NonceMemory is how long a nonce must be remembered at least: a request whose timestamp is ahead by
	// [Window] is valid for twice as long.
	NonceMemory = 2 * Window

	// maxNonce bounds a nonce, in characters. A UUID has 36.
	maxNonce = 128
)

// The headers of the profile. Each must occur exactly once.
const (
	HeaderSource    = "x-source-node-id"
	HeaderTarget    = "x-target-node-id"
	HeaderNonce     = "x-nonce"
	HeaderTimestamp = "x-timestamp"
	HeaderSignature = "x-auth-sign"
)

// The headers that are signed where a request has them, as Go writes their names: those of the transport,
// which begin with a prefix, and the permits of a job.
const (
	transportPrefix = "X-Ptp-"
	headerPermits   = "X-Mprac-Token-Set"
)

// Request is the part of a request that is signed, except its body.
type Request struct {
	// Method is the HTTP method in upper case.
	Method string
	// Target is the path and query as in the request line. The prefix of a gateway is not part of it.
	Target string
	// Source and Destination are node ids.
	Source, Destination string
	// Nonce is unique among the requests of the source.
	Nonce string
	// Timestamp is the time of the signature in Unix milliseconds.
	Timestamp string
	// Headers has the transport's headers and the permits, one line for each, sorted. It is empty for other
	// requests.
	Headers []string
}

// FromHeader returns the signed part of a request. The error names the header that is missing, occurs twice
// or has a form that can't be signed.
func FromHeader(method, target string, header http.Header) (Request, error) {
	r := Request{Method: method, Target: target}
	for name, field := range map[string]*string{
		HeaderSource: &r.Source, HeaderTarget: &r.Destination, HeaderNonce: &r.Nonce,
		HeaderTimestamp: &r.Timestamp,
	} {
		var err error
		if *field, err = one(header, name); err != nil {
			return Request{}, err
		}
	}
	for name, values := range header {
		key := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")) // receivers read both spellings
		if !strings.HasPrefix(key, transportPrefix) && key != headerPermits {
			continue
		}
		if len(values) != 1 {
			return Request{}, fmt.Errorf("header %s occurs %d times", strings.ToLower(name), len(values))
		}
		if key == headerPermits && values[0] == "" {
			continue // every command has the header, and most have no permits
		}
		r.Headers = append(r.Headers, strings.ToLower(name)+":"+values[0])
	}
	slices.Sort(r.Headers)
	return r, r.check()
}

// Signature returns the value of x-auth-sign. The error says that it is missing or occurs twice.
func Signature(header http.Header) (string, error) { return one(header, HeaderSignature) }

// one returns the value of a header that must occur once and have a value.
func one(header http.Header, name string) (string, error) {
	values := header.Values(name)
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", fmt.Errorf("header %s is missing", name)
	case len(values) > 1:
		return "", fmt.Errorf("header %s occurs %d times", name, len(values))
	}
	return values[0], nil
}

// check refuses fields that could make two requests have the same canonical form.
func (r Request) check() error {
	for _, f := range []struct{ name, value string }{
		{"the method", r.Method}, {"the path", r.Target}, {"header " + HeaderSource, r.Source},
		{"header " + HeaderTarget, r.Destination}, {"header " + HeaderNonce, r.Nonce},
		{"header " + HeaderTimestamp, r.Timestamp},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is empty", f.name)
		}
		if strings.IndexFunc(f.value, unprintable) >= 0 {
			return fmt.Errorf("%s has a character other than printable ASCII", f.name)
		}
	}
	for _, line := range r.Headers {
		if strings.ContainsAny(line, "\r\n") {
			return errors.New("a header of the transport, or the one with permits, has a line break")
		}
	}
	if len(r.Nonce) > maxNonce {
		return fmt.Errorf("header %s is longer than %d characters", HeaderNonce, maxNonce)
	}
	return nil
}

// unprintable reports whether a character is not one of the printable ones of ASCII without the space.
func unprintable(c rune) bool { return c <= ' ' || c > '~' }

// canonical returns the string that is signed. digest is the body's, of the hash function of h.
func (r Request) canonical(h hash.Hash, digest []byte) []byte {
	lines := []string{
		r.Method, r.Target, r.Source, r.Destination, r.Nonce, r.Timestamp, hex.EncodeToString(digest),
	}
	if len(r.Headers) > 0 {
		h.Reset()
		_, _ = h.Write([]byte(strings.Join(r.Headers, "\n"))) // never fails
		lines = append(lines, hex.EncodeToString(h.Sum(nil)))
	}
	return []byte(strings.Join(lines, "\n"))
}

// CheckTime returns an error if the request was signed more than [Window] before or after now.
func (r Request) CheckTime(now time.Time) error {
	ms, err := strconv.ParseInt(r.Timestamp, 10, 64)
	if err != nil || ms <= 0 {
		return fmt.Errorf("header %s: %.40q is not a time in Unix milliseconds", HeaderTimestamp, r.Timestamp)
	}
	switch d := now.Sub(time.UnixMilli(ms)); {
	case d > Window:
		return fmt.Errorf("header %s: the request was signed more than %v ago; compare the clocks",
			HeaderTimestamp, Window)
	case d < -Window:
		return fmt.Errorf("header %s: the request was signed more than %v in the future; compare the clocks",
			HeaderTimestamp, Window)
	}
	return nil
}
