package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"hutong/bfia"
)

const (
	defaultURL     = "http://127.0.0.1:9380"
	defaultTimeout = 30 * time.Second
	// maxAnswer is more than any answer that is read as a whole, logs included.
	maxAnswer = 64 << 20
)

// client speaks to a party's north-south endpoints.
type client struct {
	url          string
	timeout      time.Duration // for one request
	stdoutColour bool          // whether a terminal gets colours
}

// refused is an answer that says no.
type refused struct {
	status int // of HTTP
	code   bfia.Code
	text   string
}

func (r *refused) Error() string { return r.text }

// passing tells whether the same question may be answered later: the party, or what it needs, is not there now.
func (r *refused) retryable() bool {
	return r.code == bfia.CodeUnavailable || r.status == http.StatusBadGateway || r.status == http.StatusServiceUnavailable ||
		r.status == http.StatusGatewayTimeout || r.status == http.StatusTooManyRequests
}

// unanswered is a request that got no answer.
type unanswered struct {
	url string
	err error
}

func (u *unanswered) Error() string {
	if errors.Is(u.err, syscall.ECONNREFUSED) {
		return fmt.Sprintf("nothing listens at %s: is the party running? Give its API with --url or HUTONG_URL", u.url)
	}
	var timeout interface{ Timeout() bool }
	if errors.As(u.err, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("%s gives no answer in time", u.url)
	}
	return fmt.Sprintf("%s gives no answer: %v", u.url, u.err)
}

func (u *unanswered) Unwrap() error { return u.err }

// passing tells whether err may be gone at the next try.
func isRetryable(err error) bool {
	var no *refused
	if errors.As(err, &no) {
		return no.retryable()
	}
	var none *unanswered
	return errors.As(err, &none)
}

// get asks, and reads the answer's data into data.
func (c *client) get(ctx context.Context, path string, query url.Values, data any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	_, err := c.ask(ctx, http.MethodGet, path, nil, data)
	return err
}

// post sends a JSON document and gives the answer's message.
func (c *client) post(ctx context.Context, path string, body any, data any) (message string, err error) {
	document, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("write the request: %w", err)
	}
	return c.ask(ctx, http.MethodPost, path, document, data)
}

func (c *client) ask(ctx context.Context, method, path string, body []byte, data any) (message string, err error) {
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
		return nil, usagef("--url %q is not http://host:port or https://host:port", c.url)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.url, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	return request, nil
}

// do sends a request and reads the envelope that answers it. A nil data is not read.
func (c *client) do(request *http.Request, data any) (message string, err error) {
	response, err := c.send(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return "", c.noAnswer(err)
	}
	envelope, err := openEnvelope(response, body)
	if err != nil {
		return "", err
	}
	if data != nil && len(envelope.Data) > 0 {
		if err := json.Unmarshal(envelope.Data, data); err != nil {
			return "", fmt.Errorf("the answer to %s is not as documented: %w", request.URL.Path, err)
		}
	}
	return envelope.Text(), nil
}

func (c *client) send(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, c.noAnswer(err)
	}
	return response, nil
}

func (c *client) noAnswer(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &unanswered{c.url, err}
}

// openEnvelope finds what an answer says. What does not come from a party, such as a gateway's page, is told by its status.
func openEnvelope(response *http.Response, body []byte) (bfia.Envelope, error) {
	var envelope bfia.Envelope
	err := json.Unmarshal(body, &envelope)
	good := response.StatusCode >= 200 && response.StatusCode < 300
	switch {
	case err == nil && good && envelope.OK():
		return envelope, nil
	case err == nil && envelope.Text() != "":
		return envelope, &refused{response.StatusCode, envelope.Code, envelope.Text()}
	case good && err != nil:
		return envelope, fmt.Errorf("%s answers what is not JSON: is it a party's API?", response.Request.URL.Host)
	}
	return envelope, &refused{response.StatusCode, envelope.Code, fmt.Sprintf("%s answers %s", response.Request.URL.Host, response.Status)}
}

// readFile reads a JSON document from a file, "-" for standard input, as an object whose values stay as they are written.
func readFile(name string, stdin io.Reader) (map[string]json.RawMessage, error) {
	var document []byte
	var err error
	if name == "-" {
		name = "standard input"
		document, err = io.ReadAll(stdin)
	} else {
		document, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(document, &object); err != nil {
		return nil, fmt.Errorf("%s: %w", name, jsonPlace(document, err))
	}
	if object == nil {
		return nil, fmt.Errorf("%s: null is not a JSON object", name)
	}
	return object, nil
}

// jsonPlace says where a document is wrong in lines, which is what editors show.
func jsonPlace(document []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line := 1 + bytes.Count(document[:min(int(syntax.Offset), len(document))], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	return errors.New("is not a JSON object")
}
