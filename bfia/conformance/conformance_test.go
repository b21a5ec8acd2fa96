package conformance

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const job = `{"dag":{"version":"2.0","components":[{"name":"a","componentName":"C","provider":"p","version":"1","input":[],"output":[]}]},
	"config":{"version":"2.0","initiator":{"role":"guest","node_id":"X"},"role":{"guest":["X"],"host":["Y","Z"]},"job_params":{},"task_params":{}},"vendor":1.50}`

// stub starts a server that gives every request the same answer.
func stub(t *testing.T, status int, body string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestStubsFail checks that a server which gives every request the same answer does not conform.
func TestStubsFail(t *testing.T) {
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	for name, url := range map[string]string{
		"yes":  stub(t, 200, `{"code":0,"msg":"success","data":{}}`),
		"no":   stub(t, 200, `{"code":1,"msg":"failed","data":{}}`),
		"html": stub(t, 200, "<html>"),
		"null": stub(t, 200, "null"),
		"numbers": stub(t, 200,
			`{"code":0,"msg":7,"data":{"status":7,"job_status":7,"num":"x","data":7,"job_list":[]}}`),
		"nothing": down.URL,
	} {
		results, err := Run(t.Context(), Target{URL: url, Node: "X", Job: []byte(job), Timeout: 1}, nil)
		require.NoError(t, err)
		require.Len(t, results, len(Checks()))
		require.False(t, Conforms(results), name)
		for _, r := range results {
			require.NotEmpty(t, r.Observed, "%s: %s %s", name, r.Endpoint, r.Aspect)
			if name == "html" || name == "nothing" {
				require.NotEqual(t, Pass, r.Outcome, "%s: %s %s: %s", name, r.Endpoint, r.Aspect, r.Observed)
			}
		}
	}
}

func TestTestJob(t *testing.T) {
	s, err := newSession(Target{URL: "http://a", Node: "N", Job: []byte(job)})
	require.NoError(t, err)
	first, err := s.newTestJob()
	require.NoError(t, err)
	second, err := s.newTestJob()
	require.NoError(t, err)
	require.NotEqual(t, first.id, second.id)
	require.Equal(t, []string{"N"}, first.doc.Config.Nodes())
	require.Equal(t, "N", first.doc.Config.Initiator.NodeID)
	require.Equal(t, "guest", first.doc.Config.Initiator.Role)
	require.Contains(t, string(first.doc.Bytes()), `"vendor":1.50`, "what is not ours to set stays")

	_, err = newSession(Target{URL: "http://a", Job: []byte(job)})
	require.ErrorContains(t, err, "node")
	_, err = newSession(Target{URL: "http://a", Node: "N", Job: []byte(`{}`)})
	require.ErrorContains(t, err, "the job: dag: is required")
}

func TestTable(t *testing.T) {
	results := []Result{
		{Check{"GET /x", "a|b", "2/1", nil}, Pass, "one\ntwo"},
		{Check{"GET /y", "c", "2/2", nil}, Fail, "no"},
	}
	var b bytes.Buffer
	require.NoError(t, Markdown(&b, results))
	require.Equal(t,
		"| ENDPOINT | ASPECT | SECTION | RESULT | OBSERVED |\n| --- | --- | --- | --- | --- |\n| GET /x | a\\|b | 2/1 | ok | one two |\n| GET /y | c | 2/2 | FAIL | no |\n",
		b.String())
	require.Equal(t, "2 checks: 1 ok, 0 deviate, 1 failed, 0 skipped", Summary(results))
	seen := map[string]bool{}
	for _, c := range Checks() {
		name := c.Endpoint + " " + c.Aspect
		require.False(t, seen[name], "two checks are called %q", name)
		require.False(t, strings.Contains(name, "|"))
		seen[name] = true
	}
}

// FuzzAnswer checks that answers of any kind get an outcome and never cause a panic.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{`{"code":0,"msg":"success","data":{"status":{"a":"READY"}}}`,
		`{"code":"0","data":null}`, `[]`, `{"code":1e400}`, "\xff"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &session{
			Target: Target{URL: "http://a", Node: "N", HTTP: &http.Client{Transport: fixedTransport(body)}},
		}
		a, err := s.ask(t.Context(), http.MethodGet, "/x", nil)
		require.NoError(t, err)
		if good, refused := a.checkSuccess(), a.checkRefusal(); good == nil && refused == nil {
			t.Fatalf("both taken and refused: %s", a)
		}
		_, _ = a.stringField("status")
		_, _ = a.mapField("status")
		require.Less(t, len(a.String()), 400)
	})
}

type fixedTransport []byte

func (f fixedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(f)), Request: r}, nil
}
