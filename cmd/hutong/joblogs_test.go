package main

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestJobLogsFollow checks that new lines of each part are printed until the party reports that the logs are
// complete.
func TestJobLogsFollow(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	logs := map[string][]string{}
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformStatusAll: func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			parts := []bfia.PartStatus{
				{NodeID: "A", Role: "guest"},
				{NodeID: "A", Role: "host"},
				{NodeID: "B", Role: "host", Index: 1},
			}
			status := bfia.JobStatus{
				JobID: "j",
				State: bfia.JobRunning,
				Tasks: []bfia.TaskStatus{{Name: "psi"}, {Name: "lr"}},
			}
			switch {
			case asked == 1: // nothing has started
			case asked < 4:
				status.Tasks[0].TaskID, status.Tasks[0].Parties = "t1", parts
				logs["t1 guest.0"] = append(logs["t1 guest.0"], "guest "+strconv.Itoa(asked))
				if asked == 3 {
					logs["t1 host.0"] = append(logs["t1 host.0"], "host "+strconv.Itoa(asked))
				}
			case asked == 4: // a temporary failure
				refuse(w, http.StatusServiceUnavailable, bfia.CodeUnavailable, "Temporal does not answer")
				return
			default:
				status.Tasks[0].TaskID, status.Tasks[0].Parties = "t1", parts
				status.State, status.Tasks[0].State, status.Tasks[1].State = bfia.JobFinished,
					bfia.TaskFailed, bfia.TaskReady
				if asked == 6 {
					logs["t1 guest.0"] = append(logs["t1 guest.0"], "the last \x1b[31mwords")
				}
			}
			data(status)(w, r)
		},
		"GET " + bfia.PathPlatformLogLines: func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			q := r.URL.Query()
			if q.Get("role") == "host.1" {
				refuse(w, http.StatusNotFound, bfia.CodeNotFound, "no such part here")
				return
			}
			data(
				map[string]any{"num": len(logs[q.Get("task_id")+" "+q.Get("role")]), "complete": asked >= 6},
			)(w, r)
		},
		"GET " + bfia.PathPlatformLog: func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			q := r.URL.Query()
			start, err := strconv.Atoi(q.Get("start"))
			if err != nil {
				refuse(w, http.StatusBadRequest, bfia.CodeBadRequest, err.Error())
				return
			}
			data(
				map[string]any{"data": strings.Join(logs[q.Get("task_id")+" "+q.Get("role")][start:], "\n")},
			)(w, r)
		},
	})
	status, stdout, stderr := p.run(t, "job", "logs", "j", "-f")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(
		t,
		"==> psi guest.0 <==\nguest 2\nguest 3\n==> psi host.0 <==\nhost 3\n==> psi guest.0 <==\nthe last "+
			"words\n",
		stdout,
	)
}

// attemptsParty is a party whose task psi is in its second attempt, with a log of each attempt.
func attemptsParty(t *testing.T, first, second string) *stubParty {
	logs := map[string]string{"1": "the first attempt", "2": "the second attempt"}
	attempt := func(r *http.Request) string {
		if number := r.URL.Query().Get("attempt"); number != "" {
			return number
		}
		return map[string]string{first: "1", second: "2"}[r.URL.Query().Get("task_id")]
	}
	return newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformStatusAll: data(bfia.JobStatus{JobID: "j", State: bfia.JobFinished,
			Tasks: []bfia.TaskStatus{{Name: "psi", TaskID: second, Attempt: 2}}}),
		"GET " + bfia.PathPlatformLogLines: func(w http.ResponseWriter, r *http.Request) {
			if logs[attempt(r)] == "" {
				refuse(w, http.StatusNotFound, bfia.CodeNotFound,
					"attempt: task psi has no attempt "+attempt(r))
				return
			}
			data(map[string]any{"num": 1, "complete": false,
				"unfinished": []string{" 33%|\x1b[32m██\x1b[0m"}})(w, r)
		},
		"GET " + bfia.PathPlatformLog: func(w http.ResponseWriter, r *http.Request) {
			data(map[string]any{"data": logs[attempt(r)]})(w, r)
		},
	})
}

// TestJobLogsOfAnAttempt prints the log of one attempt, by its number and by its task id, and the line that
// its container has not ended yet.
func TestJobLogsOfAnAttempt(t *testing.T) {
	first, second := bfia.AttemptID("j", "psi", 1), bfia.AttemptID("j", "psi", 2)
	p := attemptsParty(t, first, second)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "the second attempt\n 33%|██\n"},
		{[]string{"--task", "psi", "--attempt", "1"}, "the first attempt\n 33%|██\n"},
		{[]string{"--attempt", "1"}, "the first attempt\n 33%|██\n"},
		{[]string{"--task", first}, "the first attempt\n 33%|██\n"},
		{[]string{"--task", second}, "the second attempt\n 33%|██\n"},
	} {
		status, stdout, stderr := p.run(t, append([]string{"job", "logs", "j"}, c.args...)...)
		require.Equal(t, exitOK, status, stderr)
		require.Equal(t, c.want, stdout, "%v", c.args)
	}
	for want, args := range map[string][]string{
		"has no attempt 3":                        {"--attempt", "3"},
		"--attempt: attempts are numbered from 1": {"--attempt", "0"},
		`--task: job j has no task "` + bfia.AttemptID("j", "psi", 3): {"--task",
			bfia.AttemptID("j", "psi", 3)},
	} {
		status, _, stderr := p.run(t, append([]string{"job", "logs", "j"}, args...)...)
		require.Equal(t, exitFailed, status)
		require.Contains(t, stderr, want)
	}
}

// TestProgressLine prints a progress bar's state as a line now and then if the output is no terminal.
func TestProgressLine(t *testing.T) {
	var out strings.Builder
	p := progressLine{out: &out}
	start := time.Now()
	for i, text := range []string{"1%", "2%", "2%", "", "3%"} {
		require.NoError(t, p.show(text, start.Add(time.Duration(i)*2*time.Second)))
	}
	require.Equal(t, "1%\n3%\n", out.String())
}
