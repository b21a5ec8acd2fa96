package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// stubParty is a party whose handlers are given by a test. It records the requests.
type stubParty struct {
	*httptest.Server
	mu    sync.Mutex
	asked []request
}

type request struct {
	method, path, query, body string
}

// newParty starts a party. answers maps "METHOD path" to a handler.
func newParty(t *testing.T, answers map[string]http.HandlerFunc) *stubParty {
	t.Helper()
	p := &stubParty{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.mu.Lock()
		p.asked = append(p.asked, request{r.Method, r.URL.Path, r.URL.Query().Encode(), string(body)})
		p.mu.Unlock()
		if h := answers[r.Method+" "+r.URL.Path]; h != nil {
			h(w, r)
			return
		}
		refuse(w, http.StatusNotFound, bfia.CodeNotFound, "no route "+r.URL.Path)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *stubParty) requests() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]request(nil), p.asked...)
}

func respond(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func data(value any) http.HandlerFunc {
	b, err := json.Marshal(map[string]any{"code": 0, "msg": "success", "data": value})
	if err != nil {
		panic(err)
	}
	return respond(string(b))
}

func refuse(w http.ResponseWriter, status int, code bfia.Code, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(bfia.Envelope{Code: code, Msg: message})
}

// run runs a command line against the party.
func (p *stubParty) run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return runMain(t, t.Context(), []string{"HUTONG_URL=" + p.URL}, "", args...)
}

func runMain(t *testing.T, ctx context.Context, environ []string, stdin string,
	args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Main{Environ: environ}.Run(ctx, args, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"nothing"}, {"job"}, {"job", "nothing"}, {"job", "status"}, {"job", "status", "a", "b"},
		{"job", "submit"},
		{"job", "list", "--flaw", "x"}, {"--timeout", "soon", "job", "list"},
		{"provider", "delete"}, {"job", "delete"}, {"data", "upload"},
		{"data", "upload", "--file", "a", "--server-file", "b"}, {"data", "upload", "--server-file", "b"},
		{"data", "download", "a"}, {"--url", "localhost", "job", "list"}, {"version", "x"},
		{"worker", "--only", "nothing"},
		{"runner", "drain"}, {"runner", "undrain", "a", "b"}, {"runner", "list", "a"},
	} {
		status, stdout, stderr := runMain(t, t.Context(), []string{}, "", args...)
		assert.Equal(t, exitUsage, status, "%v: %s", args, stderr)
		assert.NotEmpty(t, stderr, args)
		assert.Empty(t, stdout, args)
	}
	status, stdout, _ := runMain(t, t.Context(), []string{}, "", "job", "--help")
	assert.Equal(t, exitOK, status)
	assert.Contains(t, stdout, "submit")
}

func TestConnectionRefused(t *testing.T) {
	status, _, stderr := runMain(t, t.Context(), []string{"HUTONG_URL=http://127.0.0.1:1"}, "", "job", "list")
	assert.Equal(t, exitFailed, status)
	assert.Contains(
		t,
		stderr,
		"failed to connect to http://127.0.0.1:1: nothing listens there; start the party, or set --url or "+
			"HUTONG_URL",
	)
}

func TestErrorResponses(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"envelope", func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusNotFound, bfia.CodeNotFound, "job x is not known here")
		}, "hutong: job x is not known here\n"},
		{"FATE's", respond(`{"code":5001,"message":"bad request","data":{}}`), "bad request"},
		{"gateway", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>")
		}, "502 Bad Gateway"},
		{"another server", respond("<html>hello"),
			"did not answer with JSON: check that --url is the address of a party's API"},
		{"no state", data(map[string]any{}), "failed to decode the job's status: job_status is missing"},
		{"wrong type", data("text"), "failed to decode the response to "},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathPlatformStatusAll: c.handler})
			status, stdout, stderr := p.run(t, "job", "watch", "x")
			assert.Equal(t, exitFailed, status)
			assert.Contains(t, stderr, c.want)
			assert.Empty(t, stdout)
		})
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathPlatformJobList: func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-release:
				case <-r.Context().Done():
				}
			},
		},
	)
	defer close(release)
	status, _, stderr := p.run(t, "--timeout", "50ms", "job", "list")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "did not answer in time")
}

func TestStatus(t *testing.T) {
	good := twoTasks()
	good.State, good.EndedAt, good.Tasks[1].State = bfia.JobFinished, at(3.2), bfia.TaskSuccess
	for _, c := range []struct {
		name   string
		job    *bfia.JobStatus
		status int
		want   string
	}{
		{"running", twoTasks(), exitOK, "● └ hetero_secureboost_1"},
		{"good", good, exitOK, "all 2 tasks SUCCESS"},
		{"failed", failedJob(), exitFailed, "FAILED  hetero_secureboost_1 host.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathPlatformStatusAll: data(c.job)})
			status, stdout, stderr := p.run(t, "job", "status", "j1")
			assert.Equal(t, c.status, status)
			assert.Contains(t, stdout, c.want)
			assert.NotContains(t, stdout, "\x1b")
			assert.Empty(t, stderr)
			assert.Equal(t, "job_id=j1", p.requests()[0].query)
			status, stdout, _ = p.run(t, "job", "status", "j1", "--json")
			assert.Equal(t, c.status, status)
			var again bfia.JobStatus
			require.NoError(t, json.Unmarshal([]byte(stdout), &again))
			assert.Equal(t, c.job.State, again.State)
		})
	}
}

func TestList(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathPlatformJobList: data(map[string]any{
		"job_list": map[string]string{"2": "FINISHED", "1": "RUNNING"}, "next": "1",
		"jobs": []bfia.JobSummary{
			{
				JobID:     "2",
				FlowID:    "F",
				State:     bfia.JobFinished,
				CreatedAt: at(0),
				StartedAt: at(1),
				EndedAt:   at(3.5),
			},
			{JobID: "1", State: bfia.JobRunning},
		}})})
	status, stdout, stderr := p.run(t, "job", "list", "--flow", "F")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "flow_id=F", p.requests()[0].query)
	rows := strings.Split(stdout, "\n")
	assert.Regexp(t, `^2    FINISHED  F     .* 2\.5s$`, rows[1])
	assert.Regexp(t, `^1    RUNNING         -$`, rows[2])
	assert.Contains(t, stderr, "--limit")

	bare := newParty(
		t,
		map[string]http.HandlerFunc{
			"GET " + bfia.PathPlatformJobList: data(
				map[string]any{"job_list": map[string]string{"1": "RUNNING", "3": "READY", "2": "FINISHED"}},
			),
		},
	)
	_, stdout, _ = bare.run(t, "job", "list")
	assert.Regexp(t, `(?s)3 .*2 .*1 `, stdout, "a party that implements only the specification")
}

// TestListSearches has a party that finds few jobs, or none, among those that it searches for one page.
func TestListSearches(t *testing.T) {
	page := func(next string, ids ...string) bfia.JobList {
		list := bfia.JobList{JobList: map[string]bfia.JobState{}, Jobs: []bfia.JobSummary{}, Next: next}
		if next != "" {
			list.SearchedTo = at(0)
		}
		for _, id := range ids {
			list.JobList[id] = bfia.JobRunning
			list.Jobs = append(list.Jobs, bfia.JobSummary{JobID: id, State: bfia.JobRunning})
		}
		return list
	}
	pages := map[string]bfia.JobList{"": page("a", "5"), "a": page("b"),
		"b": page("c", "3", "2"), "c": page("", "1")}
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformJobList: func(w http.ResponseWriter, r *http.Request) {
			data(pages[r.FormValue("before")])(w, r)
		}})
	queries := func(from int) (all []string) {
		for _, r := range p.requests()[from:] {
			all = append(all, r.query)
		}
		return all
	}

	status, stdout, stderr := p.run(t, "job", "list", "--partner", "P")
	assert.Equal(t, exitOK, status)
	assert.Regexp(t, `(?s)\n5 .*\n3 .*\n2 .*\n1 `, stdout)
	assert.NotContains(t, stderr, "more jobs")
	assert.Equal(t, []string{"partner=P", "before=a&limit=99&partner=P", "before=b&limit=99&partner=P",
		"before=c&limit=97&partner=P"}, queries(0))

	status, stdout, _ = p.run(t, "job", "list", "--partner", "P", "--limit", "3", "-o", "json")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, []string{"limit=3&partner=P", "before=a&limit=2&partner=P", "before=b&limit=2&partner=P"},
		queries(4))
	var list bfia.JobList
	require.NoError(t, json.Unmarshal([]byte(stdout), &list))
	assert.Equal(t, "c", list.Next)
	assert.Len(t, list.Jobs, 3)
	assert.Len(t, list.JobList, 3)
}

func TestStop(t *testing.T) {
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"POST " + bfia.PathPlatformStopAll:  respond(`{"code":0,"msg":"success"}`),
			"POST " + bfia.PathPlatformStopTask: respond(`{"code":0,"msg":"success"}`),
		},
	)
	status, stdout, _ := p.run(t, "job", "stop", "j")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "job j is stopping\n", stdout)
	status, _, _ = p.run(t, "job", "stop", "j", "--task", "t")
	assert.Equal(t, exitOK, status)
	assert.JSONEq(t, `{"job_id":"j"}`, p.requests()[1].body)
	assert.JSONEq(t, `{"job_id":"j","task_name":"t"}`, p.requests()[3].body)
}

// TestListOutcomes checks the list's outcomes and reasons, and its filters.
func TestListOutcomes(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathPlatformJobList: data(bfia.JobList{
		Jobs: []bfia.JobSummary{
			{JobID: "j3", State: bfia.JobPending, Waiting: []bfia.Waiting{{Kind: bfia.WaitsForApproval,
				Message: "waits for the approval of B", Since: time.Now().Add(-90 * time.Second)}}},
			{JobID: "j2", State: bfia.JobFinished, Outcome: bfia.OutcomeFailed, Reason: "task a failed at B"},
			{JobID: "j1", State: bfia.JobFinished, Outcome: bfia.OutcomeSuccess}}})})
	status, stdout, _ := p.run(t, "job", "list", "--state", "PENDING", "--outcome", "FAILED,STOPPED",
		"--flow",
		"f", "--partner", "B", "--since", "2026-01-02T15:04:05Z", "--until", "1h")
	assert.Equal(t, exitOK, status)
	assert.Regexp(t, `(?m)^j3 +PENDING .*waits for the approval of B, for 1m30s$`, stdout)
	assert.Regexp(t, `(?m)^j2 +FAILED .*task a failed at B$`, stdout)
	assert.Regexp(t, `(?m)^j1 +SUCCESS`, stdout)
	query, err := url.ParseQuery(p.requests()[0].query)
	require.NoError(t, err)
	assert.Equal(t, "PENDING", query.Get("job_status"))
	assert.Equal(t, "FAILED,STOPPED", query.Get("outcome"))
	assert.Equal(t, "f", query.Get("flow_id"))
	assert.Equal(t, "B", query.Get("partner"))
	assert.Equal(t, "2026-01-02T15:04:05Z", query.Get("since"))
	until, err := time.Parse(time.RFC3339, query.Get("until"))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(-time.Hour), until, time.Minute)

	status, _, stderr := p.run(t, "job", "list", "--since", "yesterday")
	assert.Equal(t, exitUsage, status)
	assert.Contains(t, stderr, `--since: "yesterday" is neither a time`)
}

func TestLogs(t *testing.T) {
	logs := map[string][]string{"t1": {"one", "two\x1b[2J"}, "t2": {"three"}}
	for _, form := range []string{"specification", "FATE-Flow", "numbered"} {
		t.Run(form, func(t *testing.T) {
			lines := func(w http.ResponseWriter, r *http.Request) []string {
				q := r.URL.Query()
				if q.Get("log_level") != "error" || q.Get("role") != "guest.0" {
					refuse(w, 400, bfia.CodeBadRequest, "unexpected "+q.Encode())
				}
				return logs[q.Get("task_id")]
			}
			p := newParty(t, map[string]http.HandlerFunc{
				"GET " + bfia.PathPlatformStatusAll: data(twoTasks()),
				"GET " + bfia.PathPlatformLogLines: func(w http.ResponseWriter,
					r *http.Request) {
					data(map[string]int{"num": len(lines(w, r))})(w, r)
				},
				"GET " + bfia.PathPlatformLog: func(w http.ResponseWriter, r *http.Request) {
					// One line in each response, whatever length is requested, because a party may limit it.
					var start int
					_, _ = fmt.Sscan(r.URL.Query().Get("start"), &start)
					line := lines(w, r)[start]
					var page any = line
					switch form {
					case "FATE-Flow":
						page = []string{line + "\n"}
					case "numbered":
						page = []map[string]any{{"line_num": start + 1, "content": line}}
					}
					data(map[string]any{"data": page})(w, r)
				},
			})
			status, stdout, stderr := p.run(t, "job", "logs", "j", "--role", "guest.0", "--level", "error")
			assert.Equal(t, exitOK, status, stderr)
			assert.Equal(t, "==> intersect_rsa_1 <==\none\ntwo\n==> hetero_secureboost_1 <==\nthree\n",
				stdout)
			status, stdout, _ = p.run(t, "job", "logs", "j", "--role", "guest.0", "--level", "error",
				"--task", "hetero_secureboost_1")
			assert.Equal(t, exitOK, status)
			assert.Equal(t, "three\n", stdout)
			status, _, stderr = p.run(t, "job", "logs", "j", "--task", "nothing")
			assert.Equal(t, exitFailed, status)
			assert.Contains(t, stderr,
				`--task: job j has no task "nothing"; it has intersect_rsa_1, hetero_secureboost_1`)
		})
	}
}

func FuzzLogLines(f *testing.F) {
	for _, seed := range []string{`"a\nb"`, `["a",{"content":"b"}]`, `null`, `[1]`, `{}`, `""`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var l logLines
		if json.Unmarshal(b, &l) == nil {
			for _, line := range l {
				if strings.ContainsAny(plainLog(line), "\x1b\r\n") {
					t.Fatalf("%q keeps control characters", line)
				}
			}
		}
	})
}

const reports = "r"

func TestConfigAndVersion(t *testing.T) {
	status, stdout, stderr := runMain(t, t.Context(),
		[]string{"HUTONG_NODE_ID=JG01", "HUTONG_DATABASE_URL=postgres://u:hush@h/d"}, "", "config")
	require.Equal(t, exitOK, status, stderr)
	assert.Contains(t, stdout, "node_id: JG01")
	assert.NotContains(t, stdout, "hush")
	status, _, stderr = runMain(t, t.Context(), []string{}, "", "config")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "no configuration is given: name the party's file with -c FILE")
	status, stdout, _ = runMain(t, t.Context(), []string{}, "", "version")
	assert.Equal(t, exitOK, status)
	assert.Regexp(t, `^hutong .*go1\.`, stdout)
}

func TestTransferLine(t *testing.T) {
	assert.Equal(t, "f: 50% of 2.0 KiB", (&transfer{what: "f", done: 1024, total: 2048}).line())
	assert.Equal(t, "f: 100% of 0 B", (&transfer{what: "f"}).line())
	assert.Equal(t, "f: 1.0 KiB", (&transfer{what: "f", done: 1024, total: -1}).line())
}
