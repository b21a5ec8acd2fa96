package transport

import (
	"mime"
	"net/http"
	"strings"
)

// encoding is how a body is written; the answer is written as the request was
// (API_SPECS part 4, 5.1).
type encoding int

const (
	inJSON encoding = iota
	inProto
)

// encodingOf reads Content-Type. What is not protobuf is read as JSON: clients
// that set no type, or their library's default, send JSON.
func encodingOf(h http.Header) encoding {
	ct := h.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(ct); err == nil {
		ct = t
	}
	if ct = strings.ToLower(ct); strings.Contains(ct, "protobuf") || isGRPC(ct) {
		return inProto
	}
	return inJSON
}

func (e encoding) contentType() string {
	if e == inProto {
		return "application/x-protobuf"
	}
	return "application/json"
}

func (e encoding) decodeRead(b []byte) (inbound, error) {
	if e == inProto {
		return decodeProtoRead(b)
	}
	return decodeJSONRead(b)
}

func (e encoding) decodeAnswer(b []byte) (outbound, error) {
	if e == inProto {
		return decodeProtoAnswer(b)
	}
	return decodeJSONAnswer(b)
}

// innerEncoding tells how the push inside a wrapped body is written: transports
// wrap what their container sent, whatever the outer encoding is. No PushInbound
// begins with a brace, which would be the start of a group; it may well begin
// with a line feed, the tag of its topic, so white space is not skipped.
func innerEncoding(b []byte) encoding {
	if len(b) > 0 && b[0] == '{' {
		return inJSON
	}
	return inProto
}
