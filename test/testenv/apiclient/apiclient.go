// Package apiclient sends requests to the API of a party, for the tests and programs of test.
package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"time"

	"hutong/bfia"
)

// anyone keeps idle connections for the many concurrent requests of the benchmarks.
var anyone = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}

// Client sends requests as one of a party's clients. Its zero value proves nothing, and trusts the
// authorities of the system.
type Client struct {
	HTTP  *http.Client // nil: one that all share
	Token string       // the bearer token, or ""
}

// Do sends a request with the client's token.
func (c Client) Do(r *http.Request) (*http.Response, error) {
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.HTTP == nil {
		return anyone.Do(r)
	}
	return c.HTTP.Do(r)
}

// Answer is a party's answer to a request.
type Answer struct {
	bfia.Envelope
	Status int
	Header http.Header
	Body   []byte
}

// Error is an answer that reports a failure.
type Error struct {
	URL    string
	Status int
	Code   bfia.Code
	Text   string
	// RetryAfter is when the party says to try again, or 0.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: HTTP %d, code %d: %s", e.URL, e.Status, e.Code, e.Text)
}

// Send is [Client.Send] of a client that proves nothing.
func Send(ctx context.Context, method, url string, body []byte, headers ...string) (Answer, error) {
	return Client{}.Send(ctx, method, url, body, headers...)
}

// Send sends a request with pairs of header names and values, and decodes the answer's envelope. Without a
// Content-Type among them the body is JSON.
func (c Client) Send(ctx context.Context, method, url string, body []byte,
	headers ...string) (a Answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}

	resp, err := c.Do(req)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	a.Status, a.Header = resp.StatusCode, resp.Header
	if a.Body, err = io.ReadAll(resp.Body); err != nil {
		return a, err
	}

	if err := json.Unmarshal(a.Body, &a.Envelope); err != nil {
		return a, fmt.Errorf("failed to decode the answer of %s: %w: %.200s", url, err, a.Body)
	}
	return a, nil
}

// Call is [Client.Call] of a client that proves nothing.
func Call(ctx context.Context, method, url string, body []byte, data any, headers ...string) error {
	return Client{}.Call(ctx, method, url, body, data, headers...)
}

// Call sends a request that must succeed, and decodes the answer's data unless data is nil. A failed request
// returns an [*Error].
func (c Client) Call(ctx context.Context, method, url string, body []byte, data any,
	headers ...string) error {
	a, err := c.Send(ctx, method, url, body, headers...)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK || !a.OK() {
		seconds, _ := strconv.Atoi(a.Header.Get("Retry-After")) // 0 without one
		return &Error{URL: url, Status: a.Status, Code: a.Code, Text: a.Text(),
			RetryAfter: time.Duration(seconds) * time.Second}
	}
	if data == nil {
		return nil
	}
	return json.Unmarshal(a.Data, data)
}

// Upload is [Client.Upload] of a client that proves nothing.
func Upload(ctx context.Context, url, file string, rows []byte, fields map[string]string) error {
	return Client{}.Upload(ctx, url, file, rows, fields)
}

// Upload uploads a CSV file as a dataset, with the fields of the upload's form.
func (c Client) Upload(ctx context.Context, url, file string, rows []byte, fields map[string]string) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", file)
	if err != nil {
		return err
	}
	if _, err := part.Write(rows); err != nil {
		return err
	}
	for name, value := range fields {
		if err := form.WriteField(name, value); err != nil {
			return err
		}
	}
	if err := form.Close(); err != nil {
		return err
	}

	return c.Call(ctx, http.MethodPost, url+bfia.PathComponentFile, body.Bytes(), nil,
		"Content-Type", form.FormDataContentType())
}
