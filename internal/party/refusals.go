package party

import (
	"context"
	"net"
	"net/http"
	"strings"

	"hutong/bfia"
	"hutong/gate"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/internal/limits"
	"hutong/store"
	"hutong/transport"
	"hutong/transport/status"
)

// openTrail opens the audit trail for the refusals of all listeners of this process.
func (p *Party) openTrail(db *store.Store) {
	p.refusals = audit.NewRecorder(db, p.logger)
	p.onStop(p.refusals.Close)
}

// actHandshake is the act of a refused connection.
const actHandshake = "TLS handshake"

// recordRefusal records a partner's request whose sender is not known. Without a database, as in a transport
// that runs alone, only the log has it.
func (p *Party) recordRefusal(r *http.Request, refusal error) {
	p.refusals.Refuse(anonymousAt(r.RemoteAddr), r.Method+" "+r.URL.Path, audit.Object{},
		bfia.MessageOf(refusal))
}

// recordRefusedConnection records a connection whose TLS handshake was refused. What its certificate says is
// not proved, and therefore only in the reason.
func (p *Party) recordRefusedConnection(address net.Addr, refusal error) {
	p.refusals.Refuse(anonymousAt(address.String()), actHandshake, audit.Object{}, refusal.Error())
}

// recordForgedCaller records a request to transport.listen with a caller that no process of the party named.
func (p *Party) recordForgedCaller(r *http.Request, refusal error) {
	p.refusals.Refuse(anonymousAt(r.RemoteAddr), r.Method+" "+r.URL.Path, audit.Object{}, refusal.Error())
}

// recordGateRefusal records what the gate refuses to a container.
func (p *Party) recordGateRefusal(r gate.Refusal) {
	p.refusals.Refuse(r.Caller, r.Act, sessionObject(r.Session), r.Reason)
}

// recordCall records a call of the transport that was refused.
func (p *Party) recordCall(call transport.Call, refusal error) {
	caller := call.Caller
	if caller.Address == "" {
		caller.Address = anonymousAt(call.RemoteAddr).Address
	}
	p.refusals.Refuse(caller, actTransport+call.Op, sessionObject(call.SessionID),
		status.From(refusal).Message)
}

// actTransport begins the acts of refused calls of the transport, such as "transport invoke".
const actTransport = "transport "

// queueMessages bounds the messages that each partner sends to a handler of the transport. Those beyond its
// rate wait in order, each message of a stream too.
func (p *Party) queueMessages(h http.Handler) http.Handler {
	paced := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(transport.WithPace(r.Context(), p.pace)))
	})
	return transport.WithArrival(p.limiter.Queue(paced, limits.Messages{Session: transport.SessionOf,
		Refuse: p.refuseExceeded,
		OnLimited: func(caller identity.Principal, outcome limits.Outcome) {
			p.metrics.LimitedMessage(caller.Node, string(outcome))
		}}))
}

// pace waits until a partner may send the next message of a stream.
func (p *Party) pace(ctx context.Context, sessionID string) error {
	caller := identity.From(ctx)
	if caller.Kind == identity.KindAnonymous {
		return nil
	}
	waited, err := p.limiter.Pace(ctx, caller, sessionID)
	switch {
	case err != nil:
		p.metrics.LimitedMessage(caller.Node, string(limits.Cancelled))
	case waited:
		p.metrics.LimitedMessage(caller.Node, string(limits.Served))
	}
	return err
}

// refuseExceeded refuses a partner's request beyond its rate, and records that.
func (p *Party) refuseExceeded(w http.ResponseWriter, r *http.Request, e *limits.Exceeded) {
	op := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	p.refusals.Refuse(identity.From(r.Context()), actTransport+op, audit.Object{}, e.Error())
	limits.RefuseText(w, r, e)
}

func sessionObject(id string) audit.Object {
	if id == "" {
		return audit.Object{}
	}
	return audit.Object{Kind: audit.Session, ID: id}
}

func anonymousAt(remote string) identity.Principal {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	return identity.Principal{Address: host}
}

// authorizeCall decides on a call of the transport, and records refusals.
func (p *Party) authorizeCall(ctx context.Context, call transport.Call) error {
	err := p.mayCall(ctx, call)
	if err != nil && status.From(err).Code == status.Forbidden {
		p.recordCall(call, err)
	}
	return err
}
