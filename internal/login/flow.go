package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Provider is the OpenID provider of a party, as the party names it to its clients.
type Provider struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
}

// client speaks to a provider.
type client struct {
	ctx      context.Context // with the HTTP client
	provider *oidc.Provider
	oauth    oauth2.Config
}

func connect(ctx context.Context, p Provider, over *http.Client) (*client, error) {
	if u, err := url.Parse(p.Issuer); err != nil || u.Scheme != "https" && !IsLoopback(u) {
		return nil, fmt.Errorf("the party's OpenID provider %q has no https:// address", p.Issuer)
	}
	ctx = oidc.ClientContext(ctx, over)
	discovered, err := oidc.NewProvider(ctx, p.Issuer)
	if err != nil {
		return nil, fmt.Errorf(
			"failed to read the configuration of the OpenID provider %s: %w",
			p.Issuer,
			err,
		)
	}
	endpoint := discovered.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams // this client has no secret
	return &client{
		ctx,
		discovered,
		oauth2.Config{ClientID: p.ClientID, Endpoint: endpoint, Scopes: p.Scopes},
	}, nil
}

// IsLoopback returns whether a URL leads to this machine.
func IsLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// tokens checks an answer of the provider. nonce is "" where the flow has none.
func (c *client) tokens(answer *oauth2.Token, issuer, nonce string) (*OIDC, error) {
	raw, _ := answer.Extra("id_token").(string)
	if raw == "" {
		return nil, errors.New(
			"the OpenID provider sent no id token: the scope openid may be missing in oidc.scopes",
		)
	}
	verifier := c.provider.VerifierContext(c.ctx, &oidc.Config{ClientID: c.oauth.ClientID})
	token, err := verifier.Verify(c.ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("the OpenID provider sent an id token that is not valid: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1 && nonce != "" {
		return nil, errors.New("the OpenID provider sent an id token of another login: try again")
	}
	return &OIDC{Issuer: issuer, ClientID: c.oauth.ClientID, IDToken: raw, RefreshToken: answer.RefreshToken,
		ExpiresAt: token.Expiry.UTC()}, nil
}

// Device logs in with a browser on any machine: it shows an address and a code, and waits until the user has
// entered the code there (RFC 8628).
func Device(ctx context.Context, p Provider, over *http.Client, show io.Writer) (*OIDC, error) {
	c, err := connect(ctx, p, over)
	if err != nil {
		return nil, err
	}
	if c.oauth.Endpoint.DeviceAuthURL == "" {
		return nil, fmt.Errorf("the OpenID provider %s has no device flow: log in without --device", p.Issuer)
	}
	verifier := oauth2.GenerateVerifier()
	device, err := c.oauth.DeviceAuth(c.ctx, oauth2.S256ChallengeOption(verifier))
	if err != nil {
		return nil, fmt.Errorf("failed to start the login at %s: %w", p.Issuer, err)
	}
	_, _ = fmt.Fprintf(show, "Open %s in a browser, on any machine, and enter the code %s\n",
		device.VerificationURI, device.UserCode)
	if device.VerificationURIComplete != "" {
		_, _ = fmt.Fprintf(show, "or open %s\n", device.VerificationURIComplete)
	}
	answer, err := c.oauth.DeviceAccessToken(c.ctx, device, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, fmt.Errorf("failed to log in at %s: %w", p.Issuer, err)
	}
	return c.tokens(answer, p.Issuer, "")
}

// Browser logs in with a browser on this machine, which comes back to an address on the loopback interface
// (RFC 8252, with PKCE). open opens the browser; its failure is no error, since the address is also shown.
func Browser(ctx context.Context, p Provider, over *http.Client, show io.Writer, open func(url string) error,
) (*OIDC, error) {
	c, err := connect(ctx, p, over)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("failed to listen for the browser: %w", err)
	}
	c.oauth.RedirectURL = "http://" + listener.Addr().String() + "/callback"
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()

	type outcome struct {
		code string
		err  error
	}
	done := make(chan outcome, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if r.URL.Path != "/callback" ||
				subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
				http.Error(w, "This address belongs to another login.", http.StatusNotFound)
				return
			}
			result := outcome{code: q.Get("code")}
			if q.Get("error") != "" || result.code == "" {
				result = outcome{
					err: fmt.Errorf("the OpenID provider refuses the login: %s %s", q.Get("error"),
						q.Get("error_description")),
				}
				http.Error(w, "The login failed. The command line says why.", http.StatusForbidden)
			} else {
				_, _ = io.WriteString(w, "You are logged in. You can close this page.\n")
			}
			select {
			case done <- result:
			default: // the first answer counts
			}
		})}
	go func() { _ = server.Serve(listener) }()
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(bounded) // after its answer to the browser
	}()

	address := c.oauth.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce))
	_, _ = fmt.Fprintf(show, "Open this address in a browser on this machine:\n%s\n", address)
	_ = open(address)
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("nobody logged in at %s in time: %w", p.Issuer, ctx.Err())
	case result := <-done:
		if result.err != nil {
			return nil, result.err
		}
		answer, err := c.oauth.Exchange(c.ctx, result.code, oauth2.VerifierOption(verifier))
		if err != nil {
			return nil, fmt.Errorf("failed to log in at %s: %w", p.Issuer, err)
		}
		return c.tokens(answer, p.Issuer, nonce)
	}
}

// refresh gets a new id token.
func refresh(ctx context.Context, old OIDC, over *http.Client) (*OIDC, error) {
	c, err := connect(ctx, Provider{Issuer: old.Issuer, ClientID: old.ClientID}, over)
	if err != nil {
		return nil, err
	}
	answer, err := c.oauth.TokenSource(c.ctx, &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
	if err != nil {
		return nil, err
	}
	fresh, err := c.tokens(answer, old.Issuer, "")
	if err == nil && fresh.RefreshToken == "" {
		fresh.RefreshToken = old.RefreshToken
	}
	return fresh, err
}
