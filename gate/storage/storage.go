package storage

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"hutong/internal/httpclient"
	"hutong/store/blob"
)

// Config configures a [Storage]. All fields but Proxy and Roots are required.
type Config struct {
	// Bucket is the party's own bucket, with the party's credentials.
	Bucket blob.S3Address
	// Password returns the password of a user that system.storage names. It need not exist.
	Password func(user string) string
	// Grant returns what a user may do. It is called once the signature is verified, for each request. Its
	// error is ErrUnknown if no such run is there.
	Grant func(r *http.Request, user string) (Grant, error)
	// Proxy chooses the proxy of the connections to the server.
	Proxy httpclient.Proxy
	// Roots are the authorities of the server's certificate. nil: the system's.
	Roots *x509.CertPool
	// OnRefusal, if set, records a request that was not allowed. user is "" if its signature does not prove
	// one. It must not wait.
	OnRefusal func(r *http.Request, user, reason string)
	Logger    *slog.Logger
}

// ErrUnknown is the error of [Config].Grant for a user that is none, or no longer.
var ErrUnknown = errors.New("no such run")

// Storage serves the party's bucket to its containers. It is safe for concurrent use.
type Storage struct {
	cfg    Config
	client *minio.Client
	proxy  *httputil.ReverseProxy
	now    func() time.Time
}

// New returns a storage. It does not connect.
func New(cfg Config) (*Storage, error) {
	client, transport, err := cfg.Bucket.Client(blob.Connection{Proxy: cfg.Proxy, Roots: cfg.Roots})
	if err != nil {
		return nil, err
	}
	transport.MaxIdleConnsPerHost = 64 // all containers share them
	s := &Storage{cfg: cfg, client: client, now: time.Now}
	s.proxy = &httputil.ReverseProxy{Rewrite: rewrite, Transport: transport, BufferPool: buffers{},
		ModifyResponse: checkAnswer, ErrorHandler: s.failed,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)}
	return s, nil
}

// ServeHTTP implements [http.Handler]. Every request must be signed.
func (s *Storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, err := s.serve(w, r)
	if err != nil && r.Context().Err() == nil {
		f := faultOf(err)
		log := s.cfg.Logger.With("method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "error", err)
		if f.status >= 500 && f.code != "NotImplemented" {
			log.Error("failed to serve a container's storage request")
		} else {
			log.Info("refused a container's storage request", "code", f.code)
		}
		if f.status == http.StatusForbidden && s.cfg.OnRefusal != nil {
			s.cfg.OnRefusal(r, user, f.Error())
		}
		writeFault(w, r, f)
	}
}

// serve verifies a request and serves it. If it returns an error, it has not answered. user has signed it.
func (s *Storage) serve(w http.ResponseWriter, r *http.Request) (user string, err error) {
	signed, err := parseSignature(r)
	if err != nil {
		return "", err
	}
	if err := signed.checkTime(s.now()); err != nil {
		return "", err
	}
	key, err := signed.check(r, s.cfg.Password(signed.user))
	if err != nil {
		return "", err
	}
	return signed.user, s.serveSigned(w, r, signed, key)
}

// serveSigned serves a request whose signature is verified.
func (s *Storage) serveSigned(w http.ResponseWriter, r *http.Request, signed *signature, key []byte) error {
	grant, err := s.cfg.Grant(r, signed.user)
	switch {
	case errors.Is(err, ErrUnknown):
		return refusef(http.StatusForbidden, "InvalidAccessKeyId",
			"the user %.200q of system.storage is not a run of this party that is in progress", signed.user)
	case err != nil:
		return err
	}
	c := &call{Storage: s, w: w, r: r, signed: signed, chunkKey: key, grant: grant, query: r.URL.Query()}
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case bucket == "":
		return c.listBuckets()
	case bucket != s.cfg.Bucket.Bucket:
		return accessDenied("the bucket is %s, as system.storage says", s.cfg.Bucket.Bucket)
	case object == "":
		return c.bucket()
	}
	c.key = object
	return c.object()
}

// Denied returns an error of Grant that refuses a request with a reason for the client.
func Denied(reason string) error { return accessDenied("%s", reason) }

// call is a request whose signature is verified.
type call struct {
	*Storage
	w        http.ResponseWriter
	r        *http.Request
	signed   *signature
	chunkKey []byte // the signing key
	grant    Grant
	query    map[string][]string
	key      string // of the object
}

// asks returns whether the query has a parameter.
func (c *call) asks(name string) bool { _, has := c.query[name]; return has }

// get returns the value of a parameter of the query.
func (c *call) get(name string) string {
	if values := c.query[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// checkAnswer holds back answers that are about the party's own credentials, which they may name.
func checkAnswer(answer *http.Response) error {
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code >= 300 && code < 400 &&
		code != http.StatusNotModified:
		return fmt.Errorf("the server of storage.url refused the party's own credentials: HTTP %d", code)
	}
	return nil
}

// failed answers if the server did not.
func (s *Storage) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the container is gone
	}
	f, ok := errors.AsType[*fault](err)
	if !ok {
		f = unavailable("the storage of the party does not answer; try again")
		if errors.Is(err, errBody) {
			f = refusef(http.StatusBadRequest, "IncompleteBody", "the body ended before it was complete")
		}
		s.cfg.Logger.Warn("failed to pass a container's request to the storage", "method", r.Method,
			"path", r.URL.Path, "error", err)
	}
	writeFault(w, r, f)
}

// buffers is the pool of the buffers through which bodies pass.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Get implements [httputil.BufferPool].
func (buffers) Get() []byte { return bufferPool.Get().(*[64 << 10]byte)[:] }

// Put implements [httputil.BufferPool].
func (buffers) Put(b []byte) { bufferPool.Put((*[64 << 10]byte)(b)) }
