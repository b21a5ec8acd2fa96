package transport

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Routes of the transport layer (API_SPECS part 4).
const (
	pathPush    = "/v1/interconn/chan/push"
	pathPop     = "/v1/interconn/chan/pop"
	pathPeek    = "/v1/interconn/chan/peek"
	pathRelease = "/v1/interconn/chan/release"
	pathInvoke  = "/v1/interconn/chan/invoke"
)

// maxName bounds session ids, topics and message ids, in bytes.
const maxName = 4096

// exchange is one request and its answer.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	rc      *http.ResponseController
	headers headers
	enc     encoding
	pace    pace
	// broken is set when the body ended or stalled: there is no more to read.
	broken bool
	// answered is set when an answer was begun; there is only one.
	answered bool
}

// operation serves one call of an open session. It answers by itself if it
// returns nil; a refusal it leaves to the caller.
type operation func(t *Transport, x *exchange, s *session) error

var (
	containerRoutes = map[string]operation{
		pathPush:    (*Transport).servePush,
		pathPop:     (*Transport).servePop,
		pathPeek:    (*Transport).servePeek,
		pathRelease: (*Transport).serveRelease,
	}
	partnerRoutes = map[string]operation{pathInvoke: (*Transport).serveInvoke}
	allRoutes     = map[string]operation{
		pathPush:    (*Transport).servePush,
		pathPop:     (*Transport).servePop,
		pathPeek:    (*Transport).servePeek,
		pathRelease: (*Transport).serveRelease,
		pathInvoke:  (*Transport).serveInvoke,
	}
)

// Handler serves all routes, of containers and of partners. Whoever reaches it
// can read queues: where partners come in, serve PartnerHandler.
func (t *Transport) Handler() http.Handler { return t.routes(allRoutes) }

// ContainerHandler serves push, pop, peek and release: all that a party's own
// containers may reach.
func (t *Transport) ContainerHandler() http.Handler { return t.routes(containerRoutes) }

// PartnerHandler serves invoke: all that a partner's transport may reach.
func (t *Transport) PartnerHandler() http.Handler { return t.routes(partnerRoutes) }

func (t *Transport) routes(routes map[string]operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{w: w, r: r, rc: http.NewResponseController(w), headers: readHeaders(r.Header), enc: encodingOf(r.Header), pace: t.pace}
		op, known := routes[r.URL.Path]
		switch {
		case !known:
			x.refuse(http.StatusNotFound, refuse(CodeNotFound, "no such route: %s %.200q", r.Method, r.URL.Path))
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			x.refuse(http.StatusMethodNotAllowed, refuse(CodeBadRequest, "%s takes POST only", r.URL.Path))
		default:
			t.serve(x, op)
		}
	})
}

func (t *Transport) serve(x *exchange, op operation) {
	if !t.begin() {
		x.refuse(http.StatusServiceUnavailable, errClosed)
		return
	}
	defer t.end()
	err := t.inSession(x, op)
	switch {
	case err == nil:
	case x.answered, x.r.Context().Err() != nil && !x.broken:
		// The caller is gone; there is nobody to tell. (net/http ends the context of
		// a stalled body too, but that caller may still listen.)
		t.log.Debug("caller left", "path", x.r.URL.Path, "session_id", x.headers[headerSessionID], "trace_id", x.headers[headerTraceID], "error", err)
	default:
		refusal := asError(err)
		if refusal.Code == CodeInternal {
			t.log.Error("call failed", "path", x.r.URL.Path, "session_id", x.headers[headerSessionID], "trace_id", x.headers[headerTraceID], "error", err)
		}
		x.refuse(httpStatus(refusal.Code), refusal)
	}
}

// inSession runs an operation in its session, which stays alive meanwhile.
func (t *Transport) inSession(x *exchange, op operation) error {
	id := x.headers[headerSessionID]
	if id == "" {
		return refuse(CodeBadRequest, "header %s is missing: it names the session", headerSessionID)
	}
	for _, name := range []string{headerSessionID, headerMessageID, headerTopic} {
		if len(x.headers[name]) > maxName {
			return refuse(CodeBadRequest, "header %s is longer than %d bytes", name, maxName)
		}
	}
	if t.authorize != nil {
		if err := t.authorize(x.r.Context(), x.call()); err != nil {
			return refuse(CodeForbidden, "%v", err)
		}
	}
	s, err := t.broker.enter(id)
	if err != nil {
		return err
	}
	defer t.broker.leave(s)
	return op(t, x, s)
}

func (x *exchange) call() Call {
	return Call{
		Op:           x.r.URL.Path[len("/v1/interconn/chan/"):],
		SessionID:    x.headers[headerSessionID],
		Token:        x.headers[headerToken],
		TraceID:      x.headers[headerTraceID],
		SourceNodeID: x.headers.source(),
		TargetNodeID: x.headers[headerTargetNodeID],
		RemoteAddr:   x.r.RemoteAddr,
		TLS:          x.r.TLS,
	}
}

// servePush takes a container's message: for a queue here, or for a partner.
func (t *Transport) servePush(x *exchange, s *session) error {
	target := x.headers[headerTargetNodeID]
	if target == "" {
		return refuse(CodeBadRequest, "header %s is missing: it names the node that gets the message", headerTargetNodeID)
	}
	deadline, err := t.pushDeadline(x.headers)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	if target == t.nodeID {
		return t.accept(ctx, x, s, x.headers.source(), plainPush)
	}
	return t.forward(ctx, x, s, target, deadline)
}

// pushDeadline is when a push gives up: after PushTimeout, or sooner if the
// caller said so.
func (t *Transport) pushDeadline(h headers) (time.Time, error) {
	wait := t.limits.PushTimeout
	ms, err := parseMillis(h[headerTimeout])
	if err != nil || ms < 0 {
		return time.Time{}, refuse(CodeBadRequest, "header %s is not a number of milliseconds", headerTimeout)
	}
	if ms > 0 {
		wait = min(wait, time.Duration(ms)*time.Millisecond)
	}
	return time.Now().Add(wait), nil
}

// accept reads a push and puts it into a queue of this node.
func (t *Transport) accept(ctx context.Context, x *exchange, s *session, source string, form pushForm) error {
	body, h, err := t.readBody(ctx, x, &s.in, form)
	if err != nil {
		return err
	}
	in, meta, err := form.decode(x.enc, body)
	if err == nil && int64(len(in.payload)) > t.limits.MessageBytes {
		err = refuse(CodeTooLarge, "the message has %d bytes, the limit is %d", len(in.payload), t.limits.MessageBytes)
	}
	if err == nil {
		in.topic, err = topicOf(in.topic, x.headers, meta)
	}
	if err != nil {
		h.release()
		return err
	}
	// A payload from protobuf keeps its body in memory, one from JSON is its own.
	kept := int64(cap(in.payload))
	if form.shares(x.enc) {
		kept = int64(cap(body))
	}
	h.shrink(kept + messageOverhead)
	id := x.headers[headerMessageID]
	if id == "" {
		id = meta[headerMessageID]
	}
	if id != "" {
		id = source + "\x00" + id
	}
	duplicate, err := t.broker.push(s, in.topic, id, in.payload, h)
	if err != nil {
		h.release()
		return err
	}
	message := "success"
	if duplicate {
		message = "this message had arrived before"
	}
	return x.answer(http.StatusOK, outbound{code: CodeOK, message: message})
}

// topicOf is the body's topic, or else the header's; none is the topic "".
func topicOf(topic string, h, meta headers) (string, error) {
	if topic == "" {
		topic = h[headerTopic]
	}
	if topic == "" {
		topic = meta[headerTopic]
	}
	if len(topic) > maxName {
		return "", refuse(CodeBadRequest, "topic is longer than %d bytes", maxName)
	}
	return topic, nil
}

// readParams reads the small body of pop, peek or release.
func (t *Transport) readParams(x *exchange) (inbound, error) {
	body, err := x.readSmall()
	if err != nil {
		return inbound{}, err
	}
	in, err := x.enc.decodeRead(body)
	if err != nil {
		return inbound{}, unreadable(err)
	}
	if in.timeoutMS < 0 {
		return inbound{}, refuse(CodeBadRequest, "timeout is negative; it is in milliseconds")
	}
	in.topic, err = topicOf(in.topic, x.headers, nil)
	return in, err
}

func (t *Transport) servePop(x *exchange, s *session) error {
	in, err := t.readParams(x)
	if err != nil {
		return err
	}
	wait := t.limits.PopTimeout
	if in.timeoutMS > 0 {
		wait = min(time.Duration(in.timeoutMS)*time.Millisecond, t.limits.MaxPopTimeout)
	}
	d, err := t.broker.pop(x.r.Context(), s, in.topic, wait)
	if err != nil {
		return err
	}
	return t.deliver(x, s, in.topic, d)
}

// servePeek reads once without waiting: it takes the message, as the
// specification's "读取一次" does. No message is success without content.
func (t *Transport) servePeek(x *exchange, s *session) error {
	in, err := t.readParams(x)
	if err != nil {
		return err
	}
	d, err := t.broker.peek(x.r.Context(), s, in.topic)
	if err != nil {
		return err
	}
	if d == nil {
		return x.answer(http.StatusOK, outbound{code: CodeOK, message: "no message"})
	}
	return t.deliver(x, s, in.topic, d)
}

// deliver writes a message to its reader, or puts it back.
func (t *Transport) deliver(x *exchange, s *session, topic string, d *delivery) error {
	err := x.r.Context().Err()
	if err == nil {
		err = x.answer(http.StatusOK, outbound{code: CodeOK, message: "success", payload: d.m.payload, hasPayload: true})
	}
	if err != nil {
		d.putBack()
		t.log.Info("reader left while it was answered; its message is kept", "session_id", s.id, "topic", topic, "error", err)
		return nil
	}
	d.done()
	return nil
}

func (t *Transport) serveRelease(x *exchange, s *session) error {
	in, err := t.readParams(x)
	if err != nil {
		return err
	}
	if err := t.broker.clearQueues(s, in.topic); err != nil {
		return err
	}
	return x.answer(http.StatusOK, outbound{code: CodeOK, message: "success"})
}

func unreadable(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return refuse(CodeBadRequest, "the body can't be read: %.200v", err)
}
