package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hutong/bfia"
	"hutong/internal/httpclient"
)

const (
	defaultURL     = "http://127.0.0.1:9380"
	defaultTimeout = 30 * time.Second
	// maxResponse limits a response that is read into memory. No response of a party is larger, logs
	// included.
	maxResponse = 64 << 20
)

// client calls the endpoints of a party's API.
type client struct {
	url          string
	timeout      time.Duration // of one request
	stdoutColour bool          // colours are allowed on a terminal
	wide         bool          // tables have more columns
	account      account       // who calls
}

// refused is a response that reports an error.
type refused struct {
	status int // HTTP status
	code   bfia.Code
	text   string
	after  time.Duration // when to try again; 0 if the response does not say so
}

func (r *refused) Error() string { return r.text }

// retryable reports whether the same request may succeed later, because the party or a service of it is
// unavailable.
func (r *refused) retryable() bool {
	switch r.status {
	case http.StatusBadGateway,
		http.StatusServiceUnavailable,
		http.StatusGatewayTimeout,
		http.StatusTooManyRequests:
		return true
	}

	return r.code == bfia.CodeUnavailable
}

// unanswered is a request without a response.
type unanswered struct {
	url string
	err error
}

func (u *unanswered) Error() string {
	if u.speaksHTTP() {
		return fmt.Sprintf("%s speaks HTTP, not HTTPS: set --url or HUTONG_URL to http://%s", u.url,
			strings.TrimPrefix(u.url, "https://"))
	}
	if errors.Is(u.err, syscall.ECONNREFUSED) {
		return fmt.Sprintf("failed to connect to %s: nothing listens there; start the party, "+
			"or set --url or HUTONG_URL to its API", u.url)
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(u.err, &unknown) {
		return fmt.Sprintf("%s has a certificate of an unknown authority: name the party's with --ca-file "+
			"or HUTONG_CA_FILE", u.url)
	}
	var timeout interface{ Timeout() bool }
	if errors.As(u.err, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("%s did not answer in time", u.url)
	}
	return fmt.Sprintf("%s did not answer: %v", u.url, u.err)
}

func (u *unanswered) Unwrap() error { return u.err }

// speaksHTTP reports that an https URL led to an HTTP server.
func (u *unanswered) speaksHTTP() bool {
	var plain tls.RecordHeaderError
	return errors.Is(u.err, http.ErrSchemeMismatch) || errors.As(u.err, &plain)
}

// isRetryable reports whether a request that failed with err may succeed later.
func isRetryable(err error) bool {
	var no *refused
	if errors.As(err, &no) {
		return no.retryable()
	}
	var none *unanswered
	return errors.As(err, &none) && !none.speaksHTTP()
}

// get sends a GET request and decodes the response's data into data.
func (c *client) get(ctx context.Context, path string, query url.Values, data any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	_, err := c.send(ctx, http.MethodGet, path, nil, data)
	return err
}

// post sends a JSON document, decodes the response's data into data, and returns its message.
func (c *client) post(ctx context.Context, path string, body any, data any) (message string, err error) {
	document, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("failed to encode the request: %w", err)
	}
	return c.send(ctx, http.MethodPost, path, document, data)
}

func (c *client) send(ctx context.Context, method, path string, body []byte,
	data any) (message string, err error) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := c.request(limited, method, path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return c.do(request, data)
}

func (c *client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	base, err := url.Parse(c.url)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, usagef("--url: %q is not of the form http://host:port or https://host:port", c.url)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.url, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("failed to create the request: %w", err)
	}
	return request, nil
}

// do sends a request and decodes the data of the envelope in its response into data, unless data is nil.
func (c *client) do(request *http.Request, data any) (message string, err error) {
	if err := c.authorize(request); err != nil {
		return "", err
	}
	return c.doAs(request, data)
}

// getAs sends a GET request with a token, or without one, and decodes the response's data into data.
func (c *client) getAs(ctx context.Context, path, token string, data any) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := c.request(limited, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	_, err = c.doAs(request, data)
	return err
}

// doAs does the same as do with the proof that the request has.
func (c *client) doAs(request *http.Request, data any) (message string, err error) {
	response, err := c.roundTrip(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return "", c.noAnswer(err)
	}
	envelope, err := openEnvelope(response, body)
	if err != nil {
		return "", explainRefusal(request, err)
	}
	if data != nil && len(envelope.Data) > 0 {
		if err := json.Unmarshal(envelope.Data, data); err != nil {
			return "", fmt.Errorf("failed to decode the response to %s: %w", request.URL.Path, err)
		}
	}
	return envelope.Text(), nil
}

func (c *client) roundTrip(request *http.Request) (*http.Response, error) {
	client, err := c.account.client(c.url)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, c.noAnswer(err)
	}
	return response, nil
}

// userTransport returns the transport of all requests of a command.
var userTransport = sync.OnceValue(func() http.RoundTripper {
	return httpclient.FromEnvironment().Transport()
})

func (c *client) noAnswer(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &unanswered{c.url, err}
}

// openEnvelope decodes a response. A response without an envelope, such as a gateway's error page, is
// reported by its HTTP status.
func openEnvelope(response *http.Response, body []byte) (bfia.Envelope, error) {
	var envelope bfia.Envelope
	err := json.Unmarshal(body, &envelope)
	ok := response.StatusCode >= 200 && response.StatusCode < 300
	switch {
	case err == nil && ok && envelope.OK():
		return envelope, nil
	case err == nil && envelope.Text() != "":
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // 0 without one
		return envelope, &refused{response.StatusCode, envelope.Code, envelope.Text(),
			time.Duration(seconds) * time.Second}
	case ok && err != nil:
		return envelope, fmt.Errorf(
			"%s did not answer with JSON: check that --url is the address of a party's API",
			response.Request.URL.Host,
		)
	}

	if response.StatusCode == http.StatusBadRequest &&
		strings.Contains(string(body), "HTTP request to an HTTPS server") {
		return envelope, fmt.Errorf("%s speaks HTTPS, not HTTP: set --url or HUTONG_URL to https://%s",
			response.Request.URL.Host, response.Request.URL.Host)
	}
	text := fmt.Sprintf("%s answered %s", response.Request.URL.Host, response.Status)
	if response.StatusCode == http.StatusNotFound {
		text += ": check that --url or HUTONG_URL is the address of a party's API, not of its transport"
	}

	return envelope, &refused{status: response.StatusCode, code: envelope.Code, text: text}
}
