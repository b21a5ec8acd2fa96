package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// The published example of Standard Webhooks.
const (
	exampleSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	exampleID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	exampleTimestamp = 1614265330
	exampleBody      = `{"test": 2432232314}`
	exampleSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestSignature(t *testing.T) {
	key, err := ParseSecret(exampleSecret)
	require.NoError(t, err)
	at := time.Unix(exampleTimestamp, 999)
	assert.Equal(t, exampleSignature, key.Sign(exampleID, at, []byte(exampleBody)))
	assert.NotEqual(t, exampleSignature, key.Sign(exampleID, at, []byte(exampleBody+" ")))
}

func TestParseSecret(t *testing.T) {
	secret := func(bytes int) string {
		return SecretPrefix + base64.StdEncoding.EncodeToString(make([]byte, bytes))
	}
	for _, good := range []string{secret(24), secret(32), secret(64)} {
		_, err := ParseSecret(good)
		require.NoError(t, err)
	}
	for _, bad := range []string{"", "whsec_", secret(23), secret(65), secret(32)[6:], "whsec_!!"} {
		_, err := ParseSecret(bad)
		require.ErrorContains(t, err, "openssl rand -base64 32", bad)
	}
}

func TestWants(t *testing.T) {
	job := Event{Kind: JobFailed, JobID: "j", FlowID: "f", Initiator: "A", Roles: []string{"host.1"},
		SubmittedBy: []string{"alice"}, Project: "risk"}
	for name, c := range map[string]struct {
		r    Receiver
		e    Event
		want bool
	}{
		"kind":             {Receiver{Events: []Kind{JobFailed}}, job, true},
		"failed jobs end":  {Receiver{Events: []Kind{JobEnded}}, job, true},
		"another kind":     {Receiver{Events: []Kind{Approval}}, job, false},
		"only failed":      {Receiver{Events: []Kind{JobFailed}}, Event{Kind: JobEnded, JobID: "j"}, false},
		"flow":             {Receiver{Events: []Kind{JobFailed}, Flows: []string{"x", "f"}}, job, true},
		"another flow":     {Receiver{Events: []Kind{JobFailed}, Flows: []string{"x"}}, job, false},
		"initiator":        {Receiver{Events: []Kind{JobFailed}, Initiators: []string{"A"}}, job, true},
		"another one":      {Receiver{Events: []Kind{JobFailed}, Initiators: []string{"B"}}, job, false},
		"role":             {Receiver{Events: []Kind{JobFailed}, Roles: []string{"host"}}, job, true},
		"role with number": {Receiver{Events: []Kind{JobFailed}, Roles: []string{"host.1"}}, job, true},
		"another number":   {Receiver{Events: []Kind{JobFailed}, Roles: []string{"host.0"}}, job, false},
		"client":           {Receiver{Events: []Kind{JobFailed}, Clients: []string{"alice"}}, job, true},
		"project":          {Receiver{Events: []Kind{JobFailed}, Projects: []string{"risk"}}, job, true},
		"another project":  {Receiver{Events: []Kind{JobFailed}, Projects: []string{"ads"}}, job, false},
		"another client":   {Receiver{Events: []Kind{JobFailed}, Clients: []string{"bob"}}, job, false},
		"no job": {Receiver{Events: []Kind{RunnerSilent}, Flows: []string{"f"}, Clients: []string{"bob"}},
			Event{Kind: RunnerSilent}, true},
	} {
		assert.Equal(t, c.want, c.r.Wants(c.e), name)
	}
}

// TestTexts checks that each kind of event and of failure has words in both languages, with all values.
func TestTexts(t *testing.T) {
	failures := []bfia.FailureKind{bfia.FailedExit, bfia.FailedMemory, bfia.FailedLogFiles, bfia.FailedImage,
		bfia.FailedStart, bfia.FailedInput, bfia.FailedOutput, bfia.FailedReported, bfia.FailedVanished,
		bfia.FailedKilled, bfia.FailedTemporary, bfia.FailedPartner, bfia.FailedRunnerLost,
		bfia.FailedRefused,
		bfia.FailedTimeout, bfia.FailedStopped, bfia.FailedRejected, bfia.FailedInternal, bfia.FailedUnknown}
	for language, c := range catalogues {
		for _, k := range append(Kinds(), Test) {
			e := Event{Kind: k, NodeID: "NODE", JobID: "j1", Partner: "PARTNER", Dataset: "bank#train",
				RequestID: "r1", RunnerID: "run1", Machine: "m1", Outcome: bfia.OutcomeSuccess}
			for _, link := range []string{"", "https://c/console/"} {
				m := Write(language, e, link)
				assert.NotEmpty(t, m.Subject, "%s %s", language, k)
				assert.NotContains(t, m.Subject+m.Text, "{", "%s %s", language, k)
				assert.Contains(t, m.Text, link)
			}
		}
		for _, k := range failures {
			assert.NotEmpty(t, c.failures[k], "%s %s", language, k)
		}
		assert.Len(t, c.failures, len(failures))
		assert.Len(t, c.messages, len(Kinds())+1)
		assert.Len(t, c.outcomes, len(catalogues[English].outcomes))
	}
}

func TestWrite(t *testing.T) {
	at := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	failed := Event{Kind: JobFailed, NodeID: "A", Time: at, JobID: "j1", FlowID: "nightly", Initiator: "B",
		Failure: SafeFailure(&bfia.Failure{Kind: bfia.FailedExit, ExitCode: 3, Task: "train", NodeID: "B",
			Message: "ValueError: 310101199001011234", Log: []string{"a row"}})}
	assert.Equal(t, Message{Subject: "Hutong A: job j1 failed", Text: `Job j1 failed.
Flow: nightly
Initiator: B
Reason: task train at B: exit code 3
Time: 2026-11-29T08:00:00Z

More: https://c/console/jobs/j1
`}, Write(English, failed, "https://c/console/jobs/j1"))
	assert.Equal(t, Message{Subject: "Hutong A：作业 j1 失败", Text: `作业 j1 已失败。
流程：nightly
发起方：B
原因：B 的任务 train：退出码 3
时间：2026-11-29T08:00:00Z

查看原因：hutong job status j1
`}, Write(Chinese, failed, ""))

	rejected := Event{Kind: JobEnded, Time: at, JobID: "j1", Outcome: bfia.OutcomeRejected,
		Failure: SafeFailure(&bfia.Failure{Kind: bfia.FailedRejected, By: "B",
			Message: "rejected by B: not\r\nthis month"})}
	assert.Contains(t, Write(English, rejected, "").Text, "Job j1 was rejected.\n"+
		"Reason: rejected by B: not this month\n")
	odd := Event{Kind: GrantRequest, NodeID: "A", Partner: "B\r\nBcc: x@y.example"}
	assert.NotContains(t, Write(English, odd, "").Subject, "\n")
}

// receive answers one request after the other with the given statuses.
func receive(t *testing.T, statuses ...int) (*Webhook, *[]*http.Request, *[]string) {
	t.Helper()
	var requests []*http.Request
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests, bodies = append(requests, r), append(bodies, string(body))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(statuses[min(len(requests), len(statuses))-1])
		_, _ = io.WriteString(w, "taken\nwith thanks")
	}))
	t.Cleanup(server.Close)
	key, err := ParseSecret(exampleSecret)
	require.NoError(t, err)
	return &Webhook{URL: server.URL + "/s3cret", Key: key, Client: NewClient(server.Client().Transport)},
		&requests, &bodies
}

func TestWebhook(t *testing.T) {
	hook, requests, bodies := receive(t, 204)
	n := Notifier{NodeID: "A", ConsoleURL: "https://c:1/", Receivers: []Receiver{{Name: "x",
		Language: English, Webhook: hook}}}
	r, known := n.Receiver("x")
	require.True(t, known)
	e := Event{Kind: JobFailed, NodeID: "A", JobID: "j/1", Time: time.Now()}
	answer, err := n.Send(t.Context(), r, "ntf_1", e)
	require.NoError(t, err)
	assert.Equal(t, "HTTP 204", answer)
	got := (*requests)[0]
	seconds, err := strconv.ParseInt(got.Header.Get("webhook-timestamp"), 10, 64)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), time.Unix(seconds, 0), time.Minute)
	assert.Equal(t, "ntf_1", got.Header.Get("webhook-id"))
	assert.Equal(t, hook.Key.Sign("ntf_1", time.Unix(seconds, 0), []byte((*bodies)[0])),
		got.Header.Get("webhook-signature"))
	var body Body
	require.NoError(t, json.Unmarshal([]byte((*bodies)[0]), &body))
	assert.Equal(t, JobFailed, body.Type)
	assert.Equal(t, "j/1", body.Data.JobID)
	assert.Equal(t, "https://c:1/console/jobs/j%2F1", body.Data.Link)
	assert.Equal(t, "Hutong A: job j/1 failed", body.Subject)
}

// TestWebhookFails checks that all answers from 300 on are errors, that no redirect is followed, and that no
// error holds the URL.
func TestWebhookFails(t *testing.T) {
	for _, status := range []int{301, 307, 400, 410, 429, 500, 503} {
		hook, requests, _ := receive(t, status)
		_, err := hook.send(t.Context(), "n", time.Now(), []byte("{}"))
		require.Error(t, err)
		assert.Len(t, *requests, 1, "no redirect is followed")
		if status == http.StatusGone {
			require.ErrorIs(t, err, ErrGone)
			continue
		}
		require.ErrorContains(t, err, "HTTP "+strconv.Itoa(status)+" taken with thanks")
		assert.NotContains(t, err.Error(), "s3cret")
	}
	hook, _, _ := receive(t, 200)
	hook.URL = "http://127.0.0.1:1/s3cret"
	_, err := hook.send(t.Context(), "n", time.Now(), nil)
	require.ErrorContains(t, err, "failed to send to 127.0.0.1:1")
	assert.NotContains(t, err.Error(), "s3cret")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = hook.send(ctx, "n", time.Now(), nil)
	require.ErrorIs(t, err, context.Canceled)
	assert.LessOrEqual(t, len([]rune(clip(strings.Repeat("字", 1000)))), maxAnswer+1)
}

// TestAnswerRepeatsTheSecret checks that an answer which repeats the URL, as many servers do in their errors,
// does not show the secret in it: clients with the role viewer read answers, and logs have them.
func TestAnswerRepeatsTheSecret(t *testing.T) {
	const path, key = "/services/T0/B12/Xk3vQ9s8dLw72Zba", "k=v%2Bw7secret"
	for name, body := range map[string]func(r *http.Request) string{
		"path":    func(r *http.Request) string { return "Cannot POST " + r.URL.Path },
		"request": func(r *http.Request) string { return r.RequestURI + " is not available" },
		"JSON": func(r *http.Request) string {
			return `{"path":"` + strings.ReplaceAll(r.RequestURI, "/", `\/`) + `"}`
		},
		"parts":  func(*http.Request) string { return "no hook Xk3vQ9s8dLw72Zba of B12, k is v+w7secret" },
		"HTML":   func(r *http.Request) string { return "<h1>" + html.EscapeString(r.RequestURI) + "</h1>" },
		"header": func(r *http.Request) string { return "user " + r.Header.Get("Authorization") },
		"cut":    func(r *http.Request) string { return strings.Repeat("x", maxAnswer-20) + r.URL.Path },
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			assert.Equal(t, "pa55word", password)
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, strings.Replace(body(r), r.Header.Get("Authorization"), "pa55word", 1))
		}))
		address := strings.Replace(server.URL, "http://", "http://me:pa55word@", 1)
		hook := &Webhook{URL: address + path + "?" + key, Client: NewClient(server.Client().Transport)}
		_, err := hook.send(t.Context(), "n", time.Now(), []byte("{}"))
		require.ErrorContains(t, err, "HTTP 404", name)
		for _, secret := range []string{"Xk3v", "w7secret", "pa55word"} {
			assert.NotContains(t, err.Error(), secret, name)
		}
		server.Close()
	}
	hook, _, _ := receive(t, 200)
	answer, err := hook.send(t.Context(), "n", time.Now(), []byte("{}"))
	require.NoError(t, err)
	assert.Contains(t, answer, "taken with thanks", "other answers stay as they are")
}

// TestBrokenAnswerRepeatsTheSecret checks the errors of answers that are not HTTP: Go quotes such answers.
func TestBrokenAnswerRepeatsTheSecret(t *testing.T) {
	for name, answer := range map[string]string{
		"location": "HTTP/1.1 302 Found\r\nLocation: ://%zz%s\r\nContent-Length: 0\r\n\r\n",
		"protocol": "%s is not known\r\n\r\n",
		"status":   "HTTP/1.1 %s\r\n\r\n",
		"header":   "HTTP/1.1 404 Not Found\r\n%s\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if assert.NoError(t, err) {
					_, _ = io.WriteString(conn, strings.Replace(answer, "%s", r.RequestURI, 1))
					_ = conn.Close()
				}
			}))
			defer server.Close()
			hook := &Webhook{URL: server.URL + "/services/Xk3vQ9s8dLw72Zba?k=w7secret",
				Client: NewClient(server.Client().Transport)}
			_, err := hook.send(t.Context(), "n", time.Now(), []byte("{}"))
			require.ErrorContains(t, err, "failed to send to "+hook.Host())
			for _, secret := range []string{"Xk3v", "w7secret"} {
				assert.NotContains(t, err.Error(), secret)
			}
		})
	}
}

// TestSignatureExample runs the command of docs/operators/notifications.md that checks a signature by hand.
func TestSignatureExample(t *testing.T) {
	for _, program := range []string{"sh", "openssl", "base64", "od"} {
		if _, err := exec.LookPath(program); err != nil {
			require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_OPENSSL"), err.Error())
			t.Skip(err)
		}
	}
	text, err := os.ReadFile("../../docs/operators/notifications.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "```sh\nsecret="+exampleSecret)
	require.True(t, found)
	script, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	out, err := exec.Command("sh", "-euc", "secret="+exampleSecret+script).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, exampleSignature, strings.TrimSpace(string(out)))
	require.Contains(t, string(text), "It prints `"+exampleSignature+"`")
}
