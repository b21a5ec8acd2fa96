// Package client speaks the east-west side of BFIA to other parties over HTTP. It tells apart what a caller must know
// before it sends again: not delivered, delivered and refused, or unknown.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hutong/bfia"
)

// Outcome says what became of a request that did not succeed.
type Outcome string

const (
	// NotDelivered: the peer has not seen it; sending it again is safe.
	NotDelivered Outcome = "not delivered"
	// Refused: the peer answered and said no.
	Refused Outcome = "refused"
	// Unknown: it may have arrived; ask before it is sent again, where sending twice is not harmless.
	Unknown Outcome = "outcome unknown"
)

// Error is a request to a peer that did not succeed. Its text may be shown to users.
type Error struct {
	Node    string
	Path    string
	Outcome Outcome
	Code    bfia.Code // the peer's code, when it refused; [bfia.CodeRefused] when it gave none
	Text    string    // the peer's words, when it refused
	Cause   error
}

// Error tells who did not do what, and why.
func (e *Error) Error() string {
	if e.Outcome == Refused {
		return fmt.Sprintf("%s refused %s: %s (code %d)", e.Node, e.Path, e.Text, e.Code)
	}
	return fmt.Sprintf("%s %s: %s: %v", e.Node, e.Path, e.Outcome, e.Cause)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// maxAnswer bounds what is read of a peer's answer.
const maxAnswer = 16 << 20

// Client sends commands in the name of one party.
type Client struct {
	NodeID string
	// Route gives the base URL of a node, such as http://host:9380.
	Route func(nodeID string) (string, bool)
	// HTTP sends; nil is a client with a timeout of 10 s.
	HTTP *http.Client
}

// New makes a client with connections of its own and a timeout for each request.
func New(nodeID string, route func(string) (string, bool), timeout time.Duration) *Client {
	return &Client{NodeID: nodeID, Route: route, HTTP: newHTTP(timeout)}
}

func newHTTP(timeout time.Duration) *http.Client {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = 64
	tr.Proxy = nil
	return &http.Client{Transport: tr, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		// A peer may not send us elsewhere: commands go where our route table says, and nowhere else.
		return http.ErrUseLastResponse
	}}
}

// defaultHTTP serves clients that were made without an HTTP client.
var defaultHTTP = sync.OnceValue(func() *http.Client { return newHTTP(10 * time.Second) })

// CreateAll asks the scheduler to create a job on every party (3.1).
func (c *Client) CreateAll(ctx context.Context, node string, doc *bfia.Document) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathCreateAll, doc.JobID, doc.Bytes(), nil)
}

// Create creates a job at a party (3.2). What a Hutong tells beside its acceptance is empty from others.
func (c *Client) Create(ctx context.Context, node string, doc *bfia.Document) (bfia.JobAccepted, error) {
	var data json.RawMessage
	var accepted bfia.JobAccepted
	if err := c.send(ctx, node, http.MethodPost, bfia.PathCreate, doc.JobID, doc.Bytes(), &data); err != nil {
		return accepted, err
	}
	if json.Unmarshal(data, &accepted) != nil {
		return bfia.JobAccepted{}, nil // whatever it is, it is no addition of ours
	}
	return accepted, nil
}

// AuditConfirm tells the scheduler a party's approval or rejection of a job (3.10).
func (c *Client) AuditConfirm(ctx context.Context, node string, audit bfia.Audit) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathAuditConfirm, audit.JobID, audit, nil)
}

// Start starts a job at a party (3.3).
func (c *Client) Start(ctx context.Context, node, jobID string) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathStart, jobID, bfia.JobRef{JobID: jobID}, nil)
}

// Reserve asks a party for a job's room; see [bfia.ReserveRequest].
func (c *Client) Reserve(ctx context.Context, node string, apply bfia.ReserveRequest) (bfia.Grant, error) {
	var grant bfia.Grant
	err := c.send(ctx, node, http.MethodPost, bfia.PathReserve, apply.JobID, apply, &grant)
	return grant, err
}

// Release gives back to a party what it granted.
func (c *Client) Release(ctx context.Context, node string, back bfia.ReleaseRequest) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathRelease, back.JobID, back, nil)
}

// CapacityHint tells a scheduler that a job that waits for room at this party may ask again.
func (c *Client) CapacityHint(ctx context.Context, node, jobID string) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathCapacityHint, jobID, bfia.JobRef{JobID: jobID}, nil)
}

// Priority asks the scheduler to change the priority of a job that waits.
func (c *Client) Priority(ctx context.Context, node string, change bfia.SetPriority) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathPriority, change.JobID, change, nil)
}

// TaskStart starts a task at a party (3.4). FATE-Flow must never be sent it twice: after [Unknown], ask with [Client.TaskPoll].
func (c *Client) TaskStart(ctx context.Context, node string, ref bfia.TaskRef) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathTaskStart, ref.JobID, ref, nil)
}

// Stop stops a job, or a task and what follows it, at a party (3.6).
func (c *Client) Stop(ctx context.Context, node string, ref bfia.JobRef) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathStop, ref.JobID, ref, nil)
}

// StopAll asks the scheduler to stop a job, or a task and what follows it, everywhere (3.5).
func (c *Client) StopAll(ctx context.Context, node string, ref bfia.JobRef) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathStopAll, ref.JobID, ref, nil)
}

// StatusAll asks the scheduler for a job's status (3.7; GET, as FATE-Flow and Kuscia have it).
func (c *Client) StatusAll(ctx context.Context, node, jobID string) (*bfia.JobStatus, error) {
	var status bfia.JobStatus
	path := bfia.PathStatusAll + "?job_id=" + url.QueryEscape(jobID)
	if err := c.send(ctx, node, http.MethodGet, path, jobID, bfia.JobRef{JobID: jobID}, &status); err != nil {
		return nil, err
	}
	if status.State == "" {
		return nil, &Error{Node: node, Path: path, Outcome: Unknown, Cause: errors.New("the answer's data has no job_status")}
	}
	return &status, nil
}

// TaskPoll asks a party for the state of a task (3.8), for all its roles when role is empty.
func (c *Client) TaskPoll(ctx context.Context, node, taskID, role string) (*bfia.PollResult, error) {
	var result bfia.PollResult
	if err := c.send(ctx, node, http.MethodPost, bfia.PathTaskPoll, taskID, bfia.TaskPoll{TaskID: taskID, Role: role}, &result); err != nil {
		return nil, err
	}
	if result.Status == "" {
		return nil, &Error{Node: node, Path: bfia.PathTaskPoll, Outcome: Unknown, Cause: errors.New("the answer's data has no status")}
	}
	return &result, nil
}

// TaskCallback reports a task's state to the scheduler (3.9).
func (c *Client) TaskCallback(ctx context.Context, node string, report bfia.TaskReport) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathTaskCallback, report.TaskID, report, nil)
}

// Post posts body as JSON to a path of a node, for protocols other than BFIA. An answer whose code is not success is
// an error.
func (c *Client) Post(ctx context.Context, node, path, traceID string, body any) error {
	return c.send(ctx, node, http.MethodPost, path, traceID, body, nil)
}

func (c *Client) send(ctx context.Context, node, method, path, trace string, body, data any) error {
	fail := func(o Outcome, cause error) error {
		return &Error{Node: node, Path: path, Outcome: o, Cause: cause}
	}
	base, ok := c.Route(node)
	if !ok {
		return fail(NotDelivered, bfia.Errorf(bfia.CodeNotFound, "the route table has no node %s", node))
	}
	payload, ok := body.([]byte)
	if !ok {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return fail(NotDelivered, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fail(NotDelivered, err)
	}
	ctx, reached := traceDelivery(ctx)
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, bytes.NewReader(payload))
	if err != nil {
		return fail(NotDelivered, err)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return fail(NotDelivered, bfia.Errorf(bfia.CodeInternal, "the route table has %q for the node, an address such as http://host:9380 is wanted", base))
	}
	bfia.SetHeaders(req.Header, c.NodeID, node, trace, time.Now())
	sender := c.HTTP
	if sender == nil {
		sender = defaultHTTP()
	}
	resp, err := sender.Do(req)
	if err != nil {
		if !reached(err) {
			return fail(NotDelivered, err)
		}
		return fail(Unknown, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fail(Unknown, fmt.Errorf("reading the answer: %w", err))
	}
	if len(answer) > maxAnswer {
		return fail(Unknown, fmt.Errorf("the answer is over %d bytes", maxAnswer))
	}
	env, err := readEnvelope(resp, answer)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Node, e.Path = node, path
			return e
		}
		return fail(Unknown, err)
	}
	if data != nil {
		if raw, any := data.(*json.RawMessage); any {
			*raw = env.Data
			return nil
		}
		if len(env.Data) == 0 || string(env.Data) == "null" {
			return fail(Unknown, errors.New("the answer has no data"))
		}
		if err := json.Unmarshal(env.Data, data); err != nil {
			return fail(Unknown, fmt.Errorf("the answer's data is not what was asked for: %w", err))
		}
	}
	return nil
}

// watch tells, of an error of a request under ctx, whether the peer may have seen something of it: it can't have when
// no connection stood.
func traceDelivery(ctx context.Context) (context.Context, func(error) bool) {
	var asked, got atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	})
	return ctx, func(err error) bool {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return false
		}
		return got.Load() || !asked.Load() // an [http.RoundTripper] that tells nothing may have sent it
	}
}

// open reads an answer's envelope. Its error is an [*Error] when the outcome is known.
func readEnvelope(resp *http.Response, answer []byte) (*bfia.Envelope, error) {
	var env struct {
		bfia.Envelope
		Code *bfia.Code `json:"code"` // nil when absent: an object without a code is no success
	}
	status := resp.StatusCode
	enveloped := json.Unmarshal(answer, &env) == nil && env.Code != nil
	if enveloped {
		env.Envelope.Code = *env.Code
	}
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return nil, &Error{Outcome: NotDelivered, Cause: fmt.Errorf("HTTP %d: %s", status, messageOf(env.Envelope, status))}
	case status >= 500:
		return nil, fmt.Errorf("HTTP %d: %s", status, messageOf(env.Envelope, status))
	case !enveloped && status >= 300:
		// A proxy's page: what answers so has not reached the protocol, and sent again it would be answered the same.
		return nil, &Error{Outcome: Refused, Code: bfia.CodeRefused, Text: fmt.Sprintf("HTTP %d %s with an answer that is no JSON envelope", status, http.StatusText(status))}
	case !enveloped:
		return nil, fmt.Errorf("HTTP %d with an answer that is no JSON envelope", status)
	case env.OK() && status >= 300:
		return nil, fmt.Errorf("HTTP %d with the code %d, which is success", status, env.Envelope.Code)
	case !env.OK():
		return nil, &Error{Outcome: Refused, Code: env.Envelope.Code, Text: messageOf(env.Envelope, status)}
	}
	return &env.Envelope, nil
}

func messageOf(env bfia.Envelope, status int) string {
	switch s := env.Text(); {
	case s == "success" && !env.OK(): // FATE-Flow says so with every code of its own
		return "it gave no reason"
	case s != "":
		return s
	}
	return http.StatusText(status)
}
