package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Response codes of the transport that this package distinguishes (API_SPECS, part 4).
const (
	codeSuccess    = "E0000000000"
	codeInternal   = "E0000000500"
	codeTimeout    = "E0000000601" // a pop found no message, or a push timed out in the queue
	codeNoInstance = "E0000000602"
	codeNetwork    = "E0000000607"
	codeBufferFull = "E0000000700"
)

const (
	pollTimeout     = 20 * time.Second // how long the transport may hold one pop
	responseTimeout = 30 * time.Second // for a response, in addition to pollTimeout
	minBackoff      = 100 * time.Millisecond
	maxBackoff      = 5 * time.Second
	maxAnswerBytes  = 64 << 20
	providerCode    = "HUTONG"
)

// response is the transport's response. The specification names the popped message "content" in JSON and
// "payload" in protobuf.
type response struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Content []byte `json:"content"`
	Payload []byte `json:"payload"`
}

type request struct {
	Topic    string            `json:"topic"`
	Payload  []byte            `json:"payload,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Timeout  int64             `json:"timeout,omitempty"` // milliseconds
}

// endpoint is a client of the own party's transport.
type endpoint struct {
	base    string // http://host:port/v1/interconn/chan/
	client  *http.Client
	header  http.Header
	timeout time.Duration // how long the transport may be unavailable
}

func newEndpoint(c Config) *endpoint {
	base := c.Transport
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("x-ptp-tech-provider-code", providerCode)
	h.Set("x-ptp-trace-id", c.TraceID)
	h.Set("x-ptp-token", c.Token)
	h.Set("x-ptp-session-id", c.SessionID)
	h.Set("x-ptp-source-node-id", c.SelfNode)
	return &endpoint{
		base:    strings.TrimRight(base, "/") + "/v1/interconn/chan/",
		client:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
		header:  h,
		timeout: c.TransportTimeout,
	}
}

// push sends one message to a topic at a node.
func (e *endpoint) push(ctx context.Context, node, topic string, payload []byte) error {
	_, err := e.call(ctx, "push", node, request{Topic: topic, Payload: payload}, responseTimeout)
	return err
}

// errEmpty reports that no message arrived in the topic within the poll timeout.
var errEmpty = errors.New("the topic is empty")

// pop removes one message from a topic at the own node, or returns errEmpty.
func (e *endpoint) pop(ctx context.Context, node, topic string) ([]byte, error) {
	began := time.Now()
	a, err := e.call(ctx, "pop", node, request{Topic: topic, Timeout: pollTimeout.Milliseconds()},
		pollTimeout+responseTimeout)
	if errors.Is(err, errEmpty) && time.Since(began) < minBackoff {
		// Avoid a busy loop if the transport answers a long poll at once.
		if err := sleep(ctx, minBackoff); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if a.Content == nil {
		return a.Payload, nil
	}
	return a.Content, nil
}

// release removes what is left in a topic at the own node.
func (e *endpoint) release(ctx context.Context, node, topic string) error {
	_, err := e.callOnce(ctx, "release", node, uuid.NewString(), request{Topic: topic}, responseTimeout)
	return err
}

// call sends a request and retries it with exponential backoff while the transport is unreachable or
// unavailable.
func (e *endpoint) call(
	ctx context.Context, verb, node string, body request, limit time.Duration,
) (response, error) {
	id := uuid.NewString()
	wait := minBackoff
	giveUp := time.Now().Add(limit + e.timeout)
	for {
		a, err := e.callOnce(ctx, verb, node, id, body, limit)
		var passing *retryableError
		if !errors.As(err, &passing) {
			return a, err
		}
		if time.Now().After(giveUp) {
			return a, fmt.Errorf("failed to %s at the transport, retried for %s: %w", verb, e.timeout, err)
		}
		if err := sleep(ctx, wait); err != nil {
			return a, err
		}
		wait = min(2*wait, maxBackoff)
	}
}

// retryableError marks an error after which the request is repeated.
type retryableError struct{ error }

func (p *retryableError) Unwrap() error { return p.error }

// callOnce sends a request once.
func (e *endpoint) callOnce(
	ctx context.Context, verb, node, id string, body request, limit time.Duration,
) (response, error) {
	var a response
	data, err := json.Marshal(body)
	if err != nil {
		return a, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodPost, e.base+verb, bytes.NewReader(data))
	if err != nil {
		return a, fmt.Errorf("variable system.transport: %w", err)
	}
	req.Header = e.header.Clone()
	req.Header.Set("x-ptp-target-node-id", node)
	req.Header.Set("x-ptp-message-id", id)
	resp, err := e.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return a, context.Cause(ctx)
		}
		return a, &retryableError{err}
	}
	defer func() { _ = resp.Body.Close() }()
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		if ctx.Err() != nil {
			return a, context.Cause(ctx)
		}
		return a, &retryableError{err}
	}
	decodeErr := json.Unmarshal(data, &a)
	switch a.Code {
	case codeSuccess:
		return a, nil
	case codeTimeout:
		if verb == "pop" {
			return a, errEmpty
		}
		return a, &retryableError{fmt.Errorf("the transport returned %s %q", a.Code, truncate(a.Message))}
	case codeInternal, codeNoInstance, codeNetwork, codeBufferFull:
		return a, &retryableError{fmt.Errorf("the transport returned %s %q", a.Code, truncate(a.Message))}
	}

	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return a, &retryableError{fmt.Errorf("the transport returned HTTP %d", resp.StatusCode)}
	case a.Code != "":
		return a, fmt.Errorf("%s: the transport returned %s %q", verb, a.Code, truncate(a.Message))
	case decodeErr != nil:
		return a, fmt.Errorf(
			"%s: the transport returned HTTP %d with a malformed body: %w", verb, resp.StatusCode, decodeErr,
		)
	}
	return a, fmt.Errorf("%s: the transport returned HTTP %d without a code", verb, resp.StatusCode)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// truncate limits text from others in messages.
func truncate(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return s
}
