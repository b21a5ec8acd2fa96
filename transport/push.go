package transport

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"time"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// incomingPush is a push that was received: its payload, or its whole body if it is forwarded.
type incomingPush struct {
	topic      string
	metadata   wire.Headers
	body       *queue.Body
	allocation *queue.Allocation
	// encoded is the number of bytes of the body that was received, in its encoding.
	encoded int64
	// relayed is set if it was relayed to the transport of the party that holds its session.
	relayed bool
}

func (p *incomingPush) discard() {
	p.body.Discard()
	p.allocation.Release()
}

// servePush accepts a container's message, for a queue here or for a partner.
func (t *Transport) servePush(x *exchange, s *queue.Session) error {
	target := x.headers[wire.HeaderTargetNodeID]
	if target == "" {
		return status.Errorf(status.BadRequest,
			"header %s is missing: it names the node that receives the message", wire.HeaderTargetNodeID)
	}
	deadline, err := t.pushDeadline(x)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	if target == t.nodeID {
		return t.accept(ctx, x, s, wire.Plain)
	}
	return t.forward(ctx, x, s, target, deadline)
}

// pushDeadline returns when a push gives up: after PushTimeout, or earlier if the caller asks for it.
func (t *Transport) pushDeadline(x *exchange) (time.Time, error) {
	wait := t.pushTimeout(x)
	ms, err := wire.ParseMilliseconds(x.headers[wire.HeaderTimeout])
	if err != nil || ms < 0 {
		return time.Time{}, status.Errorf(status.BadRequest, "header %s is not a number of milliseconds",
			wire.HeaderTimeout)
	}
	if ms > 0 {
		wait = min(wait, time.Duration(ms)*time.Millisecond)
	}
	arrived := x.arrived
	if arrived.IsZero() {
		arrived = time.Now()
	}
	return arrived.Add(wait), nil
}

// pushTimeout returns how long a push without x-ptp-timeout may take. gRPC callers that set no deadline get
// longer: they don't repeat a push, and FATE's don't even check whether it was accepted. A push that was
// relayed has what its caller's deadline left.
func (t *Transport) pushTimeout(x *exchange) time.Duration {
	if x.framing == wire.GRPC || x.relayed {
		if d, ok := wire.ParseGRPCTimeout(x.r.Header.Get(grpcTimeout)); ok {
			return d
		}
	}
	if x.framing != wire.GRPC {
		return t.limits.PushTimeout
	}
	return max(t.limits.PushTimeout, grpcPushTimeout)
}

// duplicateMark begins the answer to a message that was received before.
const duplicateMark = "duplicate: "

// accept receives a push and puts it into a queue of this node.
func (t *Transport) accept(ctx context.Context, x *exchange, s *queue.Session, form wire.PushForm) error {
	p, err := t.receivePush(ctx, x, s, queue.Inbound, form)
	if err != nil {
		return err
	}
	duplicate, err := t.enqueue(ctx, x, s, p)
	if err != nil || p.relayed {
		p.discard()
	}
	if err != nil {
		return err
	}
	if !p.relayed {
		// The call may have waited for minutes. What another process does not have must not be acknowledged.
		if err := t.confirm(x.r.Context()); err != nil {
			return err
		}
	}

	if !duplicate && !p.relayed && isPartnerPath(x.r.URL.Path) {
		t.countReceived(x.headers[wire.HeaderSessionID], x.headers.Source(), x.headers[wire.HeaderTaskID],
			p.encoded)
	}

	message := "success"
	if duplicate {
		message = duplicateMark + "this message id was received before"
	}
	return x.answer(http.StatusOK, wire.Answer{Code: status.OK, Message: message})
}

// receivePush allocates bytes and receives a push into them. A body of unknown length gets an allocation for
// the largest body until its end is reached. The caller must discard the push or enqueue it.
func (t *Transport) receivePush(
	ctx context.Context, x *exchange, s *queue.Session, d queue.Direction, form wire.PushForm,
) (*incomingPush, error) {
	limit := form.MaxBody(x.enc, t.limits.MessageBytes)
	n := x.length
	if n > limit {
		return nil, wire.TooLarge(limit)
	}
	if n < 0 {
		n = limit
	}
	allocation, err := s.Allocate(ctx, d, n+queue.MessageOverhead, x.partner())
	if err != nil {
		return nil, err
	}

	p := &incomingPush{allocation: allocation}
	x.setReadTimeout(x.minRate.timeout(n))
	if err := t.parsePush(x, p, form, limit); err != nil {
		p.discard()
		return nil, err
	}

	// The bound on the body must not bound a pop that waits.
	x.setReadTimeout(0)
	allocation.Shrink(p.body.Size() + queue.MessageOverhead)
	return p, nil
}

// parsePush reads a push's body of at most limit bytes into p.
func (t *Transport) parsePush(x *exchange, p *incomingPush, form wire.PushForm, limit int64) (err error) {
	p.body = t.broker.NewBody(t.limits.MessageBytes, x.length)
	in := wire.NewBodyReader(x.body, limit)
	var payload wire.PayloadWriter = p.body
	var from io.Reader = in
	if form == wire.Forwarded {
		p.body = t.broker.NewBody(limit, x.length)
		payload, from = wire.DiscardPayload, io.TeeReader(in, p.body)
	}

	if x.objects != nil {
		in = x.objectsBody
		p.topic, p.metadata, err = form.ParseNextJSON(x.objects, payload)
		x.desynchronized = err != nil
	} else {
		err = wire.Buffered(from, func(br *bufio.Reader) (err error) {
			p.topic, p.metadata, err = form.Parse(x.enc, br, payload)
			return err
		})
	}
	if err == nil {
		err = p.body.Complete()
	}

	switch {
	case x.receivedBytes > 0:
		p.encoded = x.receivedBytes
	case x.objects != nil: // the reader is ahead of the message
		p.encoded = p.body.Size()
	case x.length >= 0:
		p.encoded = x.length
	default:
		p.encoded = in.Count()
	}
	switch {
	case err == nil:
		return nil
	case p.body.Err() != nil:
		return p.body.Err()
	case in.Err() != nil:
		x.bodyFailed = true
		return errIncomplete
	default:
		return wire.ParseError(err)
	}
}

// enqueue pushes a received message into its queue. Metadata of the wrapped form counts where a header is
// missing.
func (t *Transport) enqueue(ctx context.Context, x *exchange, s *queue.Session, p *incomingPush,
) (duplicate bool, err error) {
	for name, value := range p.metadata {
		if x.headers[name] == "" {
			x.headers[name] = value
		}
	}
	topic, err := topicOf(p.topic, x.headers)
	if err != nil {
		return false, err
	}
	if s.ID() == "" {
		return t.enqueueInNamedSession(ctx, x, topic, p)
	}

	// A refusal after the push would make a caller without message ids repeat what is in its queue.
	if err := t.confirm(x.r.Context()); err != nil {
		return false, err
	}
	id := x.headers[wire.HeaderMessageID]
	if id != "" {
		id = x.headers.Source() + "\x00" + id
	}
	return s.Push(topic, id, p.body, p.allocation)
}

// enqueueInNamedSession enqueues a push that names its session only in its metadata. It was received on the
// budget of the session "" and moves to that of its own session, or on to the transport that holds it.
func (t *Transport) enqueueInNamedSession(ctx context.Context, x *exchange, topic string, p *incomingPush,
) (duplicate bool, err error) {
	if to, err := t.findElsewhere(x); err != nil {
		return false, err
	} else if to != nil {
		if err := t.checkTarget(x); err != nil {
			return false, err
		}
		return t.relayPush(ctx, x, topic, p, to)
	}
	err = t.inSession(x, func(_ *Transport, x *exchange, s *queue.Session) error {
		if s.ID() == "" {
			return errNoSession
		}
		if err := t.checkTarget(x); err != nil {
			return err
		}

		p.allocation.Release()
		allocation, err := s.Allocate(ctx, queue.Inbound, p.body.Size()+queue.MessageOverhead,
			x.partner())
		if err != nil {
			return err
		}
		p.allocation = allocation
		duplicate, err = t.enqueue(ctx, x, s,
			&incomingPush{topic: topic, body: p.body, allocation: allocation})
		return err
	})
	return duplicate, err
}

// topicOf returns the body's topic, or else the header's. A missing topic is the topic "".
func topicOf(topic string, h wire.Headers) (string, error) {
	if topic == "" {
		topic = h[wire.HeaderTopic]
	}
	if len(topic) > queue.MaxName {
		return "", status.Errorf(status.BadRequest, "topic is longer than %d bytes", queue.MaxName)
	}
	return topic, nil
}

var errNoSession = status.Errorf(status.BadRequest, "header %s is missing: it names the session",
	wire.HeaderSessionID)
