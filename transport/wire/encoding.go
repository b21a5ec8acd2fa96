package wire

import (
	"mime"
	"strings"
)

// Encoding is the serialization of a body. An answer has the encoding of its request (API_SPECS part 4, 5.1).
type Encoding int

const (
	// JSON bodies are objects whose byte fields are base64.
	JSON Encoding = iota
	// Protobuf bodies are the messages of ptp.proto.
	Protobuf
)

// EncodingOf returns the encoding that a Content-Type header names. Whatever is not protobuf counts as JSON:
// clients that set no type, or their library's default, send JSON.
func EncodingOf(contentType string) Encoding {
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		contentType = t
	}
	contentType = strings.ToLower(contentType)
	if strings.Contains(contentType, "protobuf") || IsGRPC(contentType) {
		return Protobuf
	}
	return JSON
}

// ContentType returns the header value that names the encoding.
func (e Encoding) ContentType() string {
	if e == Protobuf {
		return "application/x-protobuf"
	}
	return "application/json"
}

// DecodeRead decodes the body of a pop, peek or release.
func (e Encoding) DecodeRead(b []byte) (ReadRequest, error) {
	if e == Protobuf {
		return decodeProtobufRead(b)
	}
	return decodeJSONRead(b)
}

// DecodeAnswer decodes an answer that is held in memory.
func (e Encoding) DecodeAnswer(b []byte) (Answer, error) {
	if e == Protobuf {
		return decodeProtobufAnswer(b)
	}
	return decodeJSONAnswer(b)
}

// innerEncoding guesses the encoding of the push inside a wrapped body from its first bytes. Transports wrap
// what their container sent, whatever the outer encoding is.
//
// An encoded PushInbound never begins with a brace: as a protobuf tag, that byte starts a group. It can begin
// with a line feed, the tag of its topic, so white space is not skipped.
func innerEncoding(b []byte) Encoding {
	if len(b) > 0 && b[0] == '{' {
		return JSON
	}
	return Protobuf
}
