package transport

import (
	"net/http"
	"strings"
)

// Headers of the transport layer (API_SPECS part 4, 2.1 and 3.1). They are read
// in any case and with underscores for hyphens.
const (
	headerPrefix       = "x-ptp-"
	headerVersion      = "x-ptp-version"
	headerTraceID      = "x-ptp-trace-id"
	headerToken        = "x-ptp-token"
	headerURI          = "x-ptp-uri"
	headerSessionID    = "x-ptp-session-id"
	headerSourceNodeID = "x-ptp-source-node-id"
	headerFromNodeID   = "x-ptp-from-node-id" // FATE's name for the source
	headerTargetNodeID = "x-ptp-target-node-id"
	// headerTopic is used when the body names no topic; other transports send it.
	headerTopic = "x-ptp-topic"
	// headerTimeout is how long a push may wait, in milliseconds; it tells a
	// partner how long we shall wait for its answer.
	headerTimeout = "x-ptp-timeout"
	// headerMessageID makes a push and a pop repeatable; see the package comment.
	headerMessageID = "x-ptp-message-id"
	// headerFinal on a release is "true" when the session's job is over.
	headerFinal = "x-ptp-final"
	// headerProvider names who wrote the container or the transport.
	headerProvider = "x-ptp-tech-provider-code"
)

// passThrough is the x-ptp-version whose body is the container's, untouched
// (API_SPECS part 4, 5.2.1).
const passThrough = "1"

// headers are a call's x-ptp-* headers by their lower-case, hyphenated names.
type headers map[string]string

func readHeaders(h http.Header) headers {
	out := make(headers, 8)
	for name, values := range h {
		if len(values) > 0 {
			out.add(name, values[0])
		}
	}
	return out
}

// normalized does the same for the metadata of a wrapped push.
func normalized(metadata map[string]string) headers {
	out := make(headers, len(metadata))
	for name, value := range metadata {
		out.add(name, value)
	}
	return out
}

// add takes a header if it is one of the protocol's. When it comes in two
// spellings, the one with a value counts, and of two values the smaller: a
// header must not depend on the order of a map.
func (h headers) add(name, value string) {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if !strings.HasPrefix(name, headerPrefix) {
		return
	}
	value = strings.TrimSpace(value)
	if old := h[name]; old == "" || value != "" && value < old {
		h[name] = value
	}
}

// source is the sender's node id under either of its names.
func (h headers) source() string {
	if v := h[headerSourceNodeID]; v != "" {
		return v
	}
	return h[headerFromNodeID]
}
