package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/gate/storage"
	"hutong/internal/httpguard"
	"hutong/internal/identity"
)

// Config configures a [Gate]. Storage and Unidentified may be empty; all else is required.
type Config struct {
	// Node is the party's node id.
	Node string
	Keys Keys
	// Containers lists the containers of this runner that have not ended.
	Containers func(context.Context) ([]Container, error)
	// Describe returns what a container runs and may do. It does not change while the container exists.
	Describe func(context.Context, Container) (Run, error)
	// Report passes on that a part has a new state. It is called for changes only.
	Report func(context.Context, bfia.TaskReport) error
	// Transport serves push, pop, peek and release. Requests have the caller as their principal.
	Transport http.Handler
	// Storage is the party's bucket; nil if the storage is not on S3, or not served by the gate.
	Storage *StorageConfig
	// Unidentified lets callers that can't be identified report any part's state and use any session.
	Unidentified bool
	// OnRefusal, if set, records what a caller was not allowed to do. It must not wait.
	OnRefusal func(Refusal)
	Logger    *slog.Logger
}

// Refusal is a request that a caller was not allowed to make.
type Refusal struct {
	// Caller is a container with its run, or one that could not be identified, with its address.
	Caller identity.Principal
	// Act is method and path, without a token.
	Act string
	// Session is that of a call of the transport.
	Session string
	Reason  string
}

func (g *Gate) refused(r *http.Request, caller identity.Principal, session, reason string) {
	if g.cfg.OnRefusal != nil {
		g.cfg.OnRefusal(Refusal{Caller: caller, Act: r.Method + " " + r.URL.Path, Session: session,
			Reason: reason})
	}
}

// StorageConfig is a [storage.Config] without what the gate adds.
type StorageConfig = storage.Config

// Gate serves the containers of one runner. It is safe for concurrent use.
type Gate struct {
	cfg     Config
	dir     *directory
	reports *reports
	storage *storage.Storage // nil: not served
	stopped context.Context  // ends when a server of the gate shuts down
	stop    context.CancelFunc
}

// New returns a gate. It connects to nothing.
func New(cfg Config) (*Gate, error) {
	g := &Gate{cfg: cfg, reports: &reports{last: map[string]*reported{}}}
	g.stopped, g.stop = context.WithCancel(context.Background())
	// The process that this one replaces may have begun to start a container, which is not listed yet.
	g.dir = &directory{containers: cfg.Containers, describe: cfg.Describe, stopped: g.stopped,
		started: time.Now(), runs: map[string]Run{}}
	if cfg.Storage == nil {
		return g, nil
	}
	s := *cfg.Storage
	s.Password, s.Grant, s.Logger = cfg.Keys.StoragePassword, g.storageGrant, cfg.Logger
	s.OnRefusal = g.storageRefused
	var err error
	if g.storage, err = storage.New(s); err != nil {
		return nil, fmt.Errorf("failed to open the storage for containers: %w", err)
	}
	return g, nil
}

// BeginStart must be called before a container of this runner is started, and its result afterwards. Between
// the two the gate trusts no list of containers: the started container may get the address of one that has
// just ended.
func (g *Gate) BeginStart() (end func()) { return g.dir.beginStart() }

// runPath is the beginning of a path that carries a token: /run/TOKEN/v1/platform/schedule/task/callback.
const runPath = "/run/"

// CallbackPath returns the path of system.callback for a container. token is empty for a container that the
// gate knows by its address.
func CallbackPath(token string) string {
	if token == "" {
		return bfia.PathPlatformCallback
	}
	return runPath + token + bfia.PathPlatformCallback
}

// ServeHTTP implements [http.Handler].
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Del(CallerHeader) // only the party's own processes may send it
	if g.storage != nil && storage.IsSigned(r) {
		g.storage.ServeHTTP(w, r)
		return
	}
	token := ""
	if rest, ok := strings.CutPrefix(r.URL.Path, runPath); ok {
		var path string
		token, path, _ = strings.Cut(rest, "/")
		r.URL.Path = "/" + path
	}
	r.URL.Path = httpguard.CleanPath(r.URL.Path)
	r.URL.RawPath, r.RequestURI = "", "" // the transport gets the path without the token
	switch path := r.URL.Path; {
	case path == bfia.PathPlatformCallback:
		g.callback(w, r, token)
	case isChannel(path):
		g.channel(w, r, token)
	default:
		_, caller, _ := g.identify(r, token)
		text := fmt.Sprintf("no such route: %s %.200q; containers "+
			"reach their callback, their sessions and their storage", r.Method, path)
		g.refused(r, caller, "", text)
		answerJSON(w, http.StatusNotFound, bfia.CodeNotFound, text)
	}
}

// errForbidden marks a refusal whose text the caller may see.
type errForbidden struct{ text string }

func (e *errForbidden) Error() string { return e.text }

func forbiddenf(format string, args ...any) error { return &errForbidden{fmt.Sprintf(format, args...)} }

// identify returns the run that a request comes from. token is "" if the caller sent none. The run is unknown
// if nothing identifies the caller and the gate allows that. With an error, the principal has an address
// only.
func (g *Gate) identify(r *http.Request, token string) (Run, identity.Principal, error) {
	claimed := ""
	if token != "" {
		name, ok := g.cfg.Keys.ContainerOf(token)
		if !ok {
			return Run{}, g.unidentified(r), forbiddenf(
				"the token is not that of a container of this party",
			)
		}
		claimed = name
	}
	return g.runOf(r, claimed)
}

// runOf returns the run of a request whose caller has proved to be a container; claimed is "" if it has
// proved nothing.
func (g *Gate) runOf(r *http.Request, claimed string) (Run, identity.Principal, error) {
	address := hostOf(r.RemoteAddr)
	caller := g.unidentified(r)
	run, err := g.findRun(r.Context(), address, claimed)
	if err != nil {
		return Run{}, caller, err
	}
	switch {
	case run.known():
		caller.Proof, caller.Credential = identity.ByToken, claimed
		if claimed == "" {
			caller.Proof, caller.Credential = identity.ByAddress, address
		}
		caller.Run = run.Run
		return run, caller, nil
	case g.cfg.Unidentified:
		return Run{}, caller, nil
	}
	return Run{}, caller, forbiddenf("no container of this party has the address %s, and the "+
		"request has no token: send config.token in the header x-ptp-token", address)
}

// findRun looks for a container by what it has proved, and by its address. Both must agree.
func (g *Gate) findRun(ctx context.Context, address, claimed string) (Run, error) {
	if claimed == "" {
		if g.cfg.Unidentified && isOwnMachine(address) {
			return Run{}, nil // no container has it
		}
		run, _, err := g.dir.atAddress(ctx, address)
		return run, err
	}
	run, found, err := g.dir.named(ctx, claimed)
	switch {
	case err != nil:
		return Run{}, err
	case !found:
		return Run{}, forbiddenf("the container %.200q does not run here", claimed)
	case run.Address != "" && run.Address != address:
		return Run{}, forbiddenf(
			"the credentials of container %.200q are used from another address, %s",
			claimed,
			address,
		)
	case run.Address != "":
		return run, nil
	}
	// The container is not addressed. The caller must not be one that is.
	if isOwnMachine(address) {
		return run, nil
	}
	other, taken, err := g.dir.owner(ctx, address)
	if err == nil && taken {
		err = forbiddenf("the credentials of container %.200q are used by container %.200q", claimed, other)
	}
	return run, err
}

// storageGrant returns what the run with these credentials may do with the storage.
func (g *Gate) storageGrant(r *http.Request, user string) (storage.Grant, error) {
	run, _, err := g.runOf(r, user)
	if refusal, ok := errors.AsType[*errForbidden](err); ok {
		return storage.Grant{}, storage.Denied(refusal.text)
	}
	return run.Storage, err
}

// storageRefused records a refusal of the storage. user is "" if the caller has not proved who it is.
func (g *Gate) storageRefused(r *http.Request, user, reason string) {
	caller := g.unidentified(r)
	if user != "" {
		_, caller, _ = g.runOf(r, user)
	}
	g.refused(r, caller, "", reason)
}

// unidentified returns the principal of a caller of whom only the address is known.
func (g *Gate) unidentified(r *http.Request) identity.Principal {
	return identity.Principal{Kind: identity.KindContainer, Node: g.cfg.Node, Address: hostOf(r.RemoteAddr),
		Proof: identity.ByNothing}
}

// isOwnMachine returns whether an address is that of processes of this machine.
func isOwnMachine(address string) bool { return address == "127.0.0.1" || address == "::1" }

func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.String() // an IPv4 address in an IPv6 one is the same address
	}
	return host
}

// Server serves a gate at any number of listeners.
type Server struct{ *http.Server }

// Server returns a server for the gate, without an address. It bounds headers and idle connections, not whole
// requests: a pop may wait for hours. Its Shutdown ends the calls of the transport that wait, of all servers
// of this gate.
func (g *Gate) Server() *Server {
	srv := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(g.cfg.Logger.Handler(), slog.LevelWarn),
		Protocols:         new(http.Protocols),
		// A container waits in one pop for each topic, all on one connection.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10_000, MaxReceiveBufferPerConnection: 4 << 20,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true) // gRPC, on the same port
	srv.RegisterOnShutdown(g.stop)
	return &Server{srv}
}

// Serve serves a listener until Shutdown. It refuses requests that HTTP forbids.
func (s *Server) Serve(l net.Listener) error { return s.Server.Serve(httpguard.Listener(l, true)) }
