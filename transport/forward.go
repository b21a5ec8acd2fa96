package transport

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 5 * time.Second
	// answerGrace is how long after a push's deadline the partner's answer, which
	// then tells why, may still arrive.
	answerGrace = 2 * time.Second
	// maxAnswer bounds a partner's answer to a push, which holds no message.
	maxAnswer = 64 << 10
)

// forward hands a container's push to the target's transport, pass-through
// (API_SPECS part 4, 5.2.1), and answers what it answered.
func (t *Transport) forward(ctx context.Context, x *exchange, s *session, target string, deadline time.Time) error {
	base, ok := t.route(target)
	if !ok {
		return refuse(CodeNodeUnknown, "node %.200q has no route here; ask the operator to add it", target)
	}
	p, err := t.readPush(ctx, x, &s.out, forwardedPush)
	if err != nil {
		return err
	}
	defer p.discard()
	topic, err := topicOf(p.topic, x.headers)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithDeadline(x.r.Context(), deadline.Add(answerGrace))
	defer cancel()
	stopped := func() { cancel() }
	defer context.AfterFunc(s.ctx, stopped)()
	defer context.AfterFunc(t.ctx, stopped)()

	l := lane{s.id, topic, target}
	turn, endTurn := context.WithDeadline(ctx, deadline)
	defer endTurn()
	if err := t.turns.take(turn, l); err != nil {
		if gone := t.ended(s); gone != nil {
			return gone
		}
		return refuse(CodeTimeout, "earlier messages of topic %.200q to node %s took all the time", topic, target)
	}
	defer t.turns.leave(l)

	out, err := t.send(ctx, x, s, base, target, p.body, deadline)
	if err != nil {
		return err
	}
	t.sent.forwarded.Add(1)
	return x.answer(http.StatusOK, out)
}

// ended is the refusal of a session or a transport that ended, else nil.
func (t *Transport) ended(s *session) error {
	if t.ctx.Err() != nil {
		return errClosed
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

// send tries until the partner has answered or the deadline is near. A refusal
// by the partner is an error with its code.
func (t *Transport) send(ctx context.Context, x *exchange, s *session, base, target string, body *content, deadline time.Time) (outbound, error) {
	header := t.partnerHeaders(x, target)
	endpoint := strings.TrimRight(base, "/") + pathInvoke
	log := t.log.With("session_id", s.id, "target_node_id", target, "trace_id", header.Get(headerTraceID))
	backoff := firstBackoff
	for try := 1; ; try++ {
		header.Set(headerTimeout, strconv.FormatInt(max(time.Until(deadline).Milliseconds(), 1), 10))
		out, again, err := t.try(ctx, endpoint, header, x.enc, body)
		if !again {
			return out, err
		}
		if gone := t.ended(s); gone != nil {
			return outbound{}, gone
		}
		if x.r.Context().Err() != nil {
			return outbound{}, x.r.Context().Err()
		}
		t.sent.retries.Add(1)
		wait := backoff/2 + mathrand.N(backoff/2)
		backoff = min(backoff*2, lastBackoff)
		if time.Until(deadline) <= wait {
			log.Warn("partner could not be reached in time", "tries", try, "error", err)
			return outbound{}, refuse(CodeNetwork, "node %s could not be reached in %d tries", target, try)
		}
		log.Debug("partner could not be reached, another try follows", "try", try, "in", wait, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// try sends once. again means that the outcome is unknown or the partner is
// not able at the moment; the message id makes another try harmless.
func (t *Transport) try(ctx context.Context, endpoint string, header http.Header, enc encoding, body *content) (out outbound, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, io.NopCloser(body.reader()))
	if err != nil {
		return out, false, fmt.Errorf("route %q: %w", endpoint, err)
	}
	req.ContentLength = body.size
	if body.size == 0 {
		req.Body = http.NoBody
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body.reader()), nil }
	req.Header = header.Clone()
	resp, err := t.client.Do(req)
	if err != nil {
		return out, true, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, true, fmt.Errorf("read the partner's answer: %w", err)
	}
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return out, true, fmt.Errorf("partner answered HTTP %d", resp.StatusCode)
	}
	answered := encodingOf(resp.Header)
	if resp.Header.Get("Content-Type") == "" {
		answered = enc
	}
	out, err = answered.decodeAnswer(b)
	if err != nil || out.code == "" {
		return out, false, refuse(CodeNetwork, "the partner's answer (HTTP %d) is not the protocol's; check the route", resp.StatusCode)
	}
	if out.code != CodeOK {
		return out, false, &Error{Code: out.code, Message: out.message}
	}
	return outbound{code: CodeOK, message: out.message}, false, nil
}

// partnerHeaders are a push's headers between parties: the container's, and what
// the transport answers for (API_SPECS part 4, 2.2.1).
func (t *Transport) partnerHeaders(x *exchange, target string) http.Header {
	header := make(http.Header, len(x.headers)+6)
	for name, value := range x.headers {
		header.Set(name, value)
	}
	header.Set("Content-Type", x.enc.contentType())
	header.Set(headerVersion, passThrough)
	header.Set(headerURI, pathPush)
	header.Set(headerSourceNodeID, t.nodeID)
	header.Set(headerTargetNodeID, target)
	if x.headers[headerMessageID] == "" {
		header.Set(headerMessageID, rand.Text())
	}
	if x.headers[headerTraceID] == "" {
		header.Set(headerTraceID, rand.Text())
	}
	return header
}
