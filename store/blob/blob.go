package blob

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hutong/bfia"
	"hutong/internal/httpclient"
)

// Store holds objects. Errors are [bfia.Error]: CodeNotFound for a missing object, CodeBadRequest for an
// invalid key, CodeUnavailable for a server that does not answer.
type Store interface {
	// Get reads an object; the caller closes it.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// Put writes an object, or replaces it, once r has ended without an error; otherwise nothing changes.
	Put(ctx context.Context, key string, r io.Reader) error
	// Stat returns the size and age of an object.
	Stat(ctx context.Context, key string) (Info, error)
	// List returns all objects under prefix ("" for all), by key. A prefix consists of whole parts: "a/b" has
	// "a/b/c", and neither "a/b" nor "a/bc".
	List(ctx context.Context, prefix string) ([]Info, error)
	// Delete removes an object; there may be none.
	Delete(ctx context.Context, key string) error
	// DeletePrefix removes all objects under prefix; there may be none.
	DeletePrefix(ctx context.Context, prefix string) error
	// Create calls fill with an empty folder and stores the files that fill writes there as the objects under
	// prefix. If objects exist under prefix, it returns CodeConflict. If fill fails, it returns fill's error.
	// In both cases nothing changes.
	Create(ctx context.Context, prefix string, fill func(dir string) error) error
	// Sweep removes half-written objects of dead processes, if they are older than age.
	Sweep(ctx context.Context, age time.Duration) error
}

// Info describes an object.
type Info struct {
	Key     string
	Size    int64 // bytes
	ModTime time.Time
}

// Open opens the store at an address and creates the folder or bucket if it is missing. The address is
// "file:///dir", or "s3://host:port?username=..&password=..&bucket=.." with "&secure=true" for TLS and
// "&region=.." if the server needs one. The default bucket is "storage", as in FATE. No error contains the
// password.
func Open(ctx context.Context, address string) (Store, error) {
	return OpenThrough(ctx, address, httpclient.Proxy{})
}

// OpenThrough is [Open] with a proxy for the connections to an S3 server.
func OpenThrough(ctx context.Context, address string, proxy httpclient.Proxy) (Store, error) {
	return OpenWith(ctx, address, Connection{Proxy: proxy})
}

// Connection configures the connections to an S3 server.
type Connection struct {
	Proxy httpclient.Proxy
	// Roots are the authorities of the server's certificate. nil: the system's.
	Roots *x509.CertPool
}

// OpenWith is [Open] with a configuration of the connections to an S3 server.
func OpenWith(ctx context.Context, address string, by Connection) (Store, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New(
			"open storage: the address is not a URL; write file:///dir or s3://host:port?username=NAME&password=SECRET&bucket=NAME",
		)
	}
	switch u.Scheme {
	case "file":
		return openFile(u)
	case "s3":
		return openS3(ctx, u, by)
	}
	return nil, errors.New("open storage: the address must begin with file:// or s3://")
}

const (
	maxKey  = 900 // S3 allows 1024 bytes
	maxPart = 255 // the limit of a file's name
)

// CheckKey returns CodeBadRequest for an invalid key, with the reason. The parts of a key must not be empty
// or begin with "."; they must be valid UTF-8 without control characters and backslashes.
func CheckKey(key string) error {
	switch {
	case key == "":
		return bfia.Errorf(bfia.CodeBadRequest, "storage key: is empty")
	case len(key) > maxKey:
		return bfia.Errorf(bfia.CodeBadRequest, "storage key: is longer than %d bytes", maxKey)
	case !utf8.ValidString(key):
		return bfia.Errorf(bfia.CodeBadRequest, "storage key: is not UTF-8")
	case strings.ContainsFunc(key, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return bfia.Errorf(bfia.CodeBadRequest, "storage key %q: contains a control character or a backslash",
			key)
	}
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return bfia.Errorf(bfia.CodeBadRequest, "storage key %q: has an empty part", key)
		case part[0] == '.':
			return bfia.Errorf(bfia.CodeBadRequest, "storage key %q: has a part that begins with '.'", key)
		case len(part) > maxPart:
			return bfia.Errorf(bfia.CodeBadRequest, "storage key: has a part that is longer than %d bytes",
				maxPart)
		}
	}
	return nil
}

func notFound(key string) error {
	return bfia.Errorf(bfia.CodeNotFound, "storage: object %q does not exist", key)
}

// contextReader fails once its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
