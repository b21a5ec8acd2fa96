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

// Codes of the transport that mean more than "it failed" (API_SPECS, part 4).
const (
	codeSuccess    = "E0000000000"
	codeInternal   = "E0000000500"
	codeTimeout    = "E0000000601" // a pop that found nothing, or a push whose turn did not come
	codeNoInstance = "E0000000602"
	codeNetwork    = "E0000000607"
	codeBufferFull = "E0000000700"
)

const (
	pollTimeout     = 20 * time.Second // of one pop at the transport
	responseTimeout = 30 * time.Second // for an answer, beyond pollTime
	minBackoff      = 100 * time.Millisecond
	maxBackoff      = 5 * time.Second
	maxAnswerBytes  = 64 << 20
	providerCode    = "HUTONG"
)

// response of the transport. Content is the specification's name for what was popped in JSON, payload the one in protobuf.
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

// endpoint is the transport of one's own party.
type endpoint struct {
	base    string // http://host:port/v1/interconn/chan/
	client  *http.Client
	header  http.Header
	timeout time.Duration // how long a transport may be out of order before that is an error
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

// push hands one message to the transport, for a topic at a node.
func (e *endpoint) push(ctx context.Context, node, topic string, payload []byte) error {
	_, err := e.call(ctx, "push", node, request{Topic: topic, Payload: payload}, responseTimeout)
	return err
}

// errEmpty: the transport had nothing in the topic for as long as we asked it to wait.
var errEmpty = errors.New("nothing there yet")

// pop takes one message from a topic at our own node, or returns errEmpty.
func (e *endpoint) pop(ctx context.Context, node, topic string) ([]byte, error) {
	began := time.Now()
	a, err := e.call(ctx, "pop", node, request{Topic: topic, Timeout: pollTimeout.Milliseconds()}, pollTimeout+responseTimeout)
	if errors.Is(err, errEmpty) && time.Since(began) < minBackoff {
		// A transport that doesn't wait is not to be asked in a circle.
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

// release frees what is left of a topic at our own node.
func (e *endpoint) release(ctx context.Context, node, topic string) error {
	_, err := e.callOnce(ctx, "release", node, uuid.NewString(), request{Topic: topic}, responseTimeout)
	return err
}

// call repeats a request with growing pauses for as long as the transport is out of reach or out of order.
func (e *endpoint) call(ctx context.Context, verb, node string, body request, limit time.Duration) (response, error) {
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
			return a, fmt.Errorf("%s on the transport, repeated for %s: %w", verb, e.timeout, err)
		}
		if err := sleep(ctx, wait); err != nil {
			return a, err
		}
		wait = min(2*wait, maxBackoff)
	}
}

// retryableError is worth another attempt.
type retryableError struct{ error }

func (p *retryableError) Unwrap() error { return p.error }

func (e *endpoint) callOnce(ctx context.Context, verb, node, id string, body request, limit time.Duration) (response, error) {
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
		return a, &retryableError{fmt.Errorf("the transport answered %s %q", a.Code, truncate(a.Message))}
	case codeInternal, codeNoInstance, codeNetwork, codeBufferFull:
		return a, &retryableError{fmt.Errorf("the transport answered %s %q", a.Code, truncate(a.Message))}
	}
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return a, &retryableError{fmt.Errorf("the transport answered HTTP %d", resp.StatusCode)}
	case a.Code != "":
		return a, fmt.Errorf("%s: the transport answered %s %q", verb, a.Code, truncate(a.Message))
	case decodeErr != nil:
		return a, fmt.Errorf("%s: the transport answered HTTP %d and not in the protocol's form: %w", verb, resp.StatusCode, decodeErr)
	}
	return a, fmt.Errorf("%s: the transport answered HTTP %d without a code", verb, resp.StatusCode)
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

// truncate bounds text that others wrote.
func truncate(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return s
}
