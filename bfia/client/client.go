// Package client sends BFIA's east-west commands to other parties over HTTP. Its errors say whether a request
// was not delivered, was refused, or has an unknown outcome, which decides whether a caller may send it
// again.
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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hutong/bfia"
	"hutong/internal/httpclient"
)

// Outcome is the outcome of a request that did not succeed.
type Outcome string

const (
	// NotDelivered: the partner did not receive the request; a retry is safe.
	NotDelivered Outcome = "not delivered"
	// Refused: the partner answered with an error.
	Refused Outcome = "refused"
	// Unknown: the partner may have received the request; ask before a retry that is not idempotent.
	Unknown Outcome = "outcome unknown"
)

// Error describes a request to a partner that did not succeed. Its text can be shown to users.
type Error struct {
	Node    string
	Path    string
	Outcome Outcome
	Code    bfia.Code // the partner's code if it refused; [bfia.CodeRefused] if it gave none
	Text    string    // the partner's message if it refused
	// RetryAfter is how long the partner asks to wait before the next attempt; 0 if it says nothing.
	RetryAfter time.Duration
	Cause      error
}

// Error returns the partner, the path and the reason.
func (e *Error) Error() string {
	if e.Outcome == Refused {
		return fmt.Sprintf("%s refused %s: %s (code %d)", e.Node, e.Path, e.Text, e.Code)
	}
	return fmt.Sprintf("%s %s: %s: %v", e.Node, e.Path, e.Outcome, e.Cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// maxAnswer bounds the bytes that are read of a partner's answer.
const maxAnswer = 16 << 20

// Client sends commands in the name of one party.
type Client struct {
	NodeID string
	// Route returns the base URL of a node, such as http://host:9380.
	Route func(nodeID string) (string, bool)
	// Explain returns what an operator can do about a refusal of another protocol, or "". nil explains none.
	Explain func(path string, code bfia.Code) string
	// Trace begins the span of a request and adds it to the header. end ends it. nil traces nothing.
	Trace func(ctx context.Context, node, path string, header http.Header) (
		_ context.Context, end func(error))
	// Observe is called after each request with how long it took and its error. nil observes nothing.
	Observe func(node, path string, took time.Duration, err error)
	// HTTP sends the requests; nil is a client without a proxy and with a timeout of 10 s.
	HTTP *http.Client
}

// New returns a client that sends its requests over a transport, with a timeout for each.
func New(nodeID string, route func(string) (string, bool), over http.RoundTripper,
	timeout time.Duration) *Client {
	return &Client{NodeID: nodeID, Route: route, HTTP: newHTTP(over, timeout)}
}

func newHTTP(over http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: over,
		Timeout:   timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			// Do not follow redirects: commands go only to the addresses of this party's route table.
			return http.ErrUseLastResponse
		},
	}
}

// defaultHTTP serves clients without an HTTP client.
var defaultHTTP = sync.OnceValue(func() *http.Client {
	return newHTTP(httpclient.Direct(), 10*time.Second)
})

// CreateAll asks the scheduler to create a job on every party (3.1). permits are those of the initiator.
func (c *Client) CreateAll(ctx context.Context, node string, doc *bfia.Document,
	permits ...bfia.Permit) error {
	return c.sendPermits(ctx, node, http.MethodPost, bfia.PathCreateAll, doc.JobID, permits, doc.Bytes(), nil)
}

// Create creates a job at a party (3.2). permits are those of the initiator for resources of the party.
// Hutong's additions to the answer are empty if the party does not send them.
func (c *Client) Create(ctx context.Context, node string, doc *bfia.Document, permits ...bfia.Permit,
) (bfia.JobAccepted, error) {
	return c.create(ctx, node, bfia.PathCreate, doc, permits)
}

// CreateReserved creates a job at a party, and asks it to reserve the job's resources at once. A party that
// does not know this addition of Hutong only creates the job: the answer has no grant.
func (c *Client) CreateReserved(ctx context.Context, node string, doc *bfia.Document,
	request bfia.ReserveRequest, permits ...bfia.Permit) (bfia.JobAccepted, error) {
	return c.create(ctx, node, bfia.PathCreate+"?"+request.Query().Encode(), doc, permits)
}

func (c *Client) create(ctx context.Context, node, path string, doc *bfia.Document, permits []bfia.Permit,
) (bfia.JobAccepted, error) {
	var data json.RawMessage
	var accepted bfia.JobAccepted
	if err := c.sendPermits(ctx, node, http.MethodPost, path, doc.JobID, permits, doc.Bytes(),
		&data); err != nil {
		return accepted, err
	}
	if json.Unmarshal(data, &accepted) != nil {
		return bfia.JobAccepted{}, nil // not Hutong's additions
	}
	return accepted, nil
}

// Check asks a party whether it would accept a job, which creates nothing. It is Hutong's addition.
func (c *Client) Check(ctx context.Context, node string, doc *bfia.Document, permits ...bfia.Permit,
) (bfia.PartyCheck, error) {
	var check bfia.PartyCheck
	err := c.sendPermits(ctx, node, http.MethodPost, bfia.PathCheck, doc.JobID, permits, doc.Bytes(), &check)
	return check, err
}

// AuditConfirm sends a party's approval or rejection of a job to the scheduler (3.10).
func (c *Client) AuditConfirm(ctx context.Context, node string, audit bfia.Audit) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathAuditConfirm, audit.JobID, audit, nil)
}

// Start starts a job at a party (3.3).
func (c *Client) Start(ctx context.Context, node, jobID string) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathStart, jobID, bfia.JobRef{JobID: jobID}, nil)
}

// Reserve asks a party to reserve the resources of a job; see [bfia.ReserveRequest].
func (c *Client) Reserve(ctx context.Context, node string, apply bfia.ReserveRequest) (bfia.Grant, error) {
	var grant bfia.Grant
	err := c.send(ctx, node, http.MethodPost, bfia.PathReserve, apply.JobID, apply, &grant)
	return grant, err
}

// Release releases the resources that a party has granted.
func (c *Client) Release(ctx context.Context, node string, back bfia.ReleaseRequest) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathRelease, back.JobID, back, nil)
}

// CapacityHint notifies a scheduler that this party may now grant the resources of a queued job.
func (c *Client) CapacityHint(ctx context.Context, node, jobID string) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathCapacityHint, jobID, bfia.JobRef{JobID: jobID}, nil)
}

// Priority asks the scheduler to change the priority of a queued job.
func (c *Client) Priority(ctx context.Context, node string, change bfia.SetPriority) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathPriority, change.JobID, change, nil)
}

// TaskStart starts a task at a party (3.4). Never send it to FATE-Flow twice: after [Unknown], ask with
// [Client.TaskPoll].
func (c *Client) TaskStart(ctx context.Context, node string, ref bfia.TaskRef) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathTaskStart, ref.JobID, ref, nil)
}

// Stop stops a job at a party, or a task and its dependents (3.6).
func (c *Client) Stop(ctx context.Context, node string, ref bfia.JobRef) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathStop, ref.JobID, ref, nil)
}

// StopAll asks the scheduler to stop a job at all parties, or a task and its dependents (3.5).
func (c *Client) StopAll(ctx context.Context, node string, ref bfia.JobRef) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathStopAll, ref.JobID, ref, nil)
}

// StatusAll returns the status of a job from its scheduler (3.7). It uses GET, as FATE-Flow and Kuscia do.
func (c *Client) StatusAll(ctx context.Context, node, jobID string) (*bfia.JobStatus, error) {
	var status bfia.JobStatus
	path := bfia.PathStatusAll + "?job_id=" + url.QueryEscape(jobID)
	if err := c.send(ctx, node, http.MethodGet, path, jobID, bfia.JobRef{JobID: jobID}, &status); err != nil {
		return nil, err
	}
	if status.State == "" {
		return nil, &Error{
			Node:    node,
			Path:    path,
			Outcome: Unknown,
			Cause:   errors.New("the answer has no data.job_status"),
		}
	}
	return &status, nil
}

// TaskPoll returns the state of a task at a party (3.8). An empty role asks for all its roles.
func (c *Client) TaskPoll(ctx context.Context, node, taskID, role string) (*bfia.PollResult, error) {
	var result bfia.PollResult
	poll := bfia.TaskPoll{TaskID: taskID, Role: role}
	if err := c.send(ctx, node, http.MethodPost, bfia.PathTaskPoll, taskID, poll, &result); err != nil {
		return nil, err
	}
	if result.Status == "" {
		return nil, &Error{
			Node:    node,
			Path:    bfia.PathTaskPoll,
			Outcome: Unknown,
			Cause:   errors.New("the answer has no data.status"),
		}
	}
	return &result, nil
}

// TaskCallback reports a task's state to the scheduler (3.9).
func (c *Client) TaskCallback(ctx context.Context, node string, report bfia.TaskReport) error {
	return c.send(ctx, node, http.MethodPost, bfia.PathTaskCallback, report.TaskID, report, nil)
}

// Post posts body as JSON to a path of a node, for protocols other than BFIA. An answer whose code is not
// success is an error.
func (c *Client) Post(ctx context.Context, node, path, traceID string, body any) error {
	return c.send(ctx, node, http.MethodPost, path, traceID, body, nil)
}

// NoRoute returns the error for a node that the routes of party self don't contain.
func NoRoute(node, self string) error {
	return bfia.Errorf(bfia.CodeNotFound,
		"the route table has no node %s; correct the node id, or make it a partner of %s: with 'hutong "+
			"partner invite %s', or in routes of its configuration",
		node, self, node)
}

// send sends a request and decodes the data of the answer.
func (c *Client) send(ctx context.Context, node, method, path, trace string, body, data any) error {
	return c.sendPermits(ctx, node, method, path, trace, nil, body, data)
}

// sendPermits sends a request with permits.
func (c *Client) sendPermits(ctx context.Context, node, method, path, trace string, permits []bfia.Permit,
	body, data any) error {
	began := time.Now()
	err := c.exchange(ctx, node, method, path, trace, permits, body, data)
	if c.Observe != nil {
		c.Observe(node, path, time.Since(began), err)
	}
	return err
}

// exchange sends a request and reads the answer.
func (c *Client) exchange(ctx context.Context, node, method, path, trace string, permits []bfia.Permit,
	body, data any) (err error) {
	command, _, _ := strings.Cut(path, "?")
	fail := func(o Outcome, cause error) error {
		return &Error{Node: node, Path: command, Outcome: o, Cause: cause}
	}
	base, ok := c.Route(node)
	if !ok {
		return fail(NotDelivered, NoRoute(node, c.NodeID))
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
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path,
		bytes.NewReader(payload))
	if err != nil {
		return fail(NotDelivered, err)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return fail(
			NotDelivered,
			bfia.Errorf(bfia.CodeInternal,
				"the route table has %q for the node, must be an address such as http://host:9380", base),
		)
	}
	bfia.SetHeaders(req.Header, c.NodeID, node, trace, time.Now())
	req.Header.Set(bfia.HeaderTokenSet, bfia.FormatTokenSet(permits))
	if c.Trace != nil {
		traced, end := c.Trace(ctx, node, path, req.Header)
		defer func() { end(err) }()
		req = req.WithContext(traced)
	}
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
		return fail(Unknown, fmt.Errorf("failed to read the answer: %w", err))
	}
	if len(answer) > maxAnswer {
		return fail(Unknown, fmt.Errorf("the answer is larger than %d bytes", maxAnswer))
	}
	env, err := readEnvelope(resp, answer)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Node, e.Path = node, command
			if c.Explain != nil && e.Outcome == Refused {
				if remedy := c.Explain(command, e.Code); remedy != "" {
					e.Text += "; " + remedy
				}
			}
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
			return fail(Unknown, fmt.Errorf("the answer's data does not have the expected form: %w", err))
		}
	}
	return nil
}

// traceDelivery returns a function that reports, for the error of a request under ctx, whether the partner
// may have received a part of it. It can't have if there was no connection.
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
		return got.Load() || !asked.Load() // an [http.RoundTripper] without traces may have sent it
	}
}

// ForeignAnswer is an answer that is not the partner's: the page of a gateway before it, or of another server
// at its address. Whether the partner has received the request is unknown.
type ForeignAnswer struct {
	Status int    // of HTTP
	Type   string // the Content-Type
}

// Error names the answer's HTTP status and type.
func (e *ForeignAnswer) Error() string {
	kind := e.Type
	if kind == "" {
		kind = "without a type"
	}
	return fmt.Sprintf("answered by something that is not the partner's API: HTTP %d %s, %.100s", e.Status,
		http.StatusText(e.Status), kind)
}

// leastErrorCode is the least code of an envelope that comes with an HTTP error. Gateways with envelopes of
// their own repeat the HTTP status in them, or use the codes of gRPC.
const leastErrorCode bfia.Code = 1000

// readEnvelope reads the envelope of an answer. Its error is an [*Error] if the outcome is known.
func readEnvelope(resp *http.Response, answer []byte) (*bfia.Envelope, error) {
	var env struct {
		bfia.Envelope
		Code *bfia.Code `json:"code"` // nil if absent: an object without a code is not a success
	}
	status := resp.StatusCode
	enveloped := json.Unmarshal(answer, &env) == nil && env.Code != nil
	if enveloped {
		env.Envelope.Code = *env.Code
		foreign := status >= 400 && !env.OK() && env.Envelope.Code < leastErrorCode
		enveloped = !foreign
	}
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		cause := fmt.Errorf("HTTP %d: %s", status, messageOf(env.Envelope, status))
		return nil, &Error{Outcome: NotDelivered, Cause: cause, RetryAfter: retryAfter(resp.Header)}
	case !enveloped:
		return nil, &ForeignAnswer{Status: status, Type: resp.Header.Get("Content-Type")}
	case status >= 500:
		return nil, fmt.Errorf("HTTP %d: %s", status, messageOf(env.Envelope, status))
	case env.OK() && status >= 300:
		return nil, fmt.Errorf("HTTP %d and the code %d, which contradict each other", status,
			env.Envelope.Code)
	case !env.OK():
		return nil, &Error{Outcome: Refused, Code: env.Envelope.Code, Text: messageOf(env.Envelope, status)}
	}
	return &env.Envelope, nil
}

// maxRetryAfter bounds the wait that a partner can demand.
const maxRetryAfter = 5 * time.Minute

// retryAfter returns the seconds of the header Retry-After, or 0. Its other form, a date, is not used by
// limits.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
}

// messageOf returns the message of a refusal.
func messageOf(env bfia.Envelope, status int) string {
	switch s := env.Text(); {
	case s == "success" && !env.OK(): // FATE-Flow sends it with all of its codes
		return "it gave no reason"
	case s != "":
		return s
	}
	return http.StatusText(status)
}
