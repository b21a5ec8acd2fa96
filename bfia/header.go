package bfia

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// HeaderTokenSet is the header with the permits of a job; see [ParseTokenSet].
const HeaderTokenSet = "x-mprac-token-set"

// SetHeaders sets the specification's east-west headers (part 2, 2.2) on a request from source to target.
//
// It also sets x-node-id: FATE-Flow 2.2.0 requires the older x_node_id, which a WSGI server reads from it,
// and Kuscia requires X-Node-Id. x-timestamp is in Unix milliseconds.
func SetHeaders(h http.Header, source, target, traceID string, now time.Time) {
	h.Set("Content-Type", "application/json")
	h.Set("x-source-node-id", source)
	h.Set("x-target-node-id", target)
	h.Set("x-node-id", source)
	h.Set("x-nonce", uuid.NewString())
	h.Set("x-csrf-protection", uuid.NewString())
	h.Set("x-trace-id", traceID)
	SetTimestamp(h, now)
	h.Set("x-auth-sign", "")
	h.Set(HeaderTokenSet, "")
}

// SetTimestamp sets the header x-timestamp, in Unix milliseconds.
func SetTimestamp(h http.Header, now time.Time) {
	h.Set("x-timestamp", strconv.FormatInt(now.UnixMilli(), 10))
}

// Header reads a header in any of the spellings that partners use: x-trace-id, x_trace_id, X-Trace-Id. get
// must ignore case.
func Header(get func(string) string, name string) string {
	if v := get(name); v != "" {
		return v
	}
	return get(strings.ReplaceAll(name, "-", "_"))
}

// Sender returns the node id that a request names as its origin, from the specification's, FATE-Flow's or
// Kuscia's header.
func Sender(get func(string) string) string {
	if v := Header(get, "x-source-node-id"); v != "" {
		return v
	}
	return Header(get, "x-node-id")
}
