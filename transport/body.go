package transport

import (
	"bufio"
	"bytes"
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

// limit is the largest body of this form.
func (f pushForm) limit(enc encoding, message int64) int64 {
	switch {
	case enc == inProto:
		return message + bodySlack
	case f == wrappedPush: // base64 twice
		return message/9*16 + 2*bodySlack
	default:
		return message/3*4 + bodySlack
	}
}

// parse reads the push to its end: its topic, from the wrapped form its metadata, and into payload its bytes.
func (f pushForm) parse(enc encoding, r *bufio.Reader, payload payloadWriter) (topic string, meta headers, err error) {
	switch {
	case f == wrappedPush && enc == inProto:
		return parseProtoWrapped(r, payload)
	case f == wrappedPush:
		return parseJSONWrapped(r, payload)
	case enc == inProto:
		topic, err = parseProtoPush(r, payload)
	case f == forwardedPush:
		topic, err = parseJSONTopic(r)
	default:
		topic, err = parseJSONPush(r, payload)
	}
	return topic, nil, err
}

// push is one that was read: into the spool, or as it came if it goes on.
type push struct {
	topic string
	meta  headers
	body  *content
	hold  *hold
}

func (p *push) discard() {
	p.body.discard()
	p.hold.release()
}

// readPush reads a push as it arrives, into room that was reserved before.
// Without a length, what the largest body needs is reserved until its end is known.
// The caller discards the push, or has it kept.
func (t *Transport) readPush(ctx context.Context, x *exchange, a *account, form pushForm) (*push, error) {
	limit := form.limit(x.enc, t.limits.MessageBytes)
	n := x.length
	if n > limit {
		return nil, tooLarge(limit)
	}
	if n < 0 {
		n = limit
	}
	h, err := t.broker.reserve(ctx, a, n+messageOverhead)
	if err != nil {
		return nil, err
	}
	p := &push{hold: h, body: t.broker.spool.newContent(t.limits.MessageBytes)}
	var payload payloadWriter = p.body
	in := &bodyReader{r: x.in, left: limit, limit: limit}
	var from io.Reader = in
	if form == forwardedPush {
		p.body.limit = limit
		payload, from = nowhere{}, io.TeeReader(in, p.body)
	}
	x.readDeadline(x.pace.allowance(n))
	if x.lines != nil {
		in = x.lineBody
		p.topic, p.meta, err = form.parseLine(x.lines, payload)
		x.lost = err != nil
	} else {
		err = buffered(from, func(br *bufio.Reader) (err error) {
			p.topic, p.meta, err = form.parse(x.enc, br, payload)
			return err
		})
	}
	switch {
	case err == nil:
		// The bound on the body is not one on a pop that waits.
		x.readDeadline(0)
		h.shrink(p.body.size + messageOverhead)
		return p, nil
	case p.body.err != nil:
		err = p.body.err
	case in.err != nil:
		x.broken = true
		err = refuse(CodeBadRequest, "the body ended or stalled before it was complete")
	default:
		err = unreadable(err)
	}
	p.discard()
	return nil, err
}

// bodyReader reads a body up to a limit, and remembers how reading failed: that
// is not the same as a body that can't be read.
type bodyReader struct {
	r           io.Reader
	left, limit int64
	err         error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		var one [1]byte
		if n, err := io.ReadFull(b.r, one[:]); n == 0 && err == io.EOF {
			return 0, io.EOF
		}
		return 0, tooLarge(b.limit)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func tooLarge(limit int64) *Error {
	return refuse(CodeTooLarge, "the body is larger than %d bytes; send smaller messages", limit)
}

// readSmall reads a body that needs no reservation.
func (x *exchange) readSmall() ([]byte, error) {
	if x.length > smallBody {
		return nil, tooLarge(smallBody)
	}
	return x.readAll(x.length, smallBody)
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
		_, err = io.ReadFull(x.in, body)
	} else {
		body, err = readGrowing(x.in, limit)
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
	return x.deliver(status, out, bytes.NewReader(out.payload), int64(len(out.payload)))
}

// deliver is answer with a payload of n bytes that is read from r.
func (x *exchange) deliver(status int, out outbound, r io.Reader, n int64) error {
	var head, tail []byte
	length := n
	if x.enc == inProto {
		head, tail = encodeProtoAnswer(out, n)
	} else {
		head, tail = encodeJSONAnswer(out)
		length = (n + 2) / 3 * 4
	}
	head, tail = x.framing.around(x.enc, head, tail, length)
	x.writeDeadline(x.pace.allowance(length))
	defer x.writeDeadline(0)
	x.begin(status, int64(len(head))+length+int64(len(tail)))
	if err := x.write(head, r, n, tail); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	if err := x.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// begin writes the answer's headers.
func (x *exchange) begin(status int, length int64) {
	x.answered = true
	if x.begun {
		return
	}
	h := x.w.Header()
	switch x.framing {
	case framedGRPC:
		h.Set("Content-Type", grpcType)
		h.Set(http.TrailerPrefix+grpcStatus, "0")
	case framedStream:
		h.Set("Content-Type", x.streamType())
	default:
		h.Set("Content-Type", x.enc.contentType())
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	x.w.WriteHeader(status)
}

func (x *exchange) write(head []byte, r io.Reader, n int64, tail []byte) error {
	if _, err := x.w.Write(head); err != nil {
		return err
	}
	if x.enc == inProto {
		if _, err := io.CopyN(x.w, r, n); err != nil {
			return err
		}
	} else if err := writeBase64(x.w, r, n); err != nil {
		return err
	}
	_, err := x.w.Write(tail)
	return err
}

// writeBase64 encodes n bytes in pieces, so that a large message isn't in memory.
func writeBase64(w io.Writer, r io.Reader, n int64) error {
	const piece = 24 << 10 // a multiple of 3: only the last piece is padded
	in := make([]byte, min(n, piece))
	buf := make([]byte, base64.StdEncoding.EncodedLen(len(in)))
	for n > 0 {
		in = in[:min(n, piece)]
		if _, err := io.ReadFull(r, in); err != nil {
			return unexpected(err)
		}
		out := buf[:base64.StdEncoding.EncodedLen(len(in))]
		base64.StdEncoding.Encode(out, in)
		if _, err := w.Write(out); err != nil {
			return err
		}
		n -= int64(len(in))
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
	case x.framing == framedGRPC:
		x.refuseGRPC(e)
		return
	case x.framing == framedStream || x.r.ProtoMajor >= 2:
		// HTTP/2 tells a client by itself that it need not go on sending.
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
