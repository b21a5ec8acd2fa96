package client

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/httpclient"
)

// newTestClient returns a client of node A whose only partner, B, is at base.
func newTestClient(t *testing.T, base string, timeout time.Duration) *Client {
	t.Helper()
	c := New("A", func(node string) (string, bool) { return base, node == "B" }, httpclient.Direct(),
		timeout)
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c
}

func peer(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return newTestClient(t, s.URL, 10*time.Second)
}

func says(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func outcome(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "B", e.Node)
	return e
}

func document(t *testing.T) *bfia.Document {
	t.Helper()
	doc, err := bfia.ParseDocument([]byte(`{"job_id":"j1","dag":{"x":"<&>","tol":0.0001},"config":{}}`))
	require.NoError(t, err)
	return doc
}

// TestCommands checks that every command reaches its path with its method and body.
func TestCommands(t *testing.T) {
	for _, test := range []struct {
		name, method, uri, body, trace string
		send                           func(context.Context, *Client) error
	}{
		{"CreateAll", "POST", bfia.PathCreateAll,
			`{"config":{},"dag":{"x":"<&>","tol":0.0001},"job_id":"j1"}`, "j1",
			func(ctx context.Context, c *Client) error { return c.CreateAll(ctx, "B", document(t)) }},
		{"Create", "POST", bfia.PathCreate, `{"config":{},"dag":{"x":"<&>","tol":0.0001},"job_id":"j1"}`,
			"j1",
			func(ctx context.Context, c *Client) error {
				_,
					err := c.Create(ctx, "B", document(t))
				return err
			}},
		{"CreateReserved", "POST", bfia.PathCreate + "?created_at=2026-11-23T04%3A12%3A03Z&reserve=1",
			`{"config":{},"dag":{"x":"<&>","tol":0.0001},"job_id":"j1"}`, "j1",
			func(ctx context.Context, c *Client) error {
				_, err := c.CreateReserved(ctx, "B", document(t), bfia.ReserveRequest{JobID: "j1",
					Generation: 1, Created: time.Date(2026, 11, 23, 4, 12, 3, 0, time.UTC)})
				return err
			}},
		{"Start", "POST", bfia.PathStart, `{"job_id":"j1"}`, "j1",
			func(ctx context.Context, c *Client) error { return c.Start(ctx, "B", "j1") }},
		{"TaskStart", "POST", bfia.PathTaskStart, `{"job_id":"j1","task_id":"t1","task_name":"psi"}`, "j1",
			func(ctx context.Context, c *Client) error {
				return c.TaskStart(ctx, "B", bfia.TaskRef{JobID: "j1", TaskID: "t1", TaskName: "psi"})
			}},
		{"Stop", "POST", bfia.PathStop, `{"job_id":"j1","task_name":"psi"}`, "j1",
			func(ctx context.Context, c *Client) error {
				return c.Stop(ctx, "B", bfia.JobRef{JobID: "j1", TaskName: "psi"})
			}},
		{"Stop a job", "POST", bfia.PathStop, `{"job_id":"j1"}`, "j1",
			func(ctx context.Context, c *Client) error { return c.Stop(ctx, "B", bfia.JobRef{JobID: "j1"}) }},
		{"StopAll", "POST", bfia.PathStopAll, `{"job_id":"j1"}`, "j1",
			func(ctx context.Context, c *Client) error {
				return c.StopAll(ctx, "B",
					bfia.JobRef{JobID: "j1"})
			}},
		{"StatusAll", "GET", bfia.PathStatusAll + "?job_id=j%261", `{"job_id":"j\u00261"}`, "j&1",
			func(ctx context.Context, c *Client) error {
				s, err := c.StatusAll(ctx, "B", "j&1")
				if err == nil {
					require.Equal(t, bfia.JobRunning, s.State)
					require.Equal(t, map[string]bfia.TaskState{"psi": bfia.TaskSuccess}, s.Status)
				}
				return err
			}},
		{"TaskPoll", "POST", bfia.PathTaskPoll, `{"task_id":"t1","role":""}`, "t1",
			func(ctx context.Context, c *Client) error {
				p, err := c.TaskPoll(ctx, "B", "t1", "")
				if err == nil {
					require.Equal(t, &bfia.PollResult{Status: bfia.TaskRunning}, p)
				}
				return err
			}},
		{"TaskCallback", "POST", bfia.PathTaskCallback,
			`{"task_id":"t1","status":"FAILED","role":"guest","reason":"exit 1"}`, "t1",
			func(ctx context.Context, c *Client) error {
				return c.TaskCallback(ctx, "B",
					bfia.TaskReport{TaskID: "t1", Status: bfia.TaskFailed, Role: "guest", Reason: "exit 1"})
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			type seen struct {
				method, uri, body string
				header            http.Header
			}
			requests := make(chan seen, 10)
			c := peer(t, func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				requests <- seen{r.Method, r.RequestURI, string(body), r.Header.Clone()}
				data := `{"status":"RUNNING"}`
				if r.URL.Path == bfia.PathStatusAll {
					data = `{"job_status":"RUNNING","status":{"psi":"SUCCESS"}}`
				}
				_, _ = io.WriteString(w, `{"code":0,"msg":"success","data":`+data+`}`)
			})
			begin := time.Now()
			require.NoError(t, test.send(t.Context(), c))
			require.Len(t, requests, 1)
			r := <-requests
			require.Equal(t, test.method, r.method)
			require.Equal(t, test.uri, r.uri)
			require.Equal(t, test.body, r.body)
			requireHeaders(t, r.header, test.trace, begin)
		})
	}
}

// requireHeaders checks a request's headers against the specification's list (part 2, 2.2) and against what
// FATE-Flow reads.
func requireHeaders(t *testing.T, h http.Header, trace string, begin time.Time) {
	t.Helper()
	for _, name := range []string{"x-auth-sign", "x-csrf-protection", "x-source-node-id", "x-target-node-id",
		"x-nonce", "x-trace-id", "x-timestamp", "x-mprac-token-set"} {
		require.Len(t, h.Values(name), 1, name)
	}
	require.Equal(t, "A", h.Get("x-source-node-id"))
	require.Equal(t, "B", h.Get("x-target-node-id"))
	require.Equal(t, trace, h.Get("x-trace-id"))
	require.Equal(t, "application/json", h.Get("Content-Type"))
	require.NoError(t, uuid.Validate(h.Get("x-nonce")))
	require.NoError(t, uuid.Validate(h.Get("x-csrf-protection")))
	millis, err := strconv.ParseInt(h.Get("x-timestamp"), 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, millis, begin.UnixMilli())
	require.LessOrEqual(t, millis, time.Now().UnixMilli())

	// A WSGI server hands headers over as variables (PEP 3333): HTTP_, upper case, hyphens as underscores.
	// FATE-Flow asks for the names with underscores.
	wsgi := map[string]string{}
	for name := range h {
		wsgi["HTTP_"+strings.ReplaceAll(strings.ToUpper(name), "-", "_")] = h.Get(name)
	}
	for name, want := range map[string]string{"x_node_id": "A", "x_trace_id": trace,
		"x_timestamp": h.Get("x-timestamp"), "x_nonce": h.Get("x-nonce"), "x_auth_sign": ""} {
		got, ok := wsgi["HTTP_"+strings.ToUpper(name)]
		require.True(t, ok, name)
		require.Equal(t, want, got, name)
	}
}

func TestSuccessInEverySpelling(t *testing.T) {
	for _, body := range []string{`{"code":0,"msg":"success","data":{"status":"SUCCESS"}}`,
		`{"code":0,"message":"success","data":{"status":"SUCCESS","more":1}}`,
		`{"code":200,"msg":"success","data":{"status":"SUCCESS"}}`,
		` {"data":{"status":"SUCCESS"},"code":0} `} {
		c := peer(t, says(200, "application/json", body))
		p, err := c.TaskPoll(t.Context(), "B", "t1", "")
		require.NoError(t, err, body)
		require.Equal(t, bfia.TaskSuccess, p.Status, body)
		require.NoError(t, c.Start(t.Context(), "B", "j1"), body)
	}
	// Where no data is asked for, none is needed.
	for _, body := range []string{`{"code":0}`, `{"code":0,"msg":"success","data":null}`,
		`{"code":200,"data":""}`} {
		require.NoError(t, peer(t, says(200, "application/json", body)).Start(t.Context(), "B", "j1"), body)
	}
	require.NoError(t, peer(t, says(201, "text/plain", `{"code":0}`)).Start(t.Context(), "B", "j1"))
}

func TestAnswersThatAreNoSuccess(t *testing.T) {
	html := "<html><body>Bad Gateway</body></html>"
	foreign := "B " + bfia.PathTaskPoll +
		": outcome unknown: answered by something that is not the partner's API: "
	for _, test := range []struct {
		name    string
		status  int
		body    string
		outcome Outcome
		code    bfia.Code
		message string
	}{
		{"FATE-Flow's refusal", 200, `{"code":6000,"message":"No found task"}`, Refused, 6000,
			"B refused /v1/interconn/schedule/task/poll: No found task (code 6000)"},
		{"FATE-Flow's bad request", 200, `{"code":5001,"message":"bad","data":{"role":"missing"}}`, Refused,
			5001,
			"B refused /v1/interconn/schedule/task/poll: bad (code 5001)"},
		{"a refusal without words", 200, `{"code":1}`, Refused, 1,
			"B refused /v1/interconn/schedule/task/poll: OK (code 1)"},
		{"4xx envelope", 404, `{"code":4040,"msg":"task_id: unknown"}`, Refused, 4040,
			"B refused /v1/interconn/schedule/task/poll: task_id: unknown (code 4040)"},
		{"4xx page", 413, html, Unknown, 0, foreign + "HTTP 413 Request Entity Too Large, text/html"},
		{"a gateway's page", 404, html, Unknown, 0, foreign + "HTTP 404 Not Found, text/html"},
		{"a gateway's envelope", 404, `{"code":404,"msg":"no service","data":null}`, Unknown, 0,
			foreign + "HTTP 404 Not Found, text/html"},
		{"a gateway's gRPC code", 404, `{"code":5,"message":"Not Found","details":[]}`, Unknown, 0,
			foreign + "HTTP 404 Not Found, text/html"},
		{"a gateway's 503", 503, `{"code":503,"message":"no upstream"}`, Unknown, 0,
			foreign + "HTTP 503 Service Unavailable, text/html"},
		{"a login page", 302, html, Unknown, 0, foreign + "HTTP 302 Found, text/html"},
		{"4xx of a framework", 404, `{"detail":"Not Found"}`, Unknown, 0,
			foreign + "HTTP 404 Not Found, text/html"},
		{"429", 429, html, NotDelivered, 0,
			"B /v1/interconn/schedule/task/poll: not delivered: HTTP 429: Too Many Requests"},
		{"408", 408, `{"code":4080,"msg":"the body did not arrive"}`, NotDelivered, 0,
			"B /v1/interconn/schedule/task/poll: not delivered: HTTP 408: the body did not arrive"},
		{"5xx envelope", 500, `{"code":5000,"msg":"internal"}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: HTTP 500: internal"},
		{"503 envelope", 503, `{"code":5030,"msg":"later"}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: HTTP 503: later"},
		{"5xx page", 502, html, Unknown, 0,
			foreign + "HTTP 502 Bad Gateway, text/html"},
		{"5xx of a framework, without a code", 500,
			`{"status":500,"error":"Internal Server Error","data":{"status":"SUCCESS"}}`, Unknown, 0,
			foreign + "HTTP 500 Internal Server Error, text/html"},
		{"5xx that says success", 500, `{"code":0,"msg":"success","data":{"status":"SUCCESS"}}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: HTTP 500: success"},
		{"4xx that says success", 400, `{"code":0,"msg":"success","data":{"status":"SUCCESS"}}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: HTTP 400 and the code 0, which contradict each other"},
		{"HTML with 200", 200, html, Unknown, 0,
			foreign + "HTTP 200 OK, text/html"},
		{"empty", 200, ``, Unknown, 0,
			foreign + "HTTP 200 OK, text/html"},
		{"an object without a code", 200, `{"data":{"status":"SUCCESS"}}`, Unknown, 0,
			foreign + "HTTP 200 OK, text/html"},
		{"null", 200, `null`, Unknown, 0,
			foreign + "HTTP 200 OK, text/html"},
		{"half an envelope", 200, `{"code":0,"data":{"sta`, Unknown, 0,
			foreign + "HTTP 200 OK, text/html"},
		{"missing data", 200, `{"code":0,"msg":"success"}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: the answer has no data"},
		{"null data", 200, `{"code":0,"msg":"success","data":null}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: the answer has no data"},
		{"data without a status", 200, `{"code":0,"msg":"success","data":{}}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: the answer has no data.status"},
		{"data of another kind", 200, `{"code":0,"data":[]}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: the answer's data does not have the expected form: json: cannot unmarshal array into Go value of type bfia.PollResult"},
		{"huge", 200, `{"code":0,"msg":"` + strings.Repeat("x", maxAnswer) + `"}`, Unknown, 0,
			"B /v1/interconn/schedule/task/poll: outcome unknown: the answer is larger than 16777216 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := peer(t, says(test.status, "text/html", test.body)).TaskPoll(t.Context(), "B", "t1", "")
			require.Nil(t, p, "nothing that could be taken for an answer")
			e := outcome(t, err)
			require.Equal(t, test.outcome, e.Outcome)
			require.Equal(t, test.code, e.Code)
			require.Equal(t, test.message, e.Error())
		})
	}
}

// TestExplain checks that a refusal of another protocol is explained, and nothing else is.
func TestExplain(t *testing.T) {
	explain := func(path string, code bfia.Code) string {
		if path == "/v2/scheduler/task/report" && code == 5003 {
			return "compare the tokens"
		}
		return ""
	}
	post := func(path, body string) string {
		c := peer(t, says(200, "application/json", body))
		c.Explain = explain
		return c.Post(t.Context(), "B", path, "t", struct{}{}).Error()
	}
	require.Equal(t, "B refused /v2/scheduler/task/report: varify failed!; compare the tokens (code 5003)",
		post("/v2/scheduler/task/report", `{"code":5003,"message":"varify failed!"}`))
	require.Equal(t, "B refused /v2/scheduler/task/report: no (code 1)",
		post("/v2/scheduler/task/report", `{"code":1,"message":"no"}`))
	require.Equal(t, "B refused /v2/other: no (code 5003)",
		post("/v2/other", `{"code":5003,"message":"no"}`))
}

func TestStatusAllWithoutAState(t *testing.T) {
	s, err := peer(t,
		says(200, "application/json", `{"code":0,"data":{"status":{}}}`)).StatusAll(t.Context(), "B", "j1")
	require.Nil(t, s)
	require.Equal(t, Unknown, outcome(t, err).Outcome)
	s, err = peer(t,
		says(200, "application/json", `{"code":4040,"msg":"no"}`)).StatusAll(t.Context(), "B", "j1")
	require.Nil(t, s)
	require.Equal(t, Refused, outcome(t, err).Outcome)
}

// TestRetryAfter checks that the time for which a partner asks is kept, and bounded.
func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0,
		"99999999": maxRetryAfter} {
		_, err := peer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"code":4290,"msg":"too many requests"}`)
		}).TaskPoll(t.Context(), "B", "t1", "")
		e := outcome(t, err)
		require.Equal(t, NotDelivered, e.Outcome)
		require.Equal(t, want, e.RetryAfter, header)
	}
}
