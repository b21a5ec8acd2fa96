package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func TestSubmit(t *testing.T) {
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"POST " + bfia.PathPlatformCreateAll: func(w http.ResponseWriter, r *http.Request) {
				var body struct {
					JobID string `json:"job_id"`
				}
				_ = json.NewDecoder(r.Body).Decode(&body)
				data(bfia.JobCreated{JobID: body.JobID})(w, r)
			},
		},
	)
	job := file(t, `{"dag":{},"config":{"tol":0.0001,"big":12345678901234567890,"word":"<a>"}}`)
	status, stdout, stderr := p.run(t, "job", "submit", "-f", job)
	require.Equal(t, exitOK, status, stderr)
	id := strings.TrimSpace(stdout)
	assert.Regexp(t, regexp.MustCompile(`^\d{21}$`), id)
	body := p.requests()[0].body
	assert.Contains(t, body, `"job_id":"`+id+`"`)
	assert.Contains(t, body, `0.0001`, "numbers keep their notation")
	assert.Contains(t, body, `12345678901234567890`)

	status, stdout, _ = p.run(t, "job", "submit", "-f", file(t, `{"job_id":"mine"}`))
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "mine\n", stdout)

	status, stdout, _ = runMain(t, t.Context(), []string{"HUTONG_URL=http://127.0.0.1:1"},
		`{"job_id":"piped"}`, "--url", p.URL, "job", "submit", "-f", "-")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "piped\n", stdout)

	for content, want := range map[string]string{"{\n\n]": "line 3", "[1]": "must be a JSON object",
		"null":         "must be a JSON object, but is null",
		`{"job_id":1}`: "job_id: must be a string"} {
		status, _, stderr := p.run(t, "job", "submit", "-f", file(t, content))
		assert.Equal(t, exitFailed, status)
		assert.Contains(t, stderr, want)
	}
	status, _, stderr = p.run(t, "job", "submit", "-f", "/nonexistent.json")
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "/nonexistent.json")
}

// TestSubmitRetries checks that a lost response is retried with the same job id, and an error response is
// not.
func TestSubmitRetries(t *testing.T) {
	var tries atomic.Int32
	lose := func(w http.ResponseWriter) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	p := newParty(
		t,
		map[string]http.HandlerFunc{
			"POST " + bfia.PathPlatformCreateAll: func(w http.ResponseWriter, r *http.Request) {
				if tries.Add(1) < 3 {
					lose(w)
					return
				}
				data(bfia.JobCreated{})(w, r)
			},
		},
	)
	status, stdout, stderr := p.run(t, "job", "submit", "-f", file(t, `{}`))
	require.Equal(t, exitOK, status, stderr)
	asked := p.requests()
	require.Len(t, asked, 3)
	for _, a := range asked {
		assert.Contains(t, a.body, strings.TrimSpace(stdout))
	}

	tries.Store(-100)
	status, _, stderr = p.run(t, "job", "submit", "-f", file(t, `{"job_id":"j"}`))
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "job j may have been created: check it with 'hutong job status j'")
	assert.Len(t, p.requests(), 3+maxSubmissions)

	no := newParty(
		t,
		map[string]http.HandlerFunc{
			"POST " + bfia.PathPlatformCreateAll: func(w http.ResponseWriter, _ *http.Request) {
				refuse(w, http.StatusServiceUnavailable, bfia.CodeUnavailable,
					"the scheduler can't be reached")
			},
		},
	)
	status, _, stderr = no.run(t, "job", "submit", "-f", file(t, `{}`))
	assert.Equal(t, exitFailed, status)
	assert.Equal(t, "hutong: the scheduler can't be reached\n", stderr)
	assert.Len(t, no.requests(), 1)
}

// TestSubmitToABusyParty checks that a job is sent again, with the same id, when a busy party says so. A
// limit without a time is an error.
func TestSubmitToABusyParty(t *testing.T) {
	var tries atomic.Int32
	p := newParty(t, map[string]http.HandlerFunc{"POST " + bfia.PathPlatformCreateAll: func(
		w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) < 3 {
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusTooManyRequests, bfia.CodeTooMany, "A creates as many jobs as it can")
			return
		}
		data(bfia.JobCreated{})(w, r)
	}})
	status, stdout, stderr := p.run(t, "job", "submit", "-f", file(t, `{}`))
	require.Equal(t, exitOK, status, stderr)
	asked := p.requests()
	require.Len(t, asked, 3)
	for _, a := range asked {
		assert.Contains(t, a.body, strings.TrimSpace(stdout))
	}

	full := newParty(t, map[string]http.HandlerFunc{"POST " + bfia.PathPlatformCreateAll: func(
		w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusTooManyRequests, bfia.CodeTooMany, "client alice has 1000 open jobs")
	}})
	status, _, stderr = full.run(t, "job", "submit", "-f", file(t, `{}`))
	assert.Equal(t, exitFailed, status)
	assert.Equal(t, "hutong: client alice has 1000 open jobs\n", stderr)
	assert.Len(t, full.requests(), 1)
}

// TestSubmitTakesAFile submits a job as argument, by flag and from standard input.
func TestSubmitTakesAFile(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{"POST " +
		bfia.PathPlatformCreateAll: data(bfia.JobCreated{JobID: "j"}),
		"POST " + bfia.PathProviderRegister: respond(`{"code":0,"message":"success"}`)})
	path := file(t, `{"job_id": "j"}`)
	for _, args := range [][]string{{"job", "submit", path}, {"job", "submit", "-f", path},
		{"provider", "register", path}, {"provider", "register", "-f", path}} {
		status, _, stderr := p.run(t, args...)
		require.Equal(t, exitOK, status, stderr)
	}
	for _, args := range [][]string{{"job", "submit", "-f", "-"}, {"job", "submit", "-"},
		{"provider", "register", "-f", "-"}} {
		status, _, stderr := runMain(t, t.Context(), []string{"HUTONG_URL=" + p.URL}, `{"job_id":"j"}`,
			args...)
		require.Equal(t, exitOK, status, stderr)
	}
	for _, r := range p.requests() {
		require.JSONEq(t, `{"job_id":"j"}`, r.body)
	}
}

// TestDryRun checks a job, prints what each party would do, and submits nothing.
func TestDryRun(t *testing.T) {
	yes, no := true, false
	check := bfia.JobCheck{
		Warnings: []bfia.Warning{{Task: "a", Role: "guest.0", Parameter: "lable",
			Message: "is not in the component's description; did you mean label?"}},
		Parties: []bfia.PartyCheck{{NodeID: "A", Accepts: &yes}, {NodeID: "B", Reason: "it did not answer"}},
	}
	p := newParty(t, map[string]http.HandlerFunc{
		"POST " + bfia.PathPlatformCheck: func(w http.ResponseWriter, r *http.Request) { data(check)(w, r) }})
	job := file(t, `{"job_id": "j"}`)
	status, stdout, stderr := p.run(t, "job", "submit", job, "--dry-run")
	require.Equal(t, exitOK, status, stderr)
	require.Regexp(t, `(?m)^A +yes$`, stdout)
	require.Regexp(t, `(?m)^B +unknown +it did not answer$`, stdout)
	require.Contains(t, stdout, "Nothing was created.")
	require.Equal(t, "warning: task a at guest.0: parameter lable is not in the component's description; "+
		"did you mean label?\n", stderr)

	check.Parties[1] = bfia.PartyCheck{NodeID: "B", Accepts: &no, Reason: `B has no dataset "x#y"`}
	status, stdout, _ = p.run(t, "job", "submit", job, "--dry-run")
	require.Equal(t, exitFailed, status)
	require.Regexp(t, `(?m)^B +no +B has no dataset "x#y"$`, stdout)
	for _, r := range p.requests() {
		require.Equal(t, bfia.PathPlatformCheck, r.path)
	}
}

// TestByteOrderMark reads documents as editors and shells of Windows write them.
func TestByteOrderMark(t *testing.T) {
	const document = `{"job_id": "j", "flow_id": "流程"}`
	utf16 := func(order func(r rune) []byte) string {
		out := string(order(0xFEFF))
		for _, r := range document {
			out += string(order(r))
		}
		return out
	}
	for name, text := range map[string]string{
		"UTF-8":                    "\uFEFF" + document,
		"UTF-16, little end first": utf16(func(r rune) []byte { return []byte{byte(r), byte(r >> 8)} }),
		"UTF-16, big end first":    utf16(func(r rune) []byte { return []byte{byte(r >> 8), byte(r)} }),
	} {
		object, err := readFile("-", strings.NewReader(text))
		require.NoError(t, err, name)
		require.JSONEq(t, `"流程"`, string(object["flow_id"]), name)
		object, err = readFile(file(t, text), nil)
		require.NoError(t, err, name)
		require.JSONEq(t, `"j"`, string(object["job_id"]), name)
	}
	_, err := readFile("-", strings.NewReader(""))
	require.EqualError(t, err, "standard input: is empty; must be a JSON object")
	_, err = readFile("-", strings.NewReader(`{"dag": {"version": "2.0", "version": "1.0"}}`))
	require.EqualError(t, err, "standard input: dag.version is given more than once; keep one value")
}

// TestRerun submits the document of a job again.
func TestRerun(t *testing.T) {
	job := failedJob()
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformStatusAll: func(w http.ResponseWriter, r *http.Request) { data(job)(w, r) },
		"GET " + bfia.PathJobDocument: data(map[string]any{"document": map[string]any{"job_id": "j",
			"flow_id":    "F",
			"old_job_id": "older"}}),
		"POST " + bfia.PathPlatformCreateAll: data(map[string]string{"job_id": "new"}),
	})
	submitted := func() map[string]string {
		requests := p.requests()
		var document map[string]string
		require.NoError(t, json.Unmarshal([]byte(requests[len(requests)-1].body), &document))
		require.Regexp(t, `^\d{21}$`, document["job_id"])
		delete(document, "job_id")
		return document
	}
	status, stdout, stderr := p.run(t, "job", "rerun", "j")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "new\n", stdout)
	require.Equal(t, map[string]string{"flow_id": "F", "old_job_id": "j"}, submitted())
	_, _, _ = p.run(t, "job", "rerun", "j", "--fresh")
	require.Equal(t, map[string]string{"flow_id": "F"}, submitted())

	job = twoTasks()
	status, _, stderr = p.run(t, "job", "rerun", "j")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "job j has not ended: it is RUNNING; wait for it, or stop it first")
}
