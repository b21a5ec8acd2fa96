package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// minRate is the rate at which a caller must send or read a body.
type minRate struct {
	grace          time.Duration // for any size
	bytesPerSecond int64         // after the grace
}

var defaultMinRate = minRate{grace: 30 * time.Second, bytesPerSecond: 256 << 10}

// timeout returns how long n bytes may take on the network.
func (m minRate) timeout(n int64) time.Duration {
	return m.grace + time.Duration(n/m.bytesPerSecond)*time.Second
}

// exchange is one request and its answer. A stream has an exchange for each of its messages.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	rc      *http.ResponseController
	headers wire.Headers
	enc     wire.Encoding
	framing wire.Framing
	minRate minRate
	// arrived is when the call arrived; zero for the messages of a stream, which arrive when they are read.
	arrived time.Time
	// body is the message's body, and length its length, -1 if unknown.
	body   io.Reader
	length int64
	// frames reads the messages of a stream. objects and objectsBody read those of a stream of JSON objects,
	// which have no length.
	frames      *bufio.Reader
	objects     *bufio.Reader
	objectsBody *wire.BodyReader
	// desynchronized is set while objects is at a position where no message begins.
	desynchronized bool
	// bodyFailed is set if the body ended early or stalled: nothing more can be read.
	bodyFailed bool
	// relayed is set if another process of the party has found that this transport holds the session.
	relayed bool
	// receivedBytes is the size of a body that another process of the party has received, or 0.
	receivedBytes int64
	// answered is set when the answer was started; a message has only one.
	answered bool
	// headersWritten is set when the headers of a stream's answers are written.
	headersWritten bool
}

func (t *Transport) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		w:       w,
		r:       r,
		rc:      http.NewResponseController(w),
		headers: wire.ReadHeaders(r.Header),
		enc:     wire.EncodingOf(r.Header.Get("Content-Type")),
		minRate: t.minRate,
		arrived: arrivalOf(r.Context()),
		body:    r.Body,
		length:  r.ContentLength,
	}
	if wire.IsGRPC(r.Header.Get("Content-Type")) {
		x.framing = wire.GRPC
	}
	return x
}

var errIncomplete = status.Errorf(status.BadRequest, "the body ended or stalled before it was complete")

// readParameters reads the body of a pop, peek or release, which needs no allocation.
func (x *exchange) readParameters() ([]byte, error) {
	const limit = wire.MaxParameters
	if x.length > limit {
		return nil, wire.TooLarge(limit)
	}
	expected := x.length
	if expected < 0 {
		expected = limit
	}
	x.setReadTimeout(x.minRate.timeout(expected))

	var body []byte
	var err error
	if x.length >= 0 {
		body = make([]byte, x.length)
		_, err = io.ReadFull(x.body, body)
	} else {
		body, err = wire.ReadAll(x.body, limit)
	}
	if err != nil {
		if e, ok := errors.AsType[*status.Error](err); ok {
			return nil, e
		}
		x.bodyFailed = true
		return nil, errIncomplete
	}

	// The bound on the body must not bound a pop that waits.
	x.setReadTimeout(0)
	return body, nil
}

// setReadTimeout bounds the reads of this request from now on; 0 removes the bound. Writers without deadlines
// (in tests) ignore it.
func (x *exchange) setReadTimeout(d time.Duration) { _ = x.rc.SetReadDeadline(deadlineIn(d)) }

func (x *exchange) setWriteTimeout(d time.Duration) { _ = x.rc.SetWriteDeadline(deadlineIn(d)) }

func deadlineIn(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// answer writes an answer to the network, in the encoding of the request. After an error the caller did not
// get it.
func (x *exchange) answer(httpStatus int, out wire.Answer) error {
	return x.answerFrom(httpStatus, out, bytes.NewReader(out.Payload), int64(len(out.Payload)))
}

// answerFrom writes an answer whose payload of n bytes is read from r.
func (x *exchange) answerFrom(httpStatus int, out wire.Answer, r io.Reader, n int64) error {
	head, tail, length := wire.EncodeAnswer(x.enc, x.framing, out, n)
	x.setWriteTimeout(x.minRate.timeout(length))
	defer x.setWriteTimeout(0)

	x.startAnswer(httpStatus, length)
	if err := x.write(head, r, n, tail); err != nil {
		return fmt.Errorf("failed to write the answer: %w", err)
	}
	if err := x.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("failed to write the answer: %w", err)
	}
	return nil
}

// startAnswer writes the answer's headers, once for a stream.
func (x *exchange) startAnswer(httpStatus int, length int64) {
	x.answered = true
	if x.headersWritten {
		return
	}

	h := x.w.Header()
	switch x.framing {
	case wire.GRPC:
		h.Set("Content-Type", wire.GRPCType)
		h.Set(http.TrailerPrefix+grpcStatus, "0")
	case wire.Stream:
		h.Set("Content-Type", x.streamType())
	default:
		h.Set("Content-Type", x.enc.ContentType())
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	x.w.WriteHeader(httpStatus)
}

func (x *exchange) write(head []byte, r io.Reader, n int64, tail []byte) error {
	if _, err := x.w.Write(head); err != nil {
		return err
	}
	if err := wire.WritePayload(x.w, x.enc, r, n); err != nil {
		return err
	}
	_, err := x.w.Write(tail)
	return err
}

// maxDiscard bounds what is read of a refused body.
const maxDiscard = 256 << 20

// refuse answers with a refusal. It first reads what the caller still sends, up to maxDiscard: many clients
// read an answer only after they have sent their body. Those that ask first (Expect: 100-continue) are
// refused at once. The read deadline stays: net/http continues to read before it answers.
func (x *exchange) refuse(httpStatus int, e *status.Error) {
	switch {
	case x.framing == wire.GRPC:
		x.refuseGRPC(e)
		return
	case x.framing == wire.Stream || x.r.ProtoMajor >= 2:
		// HTTP/2 lets the client stop sending.
	case x.bodyFailed:
		x.setReadTimeout(-1)
		x.w.Header().Set("Connection", "close")
	case x.r.ContentLength <= maxDiscard && x.r.Header.Get("Expect") == "" && e != queue.ErrClosed:
		x.setReadTimeout(x.minRate.grace)
		_, _ = io.CopyN(io.Discard, x.r.Body, maxDiscard)
	default:
		x.setReadTimeout(x.minRate.grace)
	}
	_ = x.answer(httpStatus, wire.Answer{Code: e.Code, Message: e.Message})
}

// httpStatus returns 200 for decisions of the protocol, and an error status for requests that did not get
// that far.
func httpStatus(code status.Code) int {
	switch code {
	case status.BadRequest:
		return http.StatusBadRequest
	case status.Forbidden:
		return http.StatusForbidden
	case status.TooLarge:
		return http.StatusRequestEntityTooLarge
	case status.Internal:
		return http.StatusInternalServerError
	case status.NoInstance:
		return http.StatusServiceUnavailable
	default:
		return http.StatusOK
	}
}
