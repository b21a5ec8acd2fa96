package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"time"
)

// The stream of API_SPECS part 4, 2.2.2, is many invokes in one call: each message
// is answered when it is in its queue, in the order in which they came. gRPC's
// frames hold them. The specification says nothing of how they stand in a
// body over HTTP; here:
//
//   - with Content-Type application/x-protobuf;delimited=true, each message and each answer has its
//     length before it, as a varint;
//   - with application/x-ndjson, messages are JSON objects one after the other, and answers one a line;
//   - with any other type there is one message, as for invoke: this is what Kuscia does.
const ndjson = "application/x-ndjson"

// isStream tells whether a call holds many messages.
func (x *exchange) isStream() bool {
	if x.r.URL.Path == grpcPartner+"transport" {
		return true
	}
	if x.r.URL.Path != pathStream {
		return false
	}
	t, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil {
		return false
	}
	if t == ndjson || x.enc == inProto && params["delimited"] == "true" {
		x.framing = framedStream
	}
	return x.framing == framedStream
}

func (x *exchange) streamType() string {
	if x.enc == inProto {
		return x.enc.contentType() + ";delimited=true"
	}
	return ndjson
}

// serveStream serves message after message until the caller ends its side. What
// is refused is answered, and the stream goes on where its next message can be found.
func (t *Transport) serveStream(x *exchange, op operation) {
	_ = x.rc.EnableFullDuplex() // HTTP/1.1; HTTP/2 is
	defer context.AfterFunc(t.ctx, func() { _ = x.rc.SetReadDeadline(time.Now()) })()
	all := *x
	all.frames = bufio.NewReaderSize(x.r.Body, pieces)
	if x.framing == framedStream && x.enc == inJSON {
		all.lineBody = &bodyReader{r: x.r.Body, left: math.MaxInt64, limit: math.MaxInt64}
		all.lines = bufio.NewReaderSize(all.lineBody, pieces)
	}
	for {
		one := all
		one.headers = maps.Clone(x.headers)
		err := t.ctx.Err()
		if err == nil {
			err = one.nextMessage()
		}
		if t.ctx.Err() != nil {
			err = errClosed
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			all.endStream(err)
			return
		}
		t.serveOne(&one, op)
		all.begun = all.begun || one.answered
		if one.broken || x.r.Context().Err() != nil || !one.skipRest() {
			return
		}
	}
	if x.framing == framedGRPC && !all.begun {
		x.begin(http.StatusOK, 0)
		_ = x.rc.Flush()
	}
}

// nextMessage makes the stream's next message the body. io.EOF is the end.
func (x *exchange) nextMessage() error {
	switch {
	case x.framing == framedGRPC:
		return x.frame(x.frames)
	case x.enc == inProto:
		n, err := binary.ReadUvarint(x.frames)
		if err != nil {
			return err
		}
		if n > math.MaxUint32 {
			return refuse(CodeTooLarge, "a message claims %d bytes", n)
		}
		x.length = int64(n)
		x.in = whole(x.frames, x.length)
		return nil
	default:
		x.length, x.lost = -1, true
		_, err := jsonByte(x.lines)
		if errors.Is(err, io.ErrUnexpectedEOF) && x.lineBody.err == nil {
			return io.EOF
		}
		if err == nil {
			err = x.lines.UnreadByte()
		}
		return err
	}
}

// skipRest reads what was refused before it was read. It is false when the next
// message can't be found.
func (x *exchange) skipRest() bool {
	if x.lines != nil {
		return !x.lost
	}
	x.readDeadline(x.pace.patience)
	_, err := io.Copy(io.Discard, x.in)
	x.readDeadline(0)
	return err == nil
}

// endStream tells why a stream ends before its end.
func (x *exchange) endStream(err error) {
	refusal := asError(err)
	if refusal.Code == CodeInternal {
		refusal = refuse(CodeBadRequest, "the stream ended or stalled inside a message")
	}
	if x.framing == framedGRPC {
		status := statusAborted
		if err == errClosed {
			status = statusUnavailable
		}
		x.failGRPC(status, refusal.Error())
		return
	}
	_ = x.answer(httpStatus(refusal.Code), outbound{code: refusal.Code, message: refusal.Message})
}

// parseLine reads one push of a stream of JSON objects.
func (f pushForm) parseLine(r *bufio.Reader, payload payloadWriter) (topic string, meta headers, err error) {
	if f == wrappedPush {
		return jsonWrapped(r, payload)
	}
	topic, there, err := jsonPush(r, payload)
	if err == nil && !there {
		err = errNoPayload
	}
	return topic, nil, err
}
