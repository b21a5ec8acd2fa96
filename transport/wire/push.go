package wire

import (
	"bufio"
	"io"
)

const (
	// MaxParameters is the largest body of a pop, peek or release, and the largest field other than a
	// payload.
	MaxParameters = 64 << 10
	// pushOverhead is what the body of a push may hold besides its payload: topic and metadata.
	pushOverhead = 16 << 10
	// bufferSize is the size of the buffers through which bodies are read.
	bufferSize = 32 << 10
)

// PayloadWriter receives a push's payload as it is read. A payload may come more than once in a body; each
// Reset drops what was written before, so the last one counts.
type PayloadWriter interface {
	io.Writer
	Reset()
}

// DiscardPayload is a PayloadWriter that drops everything.
var DiscardPayload PayloadWriter = discard{}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Reset()                      {}

// PushForm is a form in which a push arrives.
type PushForm int

const (
	// Plain is the form that containers send, and partners with x-ptp-version 1.
	Plain PushForm = iota
	// Wrapped is a push inside an Inbound.
	Wrapped
	// Forwarded is a Plain push that is passed to a partner unchanged.
	Forwarded
)

// MaxBody returns the largest body of this form for a payload of at most message bytes.
func (f PushForm) MaxBody(enc Encoding, message int64) int64 {
	switch {
	case enc == Protobuf:
		return message + pushOverhead
	case f == Wrapped: // base64 twice
		return message/9*16 + 2*pushOverhead
	default:
		return message/3*4 + pushOverhead
	}
}

// Parse reads a push to the end of r and writes its payload. metadata comes from the wrapped form only.
func (f PushForm) Parse(enc Encoding, r *bufio.Reader, payload PayloadWriter,
) (topic string, metadata Headers, err error) {
	switch {
	case f == Wrapped && enc == Protobuf:
		return parseProtobufWrapped(r, payload)
	case f == Wrapped:
		return parseJSONWrapped(r, payload)
	case enc == Protobuf:
		topic, err = parseProtobufPush(r, payload)
	case f == Forwarded:
		topic, err = parseJSONTopic(r)
	default:
		topic, err = parseJSONPush(r, payload)
	}
	return topic, nil, err
}

// ParseNextJSON reads one push of a stream of JSON objects. After an error the position in the stream is
// unknown.
func (f PushForm) ParseNextJSON(r *bufio.Reader, payload PayloadWriter,
) (topic string, metadata Headers, err error) {
	if f == Wrapped {
		return readJSONWrapped(r, payload)
	}
	topic, hasPayload, err := readJSONPush(r, payload)
	if err == nil && !hasPayload {
		err = errNoPayload
	}
	return topic, nil, err
}
