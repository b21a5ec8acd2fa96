package transport

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"time"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// A stream (API_SPECS part 4, 2.2.2) is many invokes in one call. Each message is answered when it is in its
// queue, in order of arrival. Over gRPC its frames delimit the messages. The specification does not define
// the body over HTTP. This transport accepts:
//
//   - Content-Type application/x-protobuf;delimited=true: each message and each answer has its length before
//     it, as a varint;
//   - Content-Type application/x-ndjson: messages are consecutive JSON objects, and each answer is a line;
//   - any other type: one message, as for invoke. Kuscia does the same.

// detectStream reports whether a call holds many messages, and sets the framing of a stream over HTTP.
func (x *exchange) detectStream() bool {
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
	if t == wire.NDJSONType || x.enc == wire.Protobuf && params["delimited"] == "true" {
		x.framing = wire.Stream
	}
	return x.framing == wire.Stream
}

func (x *exchange) streamType() string {
	if x.enc == wire.Protobuf {
		return x.enc.ContentType() + ";delimited=true"
	}
	return wire.NDJSONType
}

// serveStream serves messages until the caller ends the stream. After a refused message it continues, if it
// can find the next one.
func (t *Transport) serveStream(x *exchange, op operation) {
	_ = x.rc.EnableFullDuplex() // for HTTP/1.1; HTTP/2 always is
	defer context.AfterFunc(t.ctx, func() { _ = x.rc.SetReadDeadline(time.Now()) })()

	stream := *x
	stream.arrived = time.Time{}
	stream.frames = wire.NewReader(x.r.Body)
	if x.framing == wire.Stream && x.enc == wire.JSON {
		stream.objectsBody = wire.NewBodyReader(x.r.Body, math.MaxInt64)
		stream.objects = wire.NewReader(stream.objectsBody)
	}

	for n := 0; ; n++ {
		message := stream
		message.headers = maps.Clone(x.headers)
		err := t.ctx.Err()
		if err == nil {
			err = message.nextMessage()
		}
		if err == nil && n > 0 {
			err = t.pace(&message)
		}
		if t.ctx.Err() != nil {
			err = queue.ErrClosed
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			stream.failStream(err)
			return
		}

		t.serveMessage(&message, op)
		stream.headersWritten = stream.headersWritten || message.answered
		if message.bodyFailed || x.r.Context().Err() != nil || !message.skipRest() {
			return
		}
	}

	if x.framing == wire.GRPC && !stream.headersWritten {
		x.startAnswer(http.StatusOK, 0)
		_ = x.rc.Flush()
	}
}

// nextMessage makes the stream's next message the body. io.EOF is the end.
func (x *exchange) nextMessage() (err error) {
	switch {
	case x.framing == wire.GRPC:
		return x.nextFrame(x.frames)
	case x.enc == wire.Protobuf:
		body, length, err := wire.ReadDelimited(x.frames)
		if err == nil {
			x.body, x.length = body, length
		}
		return err
	default:
		x.length, x.desynchronized = -1, true
		err := wire.SkipSpace(x.objects)
		if errors.Is(err, io.ErrUnexpectedEOF) && x.objectsBody.Err() == nil {
			return io.EOF
		}
		return err
	}
}

// skipRest reads the rest of a message that was refused before it was read. It returns false if the next
// message can't be found.
func (x *exchange) skipRest() bool {
	if x.objects != nil {
		return !x.desynchronized
	}
	x.setReadTimeout(x.minRate.grace)
	_, err := io.Copy(io.Discard, x.body)
	x.setReadTimeout(0)
	return err == nil
}

// failStream answers with the reason why a stream ended early.
func (x *exchange) failStream(err error) {
	refusal := status.From(err)
	if refusal.Code == status.Internal {
		refusal = status.Errorf(status.BadRequest, "the stream ended or stalled inside a message")
	}

	if x.framing == wire.GRPC {
		code := grpcAborted
		if err == queue.ErrClosed {
			code = grpcUnavailable
		}
		x.failGRPC(code, refusal.Error())
		return
	}
	_ = x.answer(httpStatus(refusal.Code), wire.Answer{Code: refusal.Code, Message: refusal.Message})
}
