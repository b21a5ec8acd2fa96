package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"hutong/internal/httpclient"
	"hutong/internal/login"
)

// account is with what a command proves to a party who calls.
type account struct {
	getenv func(string) string
	// caFile, certFile and keyFile are PEM files: the authorities of the party besides those of the system,
	// and the client's own certificate.
	caFile, certFile, keyFile string

	transport http.RoundTripper // nil until it is needed
}

// file returns the file with the user's credentials.
func (a *account) file() (login.File, error) {
	dir := a.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		home := a.getenv("HOME")
		if home == "" {
			return login.File{}, errors.New(
				"HOME is not set: there is no folder for credentials; use HUTONG_TOKEN_FILE",
			)
		}
		dir = filepath.Join(home, ".config")
	}
	return login.NewFile(dir), nil
}

// serverKey returns the name of a party in the file with the user's credentials.
func serverKey(address string) string { return strings.ToLower(strings.TrimRight(address, "/")) }

// saved returns the user's credentials for a party. Without a folder for them there are none.
func (a *account) saved(address string) (login.Credentials, error) {
	file, err := a.file()
	if err != nil {
		return login.Credentials{}, nil // a system user without a home has HUTONG_TOKEN
	}
	c, _, err := file.Get(serverKey(address))
	return c, err
}

// over returns the transport of all requests of a command. Like curl, it follows the proxy variables of the
// user's environment.
func (a *account) over(address string) (http.RoundTripper, error) {
	if a.transport != nil {
		return a.transport, nil
	}
	saved, err := a.saved(address)
	if err != nil {
		return nil, err
	}
	authorities, err := a.authorities(saved)
	if err != nil {
		return nil, err
	}
	if authorities == "" && a.certFile == "" {
		a.transport = userTransport()
		return a.transport, nil
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if authorities != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM([]byte(authorities)) {
			return nil, usagef("--ca-file: %s contains no certificate", a.caFile)
		}
		settings.RootCAs = pool
	}
	if a.certFile != "" {
		pair, err := tls.LoadX509KeyPair(a.certFile, a.keyFile)
		if err != nil {
			return nil, usagef("--cert-file, --key-file: %w", err)
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	own := httpclient.FromEnvironment().Transport()
	own.TLSClientConfig = settings
	a.transport = own
	return own, nil
}

// authorities returns the PEM text of --ca-file, or that of the last login.
func (a *account) authorities(saved login.Credentials) (string, error) {
	if a.caFile == "" {
		return saved.Authorities, nil
	}
	text, err := os.ReadFile(a.caFile)
	if err != nil {
		return "", usagef("--ca-file: %w", err)
	}
	return string(text), nil
}

// client returns the HTTP client of a command.
func (a *account) client(address string) (*http.Client, error) {
	transport, err := a.over(address)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Scheme == "http" && via[0].URL.Scheme == "https" {
				return errors.New("the party redirects from https to http")
			}
			if len(via) >= 10 {
				return errors.New("the party redirects again and again")
			}
			return nil
		},
	}, nil
}

// bearer returns the bearer token for a party, or "": that of HUTONG_TOKEN or HUTONG_TOKEN_FILE, or else of
// the last login.
func (a *account) bearer(ctx context.Context, address string) (token string, err error) {
	switch path := a.getenv("HUTONG_TOKEN_FILE"); {
	case a.getenv("HUTONG_TOKEN") != "":
		token = strings.TrimSpace(a.getenv("HUTONG_TOKEN"))
	case path != "":
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("failed to read HUTONG_TOKEN_FILE: %w", err)
		}
		token = strings.TrimSpace(string(text))
	default:
		file, err := a.file()
		if err != nil {
			return "", nil // no folder, no login
		}
		over, err := a.client(address)
		if err != nil {
			return "", err
		}
		if token, err = file.Bearer(ctx, serverKey(address), over); err != nil {
			return "", err
		}
	}
	if token != "" {
		return token, checkSecret(address)
	}
	return "", nil
}

// checkSecret refuses to send a token where others on the way could read it.
func checkSecret(address string) error {
	u, err := url.Parse(address)
	if err == nil && u.Scheme == "http" && !login.IsLoopback(u) {
		return usagef(
			"--url: %s has no TLS: everybody on the way could read the token; use https://",
			address,
		)
	}
	return nil
}

// authorize adds the user's proof to a request.
func (c *client) authorize(request *http.Request) error {
	token, err := c.account.bearer(request.Context(), c.url)
	if err != nil || token == "" {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// explainRefusal adds to the refusal of credentials what the user can do.
func explainRefusal(request *http.Request, err error) error {
	var no *refused
	if errors.As(err, &no) && no.status == http.StatusUnauthorized &&
		request.Header.Get("Authorization") == "" {
		no.text += "; log in with 'hutong login', or set HUTONG_TOKEN"
	}
	return err
}
