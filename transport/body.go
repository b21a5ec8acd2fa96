package transport

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// smallBody bounds the body of pop, peek and release.
	smallBody = 64 << 10
	// bodySlack is room in a push for topic and metadata.
	bodySlack = 16 << 10
)

// pace is what a caller that sends or reads a body must keep up with.
type pace struct {
	patience time.Duration // at any size
	slowest  int64         // then, bytes a second
}

var defaultPace = pace{patience: 30 * time.Second, slowest: 256 << 10}

// allowance is how long n bytes may take on the network.
func (p pace) allowance(n int64) time.Duration {
	return p.patience + time.Duration(n/p.slowest)*time.Second
}

// pushForm is a form in which a push arrives.
type pushForm int

const (
	// plainPush is what containers send, and partners with x-ptp-version 1.
	plainPush pushForm = iota
	// wrappedPush is an Inbound around it.
	wrappedPush
	// forwardedPush is a plainPush that goes on as it came.
	forwardedPush
)

// limit is the largest body of this form, and need how much memory reading a
// body of n bytes takes: base64 is decoded beside the body.
func (f pushForm) limit(enc encoding, message int64) int64 {
	if enc == inJSON {
		return message/3*4 + bodySlack
	}
	return message + bodySlack
}

func (f pushForm) need(enc encoding, n int64) int64 {
	switch {
	case f == plainPush && enc == inJSON, f == wrappedPush && enc == inProto:
		return n * 7 / 4
	case f == wrappedPush:
		return n * 5 / 2
	default:
		return n
	}
}

// shares tells whether the decoded payload may live in the body's memory.
func (f pushForm) shares(enc encoding) bool { return enc == inProto }

// decode gives the push and, from the wrapped form, its metadata.
func (f pushForm) decode(enc encoding, body []byte) (in inbound, meta headers, err error) {
	switch f {
	case forwardedPush:
		in, err = enc.decodeTopic(body)
	case plainPush:
		in, err = enc.decodePush(body)
	case wrappedPush:
		var w wrapped
		if w, err = enc.decodeWrapped(body); err == nil {
			meta = normalized(w.metadata)
			in, err = innerEncoding(w.payload).decodePush(w.payload)
		}
	}
	if err != nil {
		return in, nil, unreadable(err)
	}
	return in, meta, nil
}

// readBody reads a push's body into memory that was reserved before. Without a
// Content-Length, what the largest body needs is reserved until its end is known.
func (t *Transport) readBody(ctx context.Context, x *exchange, a *account, form pushForm) ([]byte, *hold, error) {
	limit := form.limit(x.enc, t.limits.MessageBytes)
	n := x.r.ContentLength
	if n > limit {
		return nil, nil, tooLarge(limit)
	}
	need := form.need(x.enc, n)
	if n < 0 {
		// A growing buffer has its former self beside it: half of the largest.
		need = max(form.need(x.enc, limit), limit*3/2)
	}
	h, err := t.broker.reserve(ctx, a, need+messageOverhead)
	if err != nil {
		return nil, nil, err
	}
	body, err := x.readAll(n, limit)
	if err != nil {
		h.release()
		return nil, nil, err
	}
	if n < 0 {
		h.shrink(form.need(x.enc, int64(cap(body))) + messageOverhead)
	}
	return body, h, nil
}

func tooLarge(limit int64) *Error {
	return refuse(CodeTooLarge, "the body is larger than %d bytes; send smaller messages", limit)
}

// readSmall reads a body that needs no reservation.
func (x *exchange) readSmall() ([]byte, error) {
	if x.r.ContentLength > smallBody {
		return nil, tooLarge(smallBody)
	}
	return x.readAll(x.r.ContentLength, smallBody)
}

// readAll reads a body of n bytes, or of unknown length if n < 0, up to limit.
func (x *exchange) readAll(n, limit int64) ([]byte, error) {
	expected := n
	if n < 0 {
		expected = limit
	}
	x.readDeadline(x.pace.allowance(expected))
	var body []byte
	var err error
	if n >= 0 {
		body = make([]byte, n)
		_, err = io.ReadFull(x.r.Body, body)
	} else {
		body, err = readGrowing(x.r.Body, limit)
	}
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, e
		}
		x.broken = true
		return nil, refuse(CodeBadRequest, "the body ended or stalled before it was complete")
	}
	// The bound on the body is not one on a pop that waits.
	x.readDeadline(0)
	return body, nil
}

// readGrowing reads to the end, with a buffer that doubles up to limit.
func readGrowing(r io.Reader, limit int64) ([]byte, error) {
	buf := make([]byte, 0, min(limit, 4<<10))
	for {
		if len(buf) == cap(buf) {
			if int64(len(buf)) == limit {
				var one [1]byte
				if n, err := io.ReadFull(r, one[:]); n == 0 && err == io.EOF {
					return buf, nil
				}
				return nil, tooLarge(limit)
			}
			larger := make([]byte, len(buf), min(int64(cap(buf))*2, limit))
			copy(larger, buf)
			buf = larger
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// readDeadline bounds reads of this request from now on; 0 takes the bound away.
// Writers that have no deadlines (in tests) do without.
func (x *exchange) readDeadline(d time.Duration) { _ = x.rc.SetReadDeadline(at(d)) }

func (x *exchange) writeDeadline(d time.Duration) { _ = x.rc.SetWriteDeadline(at(d)) }

func at(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// answer writes an answer down to the network, in the encoding of the request.
// An error means that the caller did not get it.
func (x *exchange) answer(status int, out outbound) error {
	var head, tail []byte
	length := len(out.payload)
	if x.enc == inProto {
		head, tail = encodeProtoAnswer(out)
	} else {
		head, tail = encodeJSONAnswer(out)
		length = base64.StdEncoding.EncodedLen(length)
	}
	x.writeDeadline(x.pace.allowance(int64(length)))
	defer x.writeDeadline(0)
	h := x.w.Header()
	h.Set("Content-Type", x.enc.contentType())
	h.Set("Content-Length", strconv.Itoa(len(head)+length+len(tail)))
	x.answered = true
	x.w.WriteHeader(status)
	if err := x.write(head, out.payload, tail); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	if err := x.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

func (x *exchange) write(head, payload, tail []byte) error {
	if _, err := x.w.Write(head); err != nil {
		return err
	}
	if x.enc == inProto {
		if _, err := x.w.Write(payload); err != nil {
			return err
		}
	} else if err := writeBase64(x.w, payload); err != nil {
		return err
	}
	_, err := x.w.Write(tail)
	return err
}

// writeBase64 encodes in pieces, so that a large message isn't in memory twice.
func writeBase64(w io.Writer, b []byte) error {
	const piece = 24 << 10 // a multiple of 3: only the last piece is padded
	buf := make([]byte, base64.StdEncoding.EncodedLen(min(len(b), piece)))
	for len(b) > 0 {
		n := min(len(b), piece)
		out := buf[:base64.StdEncoding.EncodedLen(n)]
		base64.StdEncoding.Encode(out, b[:n])
		if _, err := w.Write(out); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// maxDiscard bounds what is read of a refused body.
const maxDiscard = 256 << 20

// refuse answers with a refusal. It first reads what the caller still sends,
// within reason: many clients look at an answer only after their body is sent.
// Those that ask first (Expect: 100-continue) are told at once. The deadline
// stays: net/http itself reads on before it answers.
func (x *exchange) refuse(status int, e *Error) {
	switch {
	case x.broken:
		x.readDeadline(-1)
		x.w.Header().Set("Connection", "close")
	case x.r.ContentLength <= maxDiscard && x.r.Header.Get("Expect") == "" && e != errClosed:
		x.readDeadline(x.pace.patience)
		_, _ = io.CopyN(io.Discard, x.r.Body, maxDiscard)
	default:
		x.readDeadline(x.pace.patience)
	}
	_ = x.answer(status, outbound{code: e.Code, message: e.Message})
}
