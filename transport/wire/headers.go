package wire

import "strings"

// Headers of the transport layer (API_SPECS part 4, 2.1 and 3.1). Any case is accepted, and underscores for
// hyphens.
const (
	headerPrefix = "x-ptp-"

	HeaderVersion      = "x-ptp-version"
	HeaderTraceID      = "x-ptp-trace-id"
	HeaderToken        = "x-ptp-token"
	HeaderURI          = "x-ptp-uri"
	HeaderSessionID    = "x-ptp-session-id"
	HeaderSourceNodeID = "x-ptp-source-node-id"
	// HeaderTaskID names the task, by its attempt, of the container that sent a message. It is Hutong's
	// addition: its transports set it for those of partners, whose accounts of the task then agree.
	HeaderTaskID = "x-ptp-task-id"
	// HeaderFromNodeID is FATE's name for the source.
	HeaderFromNodeID   = "x-ptp-from-node-id"
	HeaderTargetNodeID = "x-ptp-target-node-id"
	// HeaderTopic names the topic when the body names none. Other transports send it.
	HeaderTopic = "x-ptp-topic"
	// HeaderTimeout limits how long a push may wait, in milliseconds. A partner reads from it how long the
	// sender waits for the answer.
	HeaderTimeout = "x-ptp-timeout"
	// HeaderMessageID makes a push or a pop idempotent; see the comment of package transport.
	HeaderMessageID = "x-ptp-message-id"
	// HeaderFinal on a release is "true" when the session's job has ended.
	HeaderFinal = "x-ptp-final"
	// HeaderProvider names the vendor of the container or the transport.
	HeaderProvider = "x-ptp-tech-provider-code"
)

// PassThrough is the value of HeaderVersion for a body that holds the container's push unchanged (API_SPECS
// part 4, 5.2.1).
const PassThrough = "1"

// Headers maps a call's x-ptp-* headers from their lower-case, hyphenated names to their values.
type Headers map[string]string

// ReadHeaders collects the protocol's headers of an HTTP request.
func ReadHeaders(h map[string][]string) Headers {
	out := make(Headers, 8)
	for name, values := range h {
		if len(values) > 0 {
			out.Add(name, values[0])
		}
	}
	return out
}

// headersFromMetadata collects the protocol's headers of a wrapped push.
func headersFromMetadata(metadata map[string]string) Headers {
	out := make(Headers, len(metadata))
	for name, value := range metadata {
		out.Add(name, value)
	}
	return out
}

// Add sets a header if it is one of the protocol's. If it comes in two spellings, the one with a value
// counts, and of two values the smaller: the result must not depend on the order of a map.
func (h Headers) Add(name, value string) {
	if !IsHeader(name) {
		return
	}
	name = normalize(name)

	value = strings.TrimSpace(value)
	if old := h[name]; old == "" || value != "" && value < old {
		h[name] = value
	}
}

// IsHeader reports whether a header, in any spelling, is one of the protocol's.
func IsHeader(name string) bool { return strings.HasPrefix(normalize(name), headerPrefix) }

func normalize(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// Source returns the sender's node id, under either of its names.
func (h Headers) Source() string {
	if v := h[HeaderSourceNodeID]; v != "" {
		return v
	}
	return h[HeaderFromNodeID]
}

// SetSource sets the sender's node id, under FATE's name too if the caller used that.
func (h Headers) SetSource(node string) {
	h[HeaderSourceNodeID] = node
	if _, named := h[HeaderFromNodeID]; named {
		h[HeaderFromNodeID] = node
	}
}
