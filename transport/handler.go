package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"
)

// Routes of the transport layer (API_SPECS part 4).
const (
	pathPush    = "/v1/interconn/chan/push"
	pathPop     = "/v1/interconn/chan/pop"
	pathPeek    = "/v1/interconn/chan/peek"
	pathRelease = "/v1/interconn/chan/release"
	pathInvoke  = "/v1/interconn/chan/invoke"
	pathStream  = "/v1/interconn/chan/transport"
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
	framing framing
	pace    pace
	// in is the body, or of several the one that is served; length is its length, -1 if unknown.
	in     io.Reader
	length int64
	// frames is what a stream's messages are read from; lines and lineBody are that
	// of a stream of JSON objects, which have no length.
	frames   *bufio.Reader
	lines    *bufio.Reader
	lineBody *bodyReader
	// lost is set while lines stand where no message begins.
	lost bool
	// broken is set when the body ended or stalled: there is no more to read.
	broken bool
	// answered is set when an answer was begun; there is only one for a message.
	answered bool
	// begun is set when the headers of a stream's answers are written.
	begun bool
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

		grpcContainer + "push":    (*Transport).servePush,
		grpcContainer + "pop":     (*Transport).servePop,
		grpcContainer + "peek":    (*Transport).servePeek,
		grpcContainer + "release": (*Transport).serveRelease,
	}
	partnerRoutes = map[string]operation{
		pathInvoke: (*Transport).serveInvoke,
		pathStream: (*Transport).serveInvoke,

		grpcPartner + "invoke":    (*Transport).serveInvoke,
		grpcPartner + "transport": (*Transport).serveInvoke,
	}
	allRoutes = joined(containerRoutes, partnerRoutes)
)

func joined(tables ...map[string]operation) map[string]operation {
	all := make(map[string]operation)
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

// Handler serves all routes, of containers and of partners. Whoever reaches it
// can read queues: where partners come in, serve PartnerHandler.
func (t *Transport) Handler() http.Handler { return t.routes(allRoutes) }

// ContainerHandler serves push, pop, peek and release, over HTTP and gRPC: all
// that a party's own containers may reach.
func (t *Transport) ContainerHandler() http.Handler { return t.routes(containerRoutes) }

// PartnerHandler serves invoke and transport, over HTTP and gRPC: all that a
// partner's transport may reach.
func (t *Transport) PartnerHandler() http.Handler { return t.routes(partnerRoutes) }

func (t *Transport) routes(routes map[string]operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := t.exchange(w, r)
		op, known := routes[r.URL.Path]
		switch {
		case !known && x.framing == framedGRPC:
			x.failGRPC(statusUnimplemented, "no such method: "+r.URL.Path)
		case !known:
			x.refuse(http.StatusNotFound, refuse(CodeNotFound, "no such route: %s %.200q", r.Method, r.URL.Path))
		case (x.framing == framedGRPC) != isGRPCPath(r.URL.Path):
			x.refuse(http.StatusUnsupportedMediaType, refuse(CodeBadRequest, "%.200q is not called with Content-Type %.200q", r.URL.Path, r.Header.Get("Content-Type")))
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			x.refuse(http.StatusMethodNotAllowed, refuse(CodeBadRequest, "%s takes POST only", r.URL.Path))
		default:
			t.serve(x, op)
		}
	})
}

func (t *Transport) exchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{w: w, r: r, rc: http.NewResponseController(w), headers: readHeaders(r.Header), enc: encodingOf(r.Header),
		pace: t.pace, in: r.Body, length: r.ContentLength}
	if isGRPC(r.Header.Get("Content-Type")) {
		x.framing = framedGRPC
	}
	return x
}

func (t *Transport) serve(x *exchange, op operation) {
	if !t.begin() {
		x.refuse(http.StatusServiceUnavailable, errClosed)
		return
	}
	defer t.end()
	switch {
	case x.isStream():
		t.serveStream(x, op)
	case x.framing == framedGRPC:
		if x.onlyFrame() {
			t.serveOne(x, op)
		}
	default:
		t.serveOne(x, op)
	}
}

// serveOne serves one message and answers it.
func (t *Transport) serveOne(x *exchange, op operation) {
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
	if id == "" && !x.mayNameSessionInside() {
		return errNoSession
	}
	for _, name := range []string{headerSessionID, headerMessageID, headerTopic} {
		if len(x.headers[name]) > maxName {
			return refuse(CodeBadRequest, "header %s is longer than %d bytes", name, maxName)
		}
	}
	if t.authorize != nil && id != "" {
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

var errNoSession = refuse(CodeBadRequest, "header %s is missing: it names the session", headerSessionID)

func (x *exchange) call() Call {
	return Call{
		Op:           x.r.URL.Path[strings.LastIndexByte(x.r.URL.Path, '/')+1:],
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
	deadline, err := t.pushDeadline(x)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	if target == t.nodeID {
		return t.accept(ctx, x, s, plainPush)
	}
	return t.forward(ctx, x, s, target, deadline)
}

// pushDeadline is when a push gives up: after PushTimeout, or sooner if the
// caller said so.
func (t *Transport) pushDeadline(x *exchange) (time.Time, error) {
	wait := t.pushWait(x)
	ms, err := parseMillis(x.headers[headerTimeout])
	if err != nil || ms < 0 {
		return time.Time{}, refuse(CodeBadRequest, "header %s is not a number of milliseconds", headerTimeout)
	}
	if ms > 0 {
		wait = min(wait, time.Duration(ms)*time.Millisecond)
	}
	return time.Now().Add(wait), nil
}

// pushWait is how long a push may take that names no time. Callers of gRPC that
// set no deadline don't repeat a push, and FATE's don't even look whether it was taken.
func (t *Transport) pushWait(x *exchange) time.Duration {
	if x.framing != framedGRPC {
		return t.limits.PushTimeout
	}
	if d, ok := grpcDeadline(x.r.Header.Get(grpcTimeout)); ok {
		return d
	}
	return max(t.limits.PushTimeout, grpcPatience)
}

// accept reads a push and puts it into a queue of this node.
func (t *Transport) accept(ctx context.Context, x *exchange, s *session, form pushForm) error {
	p, err := t.readPush(ctx, x, &s.in, form)
	if err != nil {
		return err
	}
	duplicate, err := t.keep(ctx, x, s, p)
	if err != nil {
		p.discard()
		return err
	}
	message := "success"
	if duplicate {
		message = "this message had arrived before"
	}
	return x.answer(http.StatusOK, outbound{code: CodeOK, message: message})
}

// keep hands a push that was read to its queue. Metadata of the wrapped form
// counts where a header is missing.
func (t *Transport) keep(ctx context.Context, x *exchange, s *session, p *push) (duplicate bool, err error) {
	for name, value := range p.meta {
		if x.headers[name] == "" {
			x.headers[name] = value
		}
	}
	topic, err := topicOf(p.topic, x.headers)
	if err != nil {
		return false, err
	}
	if s.id == "" {
		// It was read on nobody's account; now it is known whose it is.
		return duplicate, t.inSession(x, func(_ *Transport, x *exchange, s *session) error {
			if s.id == "" {
				return errNoSession
			}
			if err := t.forThisNode(x); err != nil {
				return err
			}
			p.hold.release()
			if p.hold, err = t.broker.reserve(ctx, &s.in, p.body.size+messageOverhead); err != nil {
				return err
			}
			duplicate, err = t.keep(ctx, x, s, &push{topic: topic, body: p.body, hold: p.hold})
			return err
		})
	}
	id := x.headers[headerMessageID]
	if id != "" {
		id = x.headers.source() + "\x00" + id
	}
	return t.broker.push(s, topic, id, p.body, p.hold)
}

// topicOf is the body's topic, or else the header's; none is the topic "".
func topicOf(topic string, h headers) (string, error) {
	if topic == "" {
		topic = h[headerTopic]
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
	in.topic, err = topicOf(in.topic, x.headers)
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
	d, err := t.broker.pop(x.r.Context(), s, in.topic, x.headers[headerMessageID], wait)
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
	d, err := t.broker.peek(x.r.Context(), s, in.topic, x.headers[headerMessageID])
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
	body, err := d.open()
	if err != nil {
		d.putBack()
		return err
	}
	defer body.Close()
	if err := d.promise(); err != nil {
		d.putBack()
		return err
	}
	err = x.r.Context().Err()
	if err == nil {
		err = x.deliver(http.StatusOK, outbound{code: CodeOK, message: "success", hasPayload: true}, body, d.m.size)
	}
	if err != nil {
		d.putBack()
		t.log.Info("reader left while it was answered; its message is kept", "session_id", s.id, "topic", topic, "error", err)
		return nil
	}
	d.done()
	return nil
}

// serveRelease empties queues. With the header x-ptp-final it is the party's own
// word, at the job's end, that the whole session is over.
func (t *Transport) serveRelease(x *exchange, s *session) error {
	in, err := t.readParams(x)
	if err != nil {
		return err
	}
	if x.headers[headerFinal] == "true" && in.topic == "" {
		t.broker.releaseSession(s.id)
	} else if err := t.broker.clearQueues(s, in.topic); err != nil {
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
