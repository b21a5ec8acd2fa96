package party

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hutong/bfia"
	"hutong/gate"
	"hutong/internal/identity"
	"hutong/transport"
	"hutong/transport/status"
)

const (
	// sessionCacheTTL is how long the parties of a session are remembered. They never change, unless the
	// creation of a job is undone and its id used again.
	sessionCacheTTL = time.Minute
	// maxCachedSessions bounds the sessions that are remembered.
	maxCachedSessions = 10_000
)

// startTransportAlone starts a transport without a database, for the containers of another system.
func (p *Party) startTransportAlone(ctx context.Context, roles Roles) error {
	if roles != (Roles{Transport: true}) {
		return fmt.Errorf("transport.sessions of party %s is all: only `hutong transport` runs with this "+
			"configuration, since the party's jobs are those of another system", p.cfg.NodeID)
	}
	secret := make([]byte, gate.MinSecret) // no other process of the party calls this one
	_, _ = rand.Read(secret)               // which never fails
	var err error
	if p.keys, err = gate.NewKeys(secret); err != nil {
		return err
	}
	p.sessions = newSessions(p.cfg.NodeID, nil, p.logger)
	if err := p.startTransport(ctx, nil, roles); err != nil {
		return err
	}
	return p.startPartners(ctx, false, p.channel)
}

// jobParties returns the parties of those of the given jobs that exist, by job id.
type jobParties func(ctx context.Context, jobIDs []string) (map[string][]string, error)

// sessions decides which partners may send messages to which sessions of the transport: those that hold a
// role in the session's job. The database knows the jobs. What it has answered is remembered for a minute, so
// that a job which runs does not wait for a database that restarts.
type sessions struct {
	node   string
	read   jobParties // nil: every partner may send to every session
	logger *slog.Logger
	quiet  rate.Sometimes // bounds the log lines that strangers cause

	mu    sync.Mutex
	known map[string]knownSession
}

type knownSession struct {
	jobs    map[string][]string
	expires time.Time
}

func newSessions(node string, read jobParties, logger *slog.Logger) *sessions {
	return &sessions{node: node, read: read, logger: logger, known: map[string]knownSession{},
		quiet: rate.Sometimes{First: 10, Interval: 10 * time.Second}}
}

// mayCall decides on a call of the transport.
func (p *Party) mayCall(ctx context.Context, call transport.Call) error {
	caller := call.Caller
	switch {
	case caller.Kind == identity.KindPartner && caller.Node == p.cfg.NodeID &&
		caller.Proof == identity.ByProcess:
		return nil // the party's own process, which ends sessions
	case caller.Kind == identity.KindPartner:
		return p.sessions.authorizePartner(ctx, call)
	case caller.Kind == identity.KindContainer && call.Final:
		return status.Errorf(status.Forbidden, "a container can't release a session for good")
	case caller.Kind == identity.KindContainer && caller.Proof == identity.ByNothing:
		return nil // the gate allows that only where nothing is isolated
	case caller.Kind == identity.KindContainer && !gate.MayUse(caller.Run, call.SessionID):
		return status.Errorf(status.Forbidden, "the session of this container is %s", caller.Run.Session)
	case caller.Kind == identity.KindContainer && call.SessionID != caller.Run.Session:
		return p.sessions.authorizeDerived(ctx, call)
	case caller.Kind == identity.KindContainer, p.cfg.Security.Mode == SecurityOpen:
		return nil
	}
	return status.Errorf(status.Forbidden, "the caller is unknown: containers call at their gate, and "+
		"partners with their certificate")
}

// authorizePartner decides on a call of a partner.
func (s *sessions) authorizePartner(ctx context.Context, call transport.Call) error {
	caller := call.Caller.Node
	if call.Op != "invoke" && call.Op != "transport" {
		return s.refuse(call, "%s is only for containers of %s", call.Op, s.node)
	}
	if s.read == nil {
		return nil
	}
	jobs, err := s.jobs(ctx, call.SessionID)
	if err != nil {
		s.logger.Error("failed to read the parties of a session", "session_id", call.SessionID, "error", err)
		return status.Errorf(status.NoInstance, "%s can't look up the session now; try again", s.node)
	}
	// A session may belong to several jobs by its name. A partner must take part in each that exists, or a
	// job with a suitable id would open the sessions of another one.
	for id, parties := range jobs {
		facts := bfia.JobFacts{Node: s.node, JobID: id, Known: true}
		for _, node := range parties {
			facts.Parts = append(facts.Parts, bfia.Part{NodeID: node})
		}
		if bfia.May(caller, bfia.VerbMessage, facts) != nil {
			jobs = nil
			break
		}
	}
	if len(jobs) == 0 {
		return s.refuse(call, "%s knows no session %.200q of a job in which %s takes part", s.node,
			call.SessionID, caller)
	}
	return nil
}

// authorizeDerived decides on a container's call with a session that is derived from its own. By its name it
// may also be the session of another job: session_a_1 is that of job a_1, and may be derived by job a.
func (s *sessions) authorizeDerived(ctx context.Context, call transport.Call) error {
	if s.read == nil {
		return nil
	}
	jobs, err := s.jobs(ctx, call.SessionID)
	if err != nil {
		s.logger.Error("failed to read the parties of a session", "session_id", call.SessionID, "error", err)
		return status.Errorf(status.NoInstance, "%s can't look up the session now; try again", s.node)
	}
	for id := range jobs {
		if len(id) > len(call.Caller.Run.JobID) {
			return status.Errorf(status.Forbidden, "the session belongs to another job; the session of this "+
				"container is %s", call.Caller.Run.Session)
		}
	}
	return nil
}

// refuse returns the refusal of a call, and logs it.
func (s *sessions) refuse(call transport.Call, format string, args ...any) error {
	err := status.Errorf(status.Forbidden, format, args...)
	s.quiet.Do(func() {
		s.logger.Warn("refused a message of a partner", "partner", call.Caller.Node,
			"remote", call.RemoteAddr, "session_id", call.SessionID, "reason", err.Message)
	})
	return err
}

// jobs returns the parties of the jobs to which a session may belong. A session without a job is not
// remembered: its job may be about to be created.
func (s *sessions) jobs(ctx context.Context, session string) (map[string][]string, error) {
	now := time.Now()
	s.mu.Lock()
	known, ok := s.known[session]
	s.mu.Unlock()
	if ok && now.Before(known.expires) {
		return known.jobs, nil
	}
	jobs, err := s.read(ctx, bfia.SessionJobs(session))
	if err != nil && ok {
		return known.jobs, nil
	}
	if err != nil || len(jobs) == 0 {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for old := range s.known {
		if len(s.known) < maxCachedSessions {
			break
		}
		delete(s.known, old)
	}
	s.known[session] = knownSession{jobs, now.Add(sessionCacheTTL)}
	return jobs, nil
}
