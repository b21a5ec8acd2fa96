package party

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"hutong/store"
	"hutong/store/blob"
)

// OpenDatabase opens the party's database. It creates none: a new file might belong to another user than the
// party's, and hide that the path is wrong.
func (c *Config) OpenDatabase(ctx context.Context) (*store.Store, error) {
	address := c.Database.URL.Reveal()
	if u, err := url.Parse(address); err == nil && u.Scheme == "sqlite" {
		if _, err := os.Stat(filepath.FromSlash(u.Path)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("database.url: %s does not exist; hutong migrate creates it", u.Path)
		}
	}
	return store.Open(ctx, address)
}

// OpenStorage opens the party's storage.
func (c *Config) OpenStorage(ctx context.Context) (blob.Store, error) {
	roots, err := readAuthorities("storage.ca_file", c.Storage.CAFile)
	if err != nil {
		return nil, err
	}
	return blob.OpenWith(ctx, c.Storage.URL.Reveal(), blob.Connection{Proxy: c.Proxy.Rule(), Roots: roots})
}

// verifiedDatabase returns the URL of a database with TLS and a verified certificate as the default beyond
// this machine, and with the file of its authorities. It returns other URLs as they are.
func verifiedDatabase(address Secret, caFile string) Secret {
	u, err := url.Parse(address.Reveal())
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return address
	}
	q := u.Query()
	if q.Get("sslmode") == "" && !databaseIsHere(u) {
		q.Set("sslmode", "verify-full")
	}
	if q.Get("sslrootcert") == "" && caFile != "" {
		q.Set("sslrootcert", caFile)
	}
	if q.Encode() == u.Query().Encode() {
		return address
	}
	u.RawQuery = q.Encode()
	return Secret(u.String())
}

// databaseIsHere reports whether the connection to a PostgreSQL database stays on this machine.
func databaseIsHere(u *url.URL) bool {
	return filepath.IsAbs(u.Query().Get("host")) || isHere(u.Hostname()) // a Unix socket's folder
}

// verifiedStorage returns the URL of an S3 server with TLS as the default beyond this machine. It returns
// other URLs as they are.
func verifiedStorage(address Secret) Secret {
	u, err := url.Parse(address.Reveal())
	if err != nil || u.Scheme != "s3" || u.Query().Has("secure") || isHere(u.Hostname()) {
		return address
	}
	q := u.Query()
	q.Set("secure", "true")
	u.RawQuery = q.Encode()
	return Secret(u.String())
}

// isHere reports whether a host is this machine by the loopback interface. "" is the default of clients.
func isHere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || ip != nil && ip.IsLoopback()
}

// IsHere reports whether a connection to a host:port stays on this machine, or is impossible.
func IsHere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err != nil || isHere(host) // an invalid address leads nowhere
}

// Problem is what makes a configuration unsafe.
type Problem struct {
	Field  string
	What   string
	Remedy string
}

func (p Problem) String() string { return p.Field + ": " + p.What + "; " + p.Remedy }

// UnsafeServices returns which connections to services beyond this machine somebody else could read or take
// over. The configuration must be complete.
func UnsafeServices(c *Config) []Problem {
	var problems []Problem
	add := func(field, remedy, format string, args ...any) {
		problems = append(problems, Problem{Field: field, What: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	if !IsHere(c.Temporal.Address) && !c.Temporal.usesTLS() {
		add("temporal.tls", "set temporal.tls.enabled, or the fields of the certificates",
			"the connection to Temporal at %s is neither encrypted nor verified", c.Temporal.Address)
	}
	if u, err := url.Parse(c.Database.URL.Reveal()); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		if mode := u.Query().Get("sslmode"); !databaseIsHere(u) && mode != "verify-full" {
			add("database.url",
				"remove sslmode from it, or set sslmode=verify-full; database.ca_file names a "+
					"private authority", "sslmode=%s does not verify that the server is %s", mode,
				u.Hostname())
		}
	}
	if u, err := url.Parse(c.Storage.URL.Reveal()); err == nil && u.Scheme == "s3" &&
		!isHere(u.Hostname()) && u.Query().Get("secure") != "true" {
		add("storage.url", "remove secure=false from it; storage.ca_file names a private authority",
			"the connection to %s is neither encrypted nor verified", u.Host)
	}
	if u, err := url.Parse(c.Tracing.Endpoint); err == nil && (u.Scheme == "http" || u.Scheme == "grpc") &&
		!isHere(u.Hostname()) {
		add("tracing.endpoint", "use https or grpcs; tracing.ca_file names a private authority",
			"the connection to %s is neither encrypted nor verified", u.Host)
	}
	return problems
}

// usesTLS reports whether the connection to Temporal uses TLS.
func (t TemporalConfig) usesTLS() bool {
	return t.TLS != (TLSConfig{}) || t.APIKey != "" || t.APIKeyFile != ""
}
