package transport

import (
	"maps"
	"net/http"
	"strings"
	"time"

	"hutong/internal/httpguard"
	"hutong/internal/identity"
	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
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

// operation serves one call of a session. If it returns nil, it has answered; otherwise its caller answers
// with the error.
type operation func(t *Transport, x *exchange, s *queue.Session) error

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
	allRoutes = mergeRoutes(containerRoutes, partnerRoutes)
)

// IsPartnerPath reports whether PartnerHandler has a route for a path.
func IsPartnerPath(path string) bool {
	_, found := partnerRoutes[httpguard.CleanPath(path)]
	return found
}

func mergeRoutes(tables ...map[string]operation) map[string]operation {
	all := make(map[string]operation)
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

// Handler returns a handler for all routes, of containers and of partners. The caller of each request is that
// of its context, see [identity.With]; without one, Config.Authorize must decide.
func (t *Transport) Handler() http.Handler { return t.routes(allRoutes) }

// ContainerHandler returns a handler for push, pop, peek and release, over HTTP and gRPC: the routes for a
// party's own containers.
func (t *Transport) ContainerHandler() http.Handler { return t.routes(containerRoutes) }

// PartnerHandler returns a handler for invoke and transport, over HTTP and gRPC: the routes for a partner's
// transport.
func (t *Transport) PartnerHandler() http.Handler { return t.routes(partnerRoutes) }

func (t *Transport) routes(routes map[string]operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = httpguard.CleanPath(r.URL.Path)
		t.serveRoute(t.newExchange(w, r), routes)
	})
}

// serveRoute serves one request with the operation of its route.
func (t *Transport) serveRoute(x *exchange, routes map[string]operation) {
	w, r := x.w, x.r
	t.bindSource(x)
	op, ok := routes[r.URL.Path]
	switch {
	case !ok && x.framing == wire.GRPC:
		x.failGRPC(grpcUnimplemented, "no such method: "+r.URL.Path)
	case !ok:
		x.refuse(http.StatusNotFound,
			status.Errorf(status.NotFound, "no such route: %s %.200q", r.Method, r.URL.Path))
	case (x.framing == wire.GRPC) != isGRPCPath(r.URL.Path):
		x.refuse(http.StatusUnsupportedMediaType, status.Errorf(status.BadRequest,
			"%.200q does not accept Content-Type %.200q", r.URL.Path, r.Header.Get("Content-Type")))
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		x.refuse(http.StatusMethodNotAllowed,
			status.Errorf(status.BadRequest, "%s accepts POST only", r.URL.Path))
	default:
		t.serve(x, op)
	}
}

func (t *Transport) serve(x *exchange, op operation) {
	if !t.beginCall() {
		x.refuse(http.StatusServiceUnavailable, queue.ErrClosed)
		return
	}
	defer t.endCall()

	isStream := x.detectStream()
	to, err := t.findElsewhere(x)
	switch {
	case err != nil:
		t.refuseCall(x, err)
	case to != nil:
		t.relay(x, to)
	case isStream:
		t.serveStream(x, op)
	case x.framing == wire.GRPC:
		if x.readOnlyFrame() {
			t.serveMessage(x, op)
		}
	default:
		t.serveMessage(x, op)
	}
}

// serveMessage serves one message and answers it.
func (t *Transport) serveMessage(x *exchange, op operation) {
	if err := t.inSession(x, op); err != nil {
		t.refuseCall(x, err)
	}
}

// refuseCall answers a call that failed, if its caller can still be answered.
func (t *Transport) refuseCall(x *exchange, err error) {
	log := t.log.With("path", x.r.URL.Path, "session_id", x.headers[wire.HeaderSessionID],
		"trace_id", x.headers[wire.HeaderTraceID], "error", err)
	if x.answered || x.r.Context().Err() != nil && !x.bodyFailed {
		// The caller disconnected and can't be answered. (net/http ends the context of a stalled body too,
		// but that caller may still read.)
		log.Debug("caller disconnected")
		return
	}

	refusal := status.From(err)
	if refusal.Code == status.Internal {
		log.Error("failed to serve a call")
	}
	x.refuse(httpStatus(refusal.Code), refusal)
}

// inSession runs an operation in its session, which can't expire meanwhile.
func (t *Transport) inSession(x *exchange, op operation) error {
	id := x.headers[wire.HeaderSessionID]
	if id == "" && !x.mayNameSessionInside() {
		return errNoSession
	}
	if err := t.admit(x); err != nil {
		return err
	}

	s, err := t.broker.Enter(id)
	if final := x.headers[wire.HeaderFinal]; err != nil && final != "" &&
		x.r.URL.Path == pathRelease && status.From(err).Code == status.SessionReleased {
		// The release is repeated: the party did not get the answer.
		if err := t.confirm(x.r.Context()); err != nil {
			return err
		}
		return x.answer(http.StatusOK, wire.Answer{Code: status.OK, Message: "released before",
			Payload: t.releasedTransfers(id, final == finalDerived), HasPayload: true})
	}
	if err != nil {
		return err
	}
	defer s.Leave()
	return op(t, x, s)
}

// admit checks the headers of a call, and decides whether its caller may use its session.
func (t *Transport) admit(x *exchange) error {
	for _, name := range []string{wire.HeaderSessionID, wire.HeaderMessageID, wire.HeaderTopic} {
		if len(x.headers[name]) > queue.MaxName {
			return status.Errorf(status.BadRequest, "header %s is longer than %d bytes", name, queue.MaxName)
		}
	}
	if t.authorize == nil || x.headers[wire.HeaderSessionID] == "" {
		return nil
	}
	return t.authorize(x.r.Context(), x.call())
}

func (x *exchange) call() Call {
	return Call{
		Op:         x.r.URL.Path[strings.LastIndexByte(x.r.URL.Path, '/')+1:],
		Caller:     identity.From(x.r.Context()),
		SessionID:  x.headers[wire.HeaderSessionID],
		Final:      x.headers[wire.HeaderFinal] != "",
		RemoteAddr: x.r.RemoteAddr,
	}
}

// bindSource makes the caller that the listener has determined the source of its messages, whatever node they
// name. Without one, in tests, the message's own claim counts.
func (t *Transport) bindSource(x *exchange) {
	switch caller := identity.From(x.r.Context()); caller.Kind {
	case identity.KindPartner:
		x.headers.SetSource(caller.Node)
	case identity.KindContainer:
		x.headers.SetSource(t.nodeID)
	}
}

// partner returns the partner that makes a call, or "" for this party's own.
func (x *exchange) partner() string {
	caller := identity.From(x.r.Context())
	if caller.Kind != identity.KindPartner || caller.Proof == identity.ByProcess {
		return ""
	}
	return caller.Node
}

// taskID returns the id of the task whose container makes a call, or "" if it is unknown.
func (x *exchange) taskID() string { return identity.From(x.r.Context()).Run.TaskID }

// readRequest reads the body of a pop, peek or release.
func (t *Transport) readRequest(x *exchange) (wire.ReadRequest, error) {
	body, err := x.readParameters()
	if err != nil {
		return wire.ReadRequest{}, err
	}
	in, err := x.enc.DecodeRead(body)
	if err != nil {
		return wire.ReadRequest{}, wire.ParseError(err)
	}
	if in.TimeoutMS < 0 {
		return wire.ReadRequest{}, status.Errorf(status.BadRequest,
			"timeout is negative; it must be a number of milliseconds")
	}
	in.Topic, err = topicOf(in.Topic, x.headers)
	return in, err
}

func (t *Transport) servePop(x *exchange, s *queue.Session) error {
	in, err := t.readRequest(x)
	if err != nil {
		return err
	}
	wait := t.limits.PopTimeout
	if in.TimeoutMS > 0 {
		wait = min(time.Duration(in.TimeoutMS)*time.Millisecond, t.limits.MaxPopTimeout)
	}

	d, err := s.Pop(x.r.Context(), in.Topic, x.headers[wire.HeaderMessageID], wait)
	if err != nil {
		return err
	}
	return t.deliver(x, s, in.Topic, d)
}

// servePeek reads once without waiting. It takes the message, as the specification says ("读取一次"). Without a
// message it succeeds without content.
func (t *Transport) servePeek(x *exchange, s *queue.Session) error {
	in, err := t.readRequest(x)
	if err != nil {
		return err
	}
	d, err := s.Peek(x.r.Context(), in.Topic, x.headers[wire.HeaderMessageID])
	if err != nil {
		return err
	}
	if d == nil {
		if err := t.confirm(x.r.Context()); err != nil {
			return err
		}
		return x.answer(http.StatusOK, wire.Answer{Code: status.OK, Message: "no message"})
	}
	return t.deliver(x, s, in.Topic, d)
}

// deliver writes a message to its reader, or requeues it.
func (t *Transport) deliver(x *exchange, s *queue.Session, topic string, d *queue.Delivery) error {
	body, err := d.Open()
	if err != nil {
		d.Requeue()
		return err
	}
	defer body.Close()
	if err := d.Prepare(); err != nil {
		d.Requeue()
		return err
	}

	// A pop may have waited for days. Another process that serves the spool gives away the same message.
	if err := t.confirm(x.r.Context()); err != nil {
		d.Requeue()
		return err
	}

	err = x.r.Context().Err()
	if err == nil {
		out := wire.Answer{Code: status.OK, Message: "success", HasPayload: true}
		err = x.answerFrom(http.StatusOK, out, body, d.Size())
	}
	if err != nil {
		d.Requeue()
		t.log.Info("reader disconnected before it got its message; requeued it",
			"session_id", s.ID(), "topic", topic, "error", err)
		return nil
	}
	d.Ack()
	return nil
}

// Values of the header x-ptp-final, with which the party itself releases a session at its job's end.
const (
	finalSession = "true"    // the session only
	finalDerived = "derived" // also those whose ids begin with the session's id and derivedMark
	derivedMark  = "_"
)

// serveRelease clears queues. With the header x-ptp-final the party itself releases the whole session at the
// job's end, and those that its containers have derived from it.
func (t *Transport) serveRelease(x *exchange, s *queue.Session) error {
	in, err := t.readRequest(x)
	if err != nil {
		return err
	}
	final := x.headers[wire.HeaderFinal]
	out := wire.Answer{Code: status.OK, Message: "success"}
	switch {
	case in.Topic == "" && (final == finalSession || final == finalDerived):
		t.broker.ReleaseSession(s.ID())
		if final == finalDerived {
			t.broker.ReleaseDerivedSessions(s.ID() + derivedMark)
		}
		out.Payload, out.HasPayload = t.releasedTransfers(s.ID(), final == finalDerived), true
	default:
		if err := s.ClearTopic(in.Topic); err != nil {
			return err
		}
	}
	if err := t.confirm(x.r.Context()); err != nil {
		return err
	}
	return x.answer(http.StatusOK, out)
}
