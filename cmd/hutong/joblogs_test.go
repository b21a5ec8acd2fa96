package main

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

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
			"[31mwords\n",
		stdout,
	)
}
