package gate_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/gate"
)

// A container reports the state of its own part, and of no other one.
func TestCallbackIsOfTheOwnPart(t *testing.T) {
	p := newParty(t)
	callback, password := gate.CallbackPath(""), p.keys.StoragePassword("process")
	path := func(container string) string { return gate.CallbackPath(p.keys.Token(container)) }
	for name, test := range map[string]struct {
		address, path, task, role, token string
		status                           int
	}{
		"own part":             {"127.0.0.2", callback, taskA, "guest.0", "", 200},
		"role without number":  {"127.0.0.4", callback, taskA, "host", "", 200},
		"with its token":       {"127.0.0.3", callback, taskB, "guest.0", p.keys.Token("b"), 200},
		"token in the path":    {"127.0.0.1", path("process"), taskA, "arbiter.0", "", 200},
		"another task":         {"127.0.0.2", callback, taskB, "guest.0", "", 403},
		"another role":         {"127.0.0.2", callback, taskA, "host.0", "", 403},
		"number of the role":   {"127.0.0.2", callback, taskA, "guest.1", "", 403},
		"another's token":      {"127.0.0.2", callback, taskB, "guest.0", p.keys.Token("b"), 403},
		"another's path":       {"127.0.0.2", path("b"), taskB, "guest.0", "", 403},
		"a process's token":    {"127.0.0.2", callback, taskA, "arbiter.0", p.keys.Token("process"), 403},
		"a forged token":       {"127.0.0.1", callback, taskA, "arbiter.0", "process.forged", 403},
		"a token of no one":    {"127.0.0.1", callback, taskA, "arbiter.0", p.keys.Token("ended"), 403},
		"nobody":               {"127.0.0.9", callback, taskA, "guest.0", "", 403},
		"the token's password": {"127.0.0.1", callback, taskA, "arbiter.0", "process." + password, 403},
	} {
		t.Run(name, func(t *testing.T) {
			p.reports = nil
			status, answer := p.post(
				t,
				test.address,
				test.path,
				reportOf(test.task, test.role, bfia.TaskSuccess),
				"x_ptp_token",
				test.token,
			)
			require.Equal(t, test.status, status, answer)
			if status != 200 {
				require.Empty(t, p.reports)
				return
			}
			require.Len(t, p.reports, 1)
			require.Equal(t, test.task, p.reports[0].TaskID)
			require.Contains(t, p.reports[0].Role, ".", "the exact role")
		})
	}
}

// A container that reports without end causes a bounded number of signals, and one end.
func TestCallbacksAreBounded(t *testing.T) {
	p := newParty(t)
	callback := gate.CallbackPath("")
	client := from("127.0.0.2")
	client.Transport.(*http.Transport).DisableKeepAlives = false
	states := []bfia.TaskState{bfia.TaskRunning, bfia.TaskPending}
	send := func(state bfia.TaskState) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.server.URL+callback,
			strings.NewReader(reportOf(taskA, "guest.0", state)))
		require.NoError(t, err)
		answer, err := client.Do(r)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, answer.Body)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode
	}
	for range 1000 {
		require.Equal(t, 200, send(bfia.TaskRunning))
	}
	require.Len(t, p.reports, 1, "the same state again is not passed on")
	refused := 0
	for i := range 1000 {
		if send(states[i%2]) != 200 {
			refused++
		}
	}
	require.Len(t, p.reports, 20)
	require.Positive(t, refused)

	// Another container is not affected, and after its end it reports nothing.
	for range 100 {
		status, _ := p.post(t, "127.0.0.3", callback, reportOf(taskB, "guest.0", bfia.TaskSuccess))
		require.Equal(t, 200, status)
		status, _ = p.post(t, "127.0.0.3", callback, reportOf(taskB, "guest.0", bfia.TaskRunning))
		require.Equal(t, 200, status)
	}
	require.Len(t, p.reports, 21)
	require.Equal(t, bfia.TaskSuccess, p.reports[20].Status)
}

// A report that could not be passed on may be repeated.
func TestCallbackIsRepeatedAfterFailure(t *testing.T) {
	p := newParty(t)
	p.reportErr = bfia.Errorf(bfia.CodeUnavailable, "Temporal does not answer")
	status, _ := p.post(t, "127.0.0.2", gate.CallbackPath(""), reportOf(taskA, "guest.0", bfia.TaskSuccess))
	require.Equal(t, 503, status)
	p.reportErr = nil
	status, _ = p.post(t, "127.0.0.2", gate.CallbackPath(""), reportOf(taskA, "guest.0", bfia.TaskSuccess))
	require.Equal(t, 200, status)
	require.Len(t, p.reports, 1)

	p.listErr = errors.New("the daemon does not answer at 10.0.0.1")
	p.gate.BeginStart()()
	status, answer := p.post(
		t,
		"127.0.0.2",
		gate.CallbackPath(""),
		reportOf(taskA, "guest.0", bfia.TaskFailed),
	)
	require.Equal(t, 503, status)
	require.NotContains(t, answer, "10.0.0.1")
}

func TestMalformedCallbacks(t *testing.T) {
	p := newParty(t)
	for name, body := range map[string]string{"empty": "", "no JSON": "{", "list": "[]", "two": "{}{}",
		"no role": `{"task_id":"` + taskA + `","status":"SUCCESS"}`, "state": reportOf(taskA, "guest.0", "DONE"),
		"not UTF-8": "{\"task_id\":\"\xff\"}", "long": `{"role":"` + strings.Repeat("x", 65<<10) + `"}`} {
		status, answer := p.post(t, "127.0.0.2", gate.CallbackPath(""), body)
		require.Contains(t, []int{400, 413}, status, "%s: %s", name, answer)
	}
	require.Empty(t, p.reports)
	status, _ := p.post(t, "127.0.0.2", "/v2/data/query", "")
	require.Equal(t, 404, status)
	answer, err := from("127.0.0.2").Get(p.server.URL + gate.CallbackPath(""))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, 405, answer.StatusCode)
}

// Some containers append the path to an address that ends with a slash.
func TestCallbackPathInAnySpelling(t *testing.T) {
	callback := gate.CallbackPath("")
	spellings := []string{"/" + callback, callback + "/", strings.ReplaceAll(callback, "/", "///") + "//"}
	for _, path := range spellings {
		p := newParty(t)
		status, answer := p.post(t, "127.0.0.2", path, reportOf(taskA, "guest.0", bfia.TaskSuccess))
		require.Equal(t, 200, status, "%s: %s", path, answer)
		require.Len(t, p.reports, 1)
	}
}
