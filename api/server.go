package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	temporal "go.temporal.io/sdk/client"

	"hutong/bfia"
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
	// CheckDatasets refuses jobs whose root datasets this party's storage does not have.
	CheckDatasets bool
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

	app        *fiber.App
	containers *fiber.App
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
		logger: d.Logger.With("node_id", cfg.Node), jobSalt: os.Getpid()}
	s.app = s.newApp(func(route) bool { return true })
	s.containers = s.newApp(func(r route) bool { return r.container })
	return s
}

func (s *Server) newApp(wanted func(route) bool) *fiber.App {
	app := fiber.New(fiber.Config{
		AppName: "hutong", DisableStartupMessage: true,
		StreamRequestBody: true, BodyLimit: 1 << 20, // what is larger is read as a stream, and bounded by each handler
		ReadTimeout: s.ClientTimeout, IdleTimeout: 2 * time.Minute, ReadBufferSize: 16 << 10,
		ErrorHandler: func(c *fiber.Ctx, err error) error { return s.fail(c, err) },
	})
	app.Use(recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: func(c *fiber.Ctx, e any) {
		s.logger.Error("a handler panicked", "path", c.Path(), "panic", e)
	}}))
	for _, r := range s.routes() {
		if !wanted(r) {
			continue
		}
		app.Add(r.method, r.path, r.handler)
		if r.method == http.MethodGet {
			continue // Fiber answers HEAD with GET's handler
		}
	}
	app.Use(func(c *fiber.Ctx) error {
		for _, r := range s.routes() {
			if r.path == c.Path() && wanted(r) {
				return bfia.Errorf(bfia.CodeMethod, "%s %s: this path takes %s", c.Method(), c.Path(), r.method)
			}
		}
		return bfia.Errorf(bfia.CodeNotFound, "%s %s: there is no such endpoint; %s lists them", c.Method(), c.Path(), bfia.PathOpenAPI)
	})
	return app
}

// Serve serves all endpoints on a listener, until [Server.Shutdown].
func (s *Server) Serve(l net.Listener) error { return s.app.Listener(l) }

// ServeContainers serves on a listener only what a party's containers may reach.
func (s *Server) ServeContainers(l net.Listener) error { return s.containers.Listener(l) }

// Shutdown ends both, after the requests that are under way.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.app.ShutdownWithContext(ctx)
	if containersErr := s.containers.ShutdownWithContext(ctx); !errors.Is(containersErr, net.ErrClosed) {
		err = errors.Join(err, containersErr) // their listener goes with the bridge's address
	}
	return err
}

// isV2 tells the dialect of a path: /v2 says message, all else says msg.
func isV2(path string) bool { return strings.HasPrefix(path, "/v2/") }

// ok answers with success. Data is nil for an empty object.
func ok(c *fiber.Ctx, data any) error {
	if data == nil {
		data = struct{}{}
	}
	return answer(c, "success", data, nil)
}

// answer writes an envelope with success. extra stands beside data, where FATE-Flow has some fields.
func answer(c *fiber.Ctx, message string, data any, extra map[string]any) error {
	body := map[string]any{"code": bfia.CodeOK, "data": data}
	if isV2(c.Path()) {
		body["message"] = message
	} else {
		body["msg"] = message
	}
	for k, v := range extra {
		body[k] = v
	}
	return c.JSON(body)
}

// fail answers with an error. What the caller may not read goes to the log.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	var fiberErr *fiber.Error
	if errors.As(err, &fiberErr) {
		err = fromStatus(fiberErr)
	}
	code, message := bfia.CodeOf(err), bfia.MessageOf(err)
	status := code.HTTPStatus()
	log := s.logger.With("method", c.Method(), "path", c.Path(), "code", int(code))
	switch {
	case status >= 500:
		log.Error("request failed", "error", err)
	default:
		log.Info("request refused", "error", err)
	}
	eastWest := strings.HasPrefix(c.Path(), "/v1/interconn/")
	reached := c.Locals(localReached) != nil
	if eastWest && reached && status < 500 {
		status = http.StatusOK
	}
	field := "msg"
	if isV2(c.Path()) {
		field = "message"
	}
	return c.Status(status).JSON(map[string]any{"code": code, field: message, "data": struct{}{}})
}

// localReached marks a request whose body was readable: what is wrong with it from there on is the protocol's matter.
const localReached = "reached"

// fromStatus makes our error from one of Fiber's own.
func fromStatus(e *fiber.Error) error {
	switch e.Code {
	case http.StatusNotFound:
		return bfia.Errorf(bfia.CodeNotFound, "%s", e.Message)
	case http.StatusMethodNotAllowed:
		return bfia.Errorf(bfia.CodeMethod, "%s", e.Message)
	case http.StatusRequestEntityTooLarge:
		return bfia.Errorf(bfia.CodeTooLarge, "body: is too large")
	case http.StatusRequestTimeout:
		return bfia.Errorf(bfia.CodeTimeout, "the request did not arrive in time")
	}
	if e.Code < 500 {
		return bfia.Errorf(bfia.CodeBadRequest, "%s", e.Message)
	}
	return e
}

// inUploadDir resolves a path from a request to a file in the upload folder, also through symbolic links.
func (s *Server) inUploadDir(path string) (string, error) {
	if s.UploadDir == "" {
		return "", bfia.Errorf(bfia.CodeForbidden, "file: this party takes no files from its own disk (upload.dir is not set)")
	}
	root, err := filepath.EvalSymlinks(s.UploadDir)
	if err != nil {
		return "", bfia.Wrap(bfia.CodeInternal, err, "upload.dir can't be read")
	}
	full := path
	if !filepath.IsAbs(full) {
		full = filepath.Join(root, full)
	}
	resolved, err := filepath.EvalSymlinks(full)
	outside := err == nil && resolved != root && !strings.HasPrefix(resolved, root+string(filepath.Separator))
	if outside || err != nil && !strings.HasPrefix(filepath.Clean(full), root+string(filepath.Separator)) {
		return "", bfia.Errorf(bfia.CodeForbidden, "file: %q lies outside the upload folder", path)
	}
	if err != nil {
		return "", bfia.Errorf(bfia.CodeNotFound, "file: %q is not in the upload folder", path)
	}
	return resolved, nil
}
