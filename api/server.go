package api

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/valyala/fasthttp"
	temporal "go.temporal.io/sdk/client"
	"golang.org/x/sync/semaphore"

	"hutong/admission"
	"hutong/bfia/client"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
	"hutong/workflows"
)

// Config is what a party's configuration says about its API.
type Config struct {
	Node string
	// Scheduler is the node that schedules the jobs that this party submits.
	Scheduler string
	Settings  workflows.Settings
	// Limits bound what goes on at once here.
	Limits admission.Limits
	// Approval: someone of this party must approve each job before its part of it starts.
	Approval bool
	// CheckDatasets refuses jobs whose root datasets this party's storage does not have.
	CheckDatasets bool
	// StrictParameters refuses jobs whose parameters contradict the descriptions of their components. Otherwise the
	// answer warns of them.
	StrictParameters bool
	// MaxDocumentBytes bounds a job's document and every other JSON body.
	MaxDocumentBytes int64
	// UploadDir is where files that are named in an upload must lie; empty refuses them all.
	UploadDir string
	// MaxUploadBytes bounds one uploaded file.
	MaxUploadBytes int64
	// TempDir takes files while they arrive.
	TempDir string
	// AllowCommand tells why a provider's command may not run here, or nil.
	AllowCommand func(command []string) error
	// ClientTimeout bounds the reading of a request and each pause in a stream.
	ClientTimeout time.Duration
}

// Server is a party's API.
type Server struct {
	Config
	store    *store.Store
	blobs    blob.Store
	datasets *dataset.Datasets
	temporal temporal.Client
	remote   *client.Client // waits as long as create_all may take
	logger   *slog.Logger
	jobSalt  int
	// submissions are the jobs that are being created for clients.
	submissions *semaphore.Weighted

	app        *fiber.App
	containers *fiber.App

	mu        sync.Mutex
	listeners []net.Listener
	ended     bool

	ctx    context.Context // of all requests; ends after Shutdown has waited for them
	cancel context.CancelFunc
}

// Dependencies are what a [Server] works with. Its owner closes them.
type Dependencies struct {
	Store    *store.Store
	Blobs    blob.Store
	Datasets *dataset.Datasets
	Temporal temporal.Client
	Remote   *client.Client
	Logger   *slog.Logger
}

// New makes a server; [Server.Serve] serves it.
func New(cfg Config, d Dependencies) *Server {
	s := &Server{Config: cfg, store: d.Store, blobs: d.Blobs, datasets: d.Datasets, temporal: d.Temporal, remote: d.Remote,
		logger: d.Logger, jobSalt: os.Getpid(), submissions: semaphore.NewWeighted(submissionsAtOnce())}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.app = s.newApp(func(route) bool { return true })
	s.containers = s.newApp(func(r route) bool { return r.container })
	return s
}

// maxHeaderBytes bounds a request's line and headers together.
const maxHeaderBytes = 16 << 10

func (s *Server) newApp(wanted func(route) bool) *fiber.App {
	app := fiber.New(fiber.Config{
		AppName: "hutong", DisableStartupMessage: true, CaseSensitive: true, StrictRouting: true,
		// Words of a request outlive it: in workflows' inputs, and in what a store's driver keeps.
		Immutable: true,
		// Bodies are read as streams, and bounded by each handler. A form that the server parsed beforehand would be
		// held in memory.
		StreamRequestBody: true, DisablePreParseMultipartForm: true, BodyLimit: math.MaxInt,
		ReadTimeout: s.ClientTimeout, IdleTimeout: 2 * time.Minute, ReadBufferSize: maxHeaderBytes,
		ErrorHandler: func(c *fiber.Ctx, err error) error { return s.fail(c, err) },
	})
	app.Use(recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: func(c *fiber.Ctx, e any) {
		s.logger.Error("a handler panicked", "path", cut(c.Path()), "panic", e, "stack", string(debug.Stack()))
	}}))
	app.Use(func(c *fiber.Ctx) error {
		c.SetUserContext(s.ctx)
		return c.Next()
	})
	var served []route
	for _, r := range s.routes() {
		if !wanted(r) {
			continue
		}
		served = append(served, r)
		app.Add(r.method, r.path, r.handler)
		if r.method == http.MethodGet {
			app.Add(http.MethodHead, r.path, r.handler)
		}
	}
	last := func(c *fiber.Ctx) error { return noRoute(c.Method(), c.Path(), methods(served, c.Path())) }
	app.Use(last)

	server, handle := app.Server(), app.Handler()
	server.SecureErrorLogMessage = true // else an error quotes the request, and with it what may be secret
	server.ErrorHandler = s.broken
	server.Handler = func(ctx *fasthttp.RequestCtx) {
		if !slices.Contains(fiber.DefaultMethods, string(ctx.Method())) {
			c := app.AcquireCtx(ctx) // Fiber answers to unknown methods itself, and not in JSON
			_ = s.fail(c, noRoute(string(ctx.Method()), string(ctx.Path()), methods(served, string(ctx.Path()))))
			app.ReleaseCtx(c)
		} else {
			handle(ctx)
		}
		s.endBody(ctx)
	}
	return app
}

// Serve serves all endpoints on a listener, until [Server.Shutdown].
func (s *Server) Serve(l net.Listener) error { return s.serve(s.app, l) }

// ServeContainers serves on a listener only what a party's containers may reach.
func (s *Server) ServeContainers(l net.Listener) error { return s.serve(s.containers, l) }

func (s *Server) serve(app *fiber.App, l net.Listener) error {
	l = listener{l, s.ClientTimeout}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	return app.Listener(l)
}

// Shutdown ends both, after the requests that are under way, or when ctx ends. Nothing can be served after it.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.cancel()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	err := errors.Join(s.app.ShutdownWithContext(ctx), s.containers.ShutdownWithContext(ctx))
	for _, l := range s.listeners { // those of which Fiber did not know yet
		err = errors.Join(err, l.Close())
	}
	return err
}
