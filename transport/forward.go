package transport

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
	// answerGrace is how long after a push's deadline the partner's answer, which has the reason, may still
	// arrive.
	answerGrace = 2 * time.Second
	// maxAnswer bounds a partner's answer to a push, which holds no message.
	maxAnswer = 64 << 10
)

// forward sends a container's push to the target's transport, pass-through (API_SPECS part 4, 5.2.1), and
// returns the partner's answer to the container.
func (t *Transport) forward(
	ctx context.Context, x *exchange, s *queue.Session, target string, deadline time.Time,
) error {
	base, ok := t.route(target)
	if !ok {
		return status.Errorf(status.NodeUnknown,
			"no route to node %.200q; ask the operator to add this partner", target)
	}
	p, err := t.receivePush(ctx, x, s, queue.Outbound, wire.Forwarded)
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
	defer context.AfterFunc(s.Context(), func() { cancel() })()
	defer context.AfterFunc(t.ctx, func() { cancel() })()

	key := forwardKey{s.ID(), topic, target}
	if err := t.lockForward(ctx, s, key, deadline); err != nil {
		return err
	}
	defer t.forwards.unlock(key)

	f := forwardedPush{
		t:        t,
		x:        x,
		s:        s,
		target:   target,
		body:     p.body,
		deadline: deadline,
		header:   t.partnerHeaders(x, target),
		endpoint: strings.TrimRight(base, "/") + pathInvoke,
	}
	out, err := f.send(ctx)
	t.countSent(s.ID(), target, x.taskID(), p.body.Size(), out, err)
	if err != nil {
		return err
	}
	t.counters.forwarded.Add(1)
	return x.answer(http.StatusOK, out)
}

// lockForward waits until the earlier pushes of the same queue were forwarded.
func (t *Transport) lockForward(ctx context.Context, s *queue.Session, key forwardKey, deadline time.Time,
) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := t.forwards.lock(ctx, key); err != nil {
		if ended := t.endedReason(s); ended != nil {
			return ended
		}
		return status.Errorf(status.Timeout,
			"earlier messages of topic %.200q to node %s were not sent in time", key.topic, key.target)
	}
	return nil
}

// endedReason returns the refusal for a session or a transport that ended, else nil.
func (t *Transport) endedReason(s *queue.Session) error {
	if t.ctx.Err() != nil {
		return queue.ErrClosed
	}
	if s.Context().Err() != nil {
		return context.Cause(s.Context())
	}
	return nil
}

// forwardedPush is a push on its way to a partner.
type forwardedPush struct {
	t        *Transport
	x        *exchange
	s        *queue.Session
	target   string
	endpoint string
	header   http.Header
	body     *queue.Body
	deadline time.Time
}

// send tries with exponential backoff until the partner answers or the deadline is near. A refusal by the
// partner is an error with its code.
func (f *forwardedPush) send(ctx context.Context) (wire.Answer, error) {
	t := f.t
	log := t.log.With("session_id", f.s.ID(), "target_node_id", f.target,
		"trace_id", f.header.Get(wire.HeaderTraceID))
	backoff := firstBackoff
	for try := 1; ; try++ {
		left := max(time.Until(f.deadline).Milliseconds(), 1)
		f.header.Set(wire.HeaderTimeout, strconv.FormatInt(left, 10))
		out, retryable, err := f.try(ctx)
		if !retryable {
			return out, err
		}
		if ended := t.endedReason(f.s); ended != nil {
			return wire.Answer{}, ended
		}
		if err := f.x.r.Context().Err(); err != nil {
			return wire.Answer{}, err
		}

		t.counters.retries.Add(1)
		t.onForwardFailure(f.target)
		wait := backoff/2 + mathrand.N(backoff/2)
		backoff = min(backoff*2, maxBackoff)
		if busy, ok := errors.AsType[*busyAnswer](err); ok {
			later := wait + min(busy.after, maxBackoff)
			if time.Until(f.deadline) > later { // else a try that comes too soon is better than none
				wait = later
			}
		}
		if time.Until(f.deadline) <= wait {
			log.Warn("failed to reach partner in time", "tries", try, "error", err)
			var foreign *foreignAnswer
			if errors.As(err, &foreign) {
				return wire.Answer{}, status.Errorf(status.Network, "failed to reach node %s in %d tries: %v",
					f.target, try, foreign)
			}
			return wire.Answer{}, status.Errorf(status.Network, "failed to reach node %s in %d tries",
				f.target, try)
		}
		log.Debug("failed to reach partner; retrying", "try", try, "in", wait, "error", err)
		sleep(ctx, wait)
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// try sends once. The error is retryable if the outcome is unknown or the partner is unavailable; the message
// id makes another try safe.
func (f *forwardedPush) try(ctx context.Context) (out wire.Answer, retryable bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.endpoint, io.NopCloser(f.body.Reader()))
	if err != nil {
		return out, false, fmt.Errorf("failed to call the route %q: %w", f.endpoint, err)
	}
	req.ContentLength = f.body.Size()
	if f.body.Size() == 0 {
		req.Body = http.NoBody
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(f.body.Reader()), nil }
	req.Header = f.header.Clone()

	resp, err := f.t.client.Do(req)
	if err != nil {
		return out, true, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, true, fmt.Errorf("failed to read the partner's answer: %w", err)
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0 without one
		return out, true, &busyAnswer{time.Duration(min(max(seconds, 0), maxRetryAfter)) * time.Second}
	}
	out, err = f.decodeAnswer(resp, b)
	var foreign *foreignAnswer
	if errors.As(err, &foreign) {
		return wire.Answer{}, true, err
	}
	if resp.StatusCode >= 500 {
		return wire.Answer{}, true, fmt.Errorf("partner answered HTTP %d", resp.StatusCode)
	}
	return out, false, err
}

// maxRetryAfter bounds what a header Retry-After may ask for, in seconds.
const maxRetryAfter = 3600

// busyAnswer is the refusal of a message beyond the rate that the partner allows, with the time after which
// it expects the next try.
type busyAnswer struct{ after time.Duration }

// Error names the HTTP status and the time.
func (e *busyAnswer) Error() string {
	return fmt.Sprintf("partner answered HTTP %d, try again in %s", http.StatusTooManyRequests, e.after)
}

// foreignAnswer is an answer that is not the partner's: the page of a gateway before it, or of another server
// at its address. Whether the partner has received the message is unknown.
type foreignAnswer struct {
	status      int
	contentType string
}

// Error names the answer's HTTP status and type.
func (e *foreignAnswer) Error() string {
	return fmt.Sprintf("answered by something that is not the partner's transport: HTTP %d %s, %.100s",
		e.status, http.StatusText(e.status), cmp.Or(e.contentType, "without a type"))
}

// codeForm is the form of the codes of API_SPECS part 4.
var codeForm = regexp.MustCompile(`^E[0-9]{10}$`)

// decodeAnswer decodes the partner's answer. Without a Content-Type it has the encoding of the request.
func (f *forwardedPush) decodeAnswer(resp *http.Response, b []byte) (wire.Answer, error) {
	enc := f.x.enc
	if contentType := resp.Header.Get("Content-Type"); contentType != "" {
		enc = wire.EncodingOf(contentType)
	}
	out, err := enc.DecodeAnswer(b)
	if err != nil || !codeForm.MatchString(string(out.Code)) {
		return wire.Answer{}, &foreignAnswer{resp.StatusCode, resp.Header.Get("Content-Type")}
	}
	if out.Code != status.OK {
		return wire.Answer{}, &status.Error{Code: out.Code, Message: out.Message}
	}
	return wire.Answer{Code: status.OK, Message: out.Message}, nil
}

// partnerHeaders returns a push's headers between parties: the container's, and those that the transport sets
// (API_SPECS part 4, 2.2.1).
func (t *Transport) partnerHeaders(x *exchange, target string) http.Header {
	header := make(http.Header, len(x.headers)+6)
	for name, value := range x.headers {
		header.Set(name, value)
	}

	header.Set("Content-Type", x.enc.ContentType())
	header.Set(wire.HeaderVersion, wire.PassThrough)
	header.Set(wire.HeaderURI, pathPush)
	header.Set(wire.HeaderSourceNodeID, t.nodeID)
	header.Set(wire.HeaderTargetNodeID, target)
	header.Del(wire.HeaderTaskID) // a container's own
	if task := x.taskID(); task != "" {
		header.Set(wire.HeaderTaskID, task)
	}
	if x.headers[wire.HeaderToken] != "" {
		// A container's token is its credential at this party. Partners get what they know anyway.
		header.Set(wire.HeaderToken, x.headers[wire.HeaderSessionID])
	}
	if x.headers[wire.HeaderMessageID] == "" {
		header.Set(wire.HeaderMessageID, rand.Text())
	}
	if x.headers[wire.HeaderTraceID] == "" {
		header.Set(wire.HeaderTraceID, rand.Text())
	}
	return header
}
