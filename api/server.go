package api

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/valyala/fasthttp"
	temporal "go.temporal.io/sdk/client"

	"hutong/activities/housekeeping"
	"hutong/admission"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/httpguard"
	"hutong/internal/identity"
	"hutong/internal/limits"
	"hutong/internal/notify"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
	"hutong/store/model"
	"hutong/workflows"
)

// Config configures a party's API.
type Config struct {
	Node string
	// Scheduler is the node that schedules the jobs that this party submits.
	Scheduler string
	// Schedulers are the parties that may schedule the jobs of a partner, by the partner's node id. Each
	// partner may schedule its own.
	Schedulers map[string][]string
	// Retention is how long ended jobs are kept; 0 is forever. A job with an older id is refused.
	Retention time.Duration
	Settings  workflows.Settings
	// Limits bounds what this party runs at once.
	Limits admission.Limits
	// Approval: someone of this party must approve each job before its part of it starts.
	Approval bool
	// CheckDatasets refuses jobs whose root datasets this party's storage does not have.
	CheckDatasets bool
	// WorkflowsURL is the address under which Temporal's UI shows the party's workflows. Empty: unknown.
	WorkflowsURL string
	// StrictParameters refuses jobs whose parameters contradict the descriptions of their components.
	// Otherwise the answer warns of them.
	StrictParameters bool
	// MaxDocumentBytes bounds a job's document and every other JSON body.
	MaxDocumentBytes int64
	// UploadDir is the folder that files named in an upload must be in. If it is empty, all are refused.
	UploadDir string
	// MaxUploadBytes bounds one uploaded file.
	MaxUploadBytes int64
	// TempDir holds files while they arrive.
	TempDir string
	// GrantsRequired refuses jobs of partners that use what they were not granted.
	GrantsRequired bool
	// PermitsRequired makes a grant for which a partner has asked count only for jobs that present its
	// permit.
	PermitsRequired bool
	// AllowImage returns why a provider's image may not be registered at this party, or nil. nil allows all.
	AllowImage func(device bfia.Device, reference string) error
	// AllowCommand returns why a provider's command may not run at this party, or nil.
	AllowCommand func(command []string) error
	// Clients determines who calls at the listener of clients. nil refuses everybody.
	Clients Authenticator
	// Recheck returns a client that proved at an earlier time who it is, with the roles that it has now, or
	// its refusal. nil refuses everybody.
	Recheck func(ctx context.Context, p identity.Principal, provedAt time.Time) (identity.Principal, error)
	// Login says how clients log in.
	Login bfia.Login
	// FourEyes refuses that a client approves a job that it submitted.
	FourEyes bool
	// OpenPartners also serves the endpoints of partners at the listener of clients, to whomever their header
	// names. Only for development.
	OpenPartners bool
	// Signer returns the key that signs evidence and exported models, with its certificates. It is called for
	// each archive.
	Signer func() (certs.Signer, error)
	// KnownSigner returns the node that certificates prove, the leaf first: this party or a partner.
	KnownSigner func(chain []*x509.Certificate) (node string, err error)
	// Software is the version of the program, for evidence.
	Software string
	// OpenJobs is how many jobs that have not ended one client may have submitted. 0 is no limit.
	OpenJobs int
	// Callers bounds what each caller takes. nil bounds nothing.
	Callers *limits.Limiter
	// Refusals writes refusals to the audit trail, for all listeners of the process. nil: one of its own.
	Refusals *audit.Recorder
	// Notifier sends test messages, and knows who gets notifications. nil: nobody.
	Notifier *notify.Notifier
	// ClientTimeout bounds the reading of a request and each pause in a stream.
	ClientTimeout time.Duration
	// Trace begins the span of a request, which own says is from this party's clients or processes. end ends
	// it. nil traces nothing.
	Trace func(ctx context.Context, route string, header func(string) string, own bool) (_ context.Context,
		end func(error))
	// OnRequest is called after each request, and OnCallback after each report of a partner about its part of
	// a task, with why it was not taken. Each may be nil.
	OnRequest  func(Request)
	OnCallback func(error)
}

// Request describes a request that was answered.
type Request struct {
	// Listener is clients or partners.
	Listener string
	Method   string
	// Route is the pattern of the endpoint; empty if the API has none for the request.
	Route  string
	Status int
	// Code is that of the error, or CodeOK.
	Code bfia.Code
	Took time.Duration
}

// Server is a party's API.
type Server struct {
	Config
	store    *store.Store
	blobs    blob.Store
	datasets *dataset.Datasets
	temporal temporal.Client
	remote   *client.Client // its timeout covers create_all
	remover  housekeeping.Remover
	models   *model.Models
	// contracts serves the contracts with partners, or is nil.
	contracts Contracts
	logger    *slog.Logger
	jobSalt   int
	// submissions limits the jobs that are created for clients at the same time.
	submissions *submissions
	// creations counts the jobs that this scheduler is creating at their parties.
	creations atomic.Int32

	// refusals writes refusals to the audit trail; ownRefusals if no other listener of the process uses it.
	refusals    *audit.Recorder
	ownRefusals bool
	// reads bounds what is written of reads.
	reads recentReads
	// signals bounds the signals that partners cause.
	signals signalLimits
	// together holds the reports of parts of a task that wait for each other.
	together reportsTogether

	// contacts bounds what is written of partners' requests.
	contacts contacts
	// events reports changes to clients.
	events *eventHub

	// logIndex caches what is known of logs that clients follow.
	logIndex logIndex

	// The applications of the listeners, each with the endpoints of its callers.
	clients, partners *fiber.App

	mu        sync.Mutex
	listeners []net.Listener
	ended     bool

	ctx    context.Context // the base of all requests' contexts; ends after Shutdown has waited for them
	cancel context.CancelFunc
}

// Dependencies holds what a [Server] works with. The caller closes them after Shutdown.
type Dependencies struct {
	Store    *store.Store
	Blobs    blob.Store
	Datasets *dataset.Datasets
	Temporal temporal.Client
	Remote   *client.Client
	// Contracts serves the contracts with partners. nil: this process has none.
	Contracts Contracts
	// DeleteWorkflows deletes what Temporal holds of an ended job.
	DeleteWorkflows func(ctx context.Context, jobID string) error
	Logger          *slog.Logger
}

// New returns a server. Call [Server.Serve] to serve it.
func New(cfg Config, d Dependencies) *Server {
	if cfg.Callers == nil {
		cfg.Callers = limits.New(limits.Config{})
	}
	s := &Server{Config: cfg, store: d.Store, blobs: d.Blobs, datasets: d.Datasets, temporal: d.Temporal,
		remote: d.Remote,
		logger: d.Logger, jobSalt: os.Getpid(), submissions: newSubmissions(submissionsAtOnce())}
	s.models = model.New(cfg.Node, d.Blobs, d.Store)
	s.remover = housekeeping.Remover{Node: cfg.Node, Store: d.Store, Blobs: d.Blobs,
		DeleteWorkflows: d.DeleteWorkflows, Heartbeat: func() {}, Logger: d.Logger}
	s.contracts = d.Contracts
	s.events = newEventHub(d.Store, d.Logger)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	clients := authenticators{identity.KindClient: func(c *fiber.Ctx) (identity.Principal, error) {
		if cfg.Clients == nil {
			return identity.Principal{}, nil
		}
		return cfg.Clients(c)
	}}
	if cfg.OpenPartners {
		clients[identity.KindPartner] = partnersByHeader
	}
	s.clients = s.newApp(clients)
	s.partners = s.newApp(authenticators{identity.KindPartner: byConnection})
	if s.refusals = cfg.Refusals; s.refusals == nil {
		s.refusals, s.ownRefusals = audit.NewRecorder(d.Store, d.Logger), true
	}
	return s
}

// apps returns the applications of all listeners.
func (s *Server) apps() []*fiber.App {
	return []*fiber.App{s.clients, s.partners}
}

// localRoute names the local of a request that holds the pattern of its route.
const localRoute = "route"

// observe returns a handler that reports each answered request of a listener.
func (s *Server) observe(listener string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if s.OnRequest == nil {
			return c.Next()
		}
		began := time.Now()
		err := c.Next()
		r := Request{Listener: listener, Method: c.Method()}
		r.Route, _ = c.Locals(localRoute).(string)
		if err != nil {
			r.Code = bfia.CodeOf(err)
			err = s.fail(c, err)
		}
		r.Status, r.Took = c.Response().StatusCode(), time.Since(began)
		s.OnRequest(r)
		return err
	}
}

// maxHeaderBytes bounds a request's line and headers together.
const maxHeaderBytes = 16 << 10

func (s *Server) newApp(callers authenticators) *fiber.App {
	app := fiber.New(fiber.Config{
		AppName: "hutong", DisableStartupMessage: true, CaseSensitive: true, StrictRouting: true,
		// Strings of a request outlive it: in inputs of workflows, and in what a database driver keeps.
		Immutable: true,
		// Each handler reads its body as a stream and bounds it. A form that the server parsed in advance
		// would be held in memory.
		StreamRequestBody: true, DisablePreParseMultipartForm: true, BodyLimit: math.MaxInt,
		ReadTimeout: s.ClientTimeout, IdleTimeout: 2 * time.Minute, ReadBufferSize: maxHeaderBytes,
		ErrorHandler: func(c *fiber.Ctx, err error) error { return s.fail(c, err) },
	})
	app.Use(s.observe(callers.listener()))
	app.Use(recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: func(c *fiber.Ctx, e any) {
		s.logger.Error("handler panicked", "path", cut(c.Path()), "panic", e, "stack", string(debug.Stack()))
	}}))
	app.Use(func(c *fiber.Ctx) error {
		c.SetUserContext(s.ctx)
		return c.Next()
	})

	var served []route
	for _, r := range s.routes() {
		if !callers.serves(r) {
			continue
		}
		served = append(served, r)
		handler := s.guard(r, callers[r.access.kind])
		app.Add(r.method, r.path, handler)
		if r.method == http.MethodGet {
			app.Add(http.MethodHead, r.path, handler)
		}
	}
	last := func(c *fiber.Ctx) error { return noRoute(c.Method(), c.Path(), methods(served, c.Path())) }
	app.Use(last)

	server, handle := app.Server(), app.Handler()
	server.SecureErrorLogMessage = true // otherwise an error quotes the request, which may hold secrets
	server.ErrorHandler = s.broken
	server.Handler = func(ctx *fasthttp.RequestCtx) {
		if !slices.Contains(fiber.DefaultMethods, string(ctx.Method())) {
			c := app.AcquireCtx(ctx) // Fiber itself answers unknown methods, and not in JSON
			_ = s.fail(c, noRoute(string(ctx.Method()), string(ctx.Path()),
				methods(served, string(ctx.Path()))))
			app.ReleaseCtx(c)
		} else {
			handle(ctx)
		}
		s.endBody(ctx)
	}
	return app
}

// ServeClients serves the endpoints of clients on a listener, until [Server.Shutdown].
func (s *Server) ServeClients(l net.Listener) error { return s.serve(s.clients, l) }

// ServePartners serves the endpoints of partners on a listener. The remote address of its connections is an
// [identity.Address]; others may do nothing.
func (s *Server) ServePartners(l net.Listener) error { return s.serve(s.partners, l) }

func (s *Server) serve(app *fiber.App, l net.Listener) error {
	l = listener{httpguard.Listener(l, false), s.ClientTimeout}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	return app.Listener(l)
}

// Shutdown stops serving after the requests in progress, or when ctx ends. The server can't serve again.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.cancel()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.events.close()
	var err error
	for _, app := range s.apps() {
		err = errors.Join(err, app.ShutdownWithContext(ctx))
	}
	for _, l := range s.listeners { // listeners that Fiber did not know yet
		err = errors.Join(err, l.Close())
	}
	if s.ownRefusals {
		err = errors.Join(err, s.refusals.Close(ctx))
	}
	return err
}
