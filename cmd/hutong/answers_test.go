package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestStopOfEndedJobs says that there was nothing to stop.
func TestStopOfEndedJobs(t *testing.T) {
	job := twoTasks()
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformStatusAll: func(w http.ResponseWriter, r *http.Request) { data(job)(w, r) },
		"POST " + bfia.PathPlatformStopAll:  respond(`{"code":0,"msg":"success"}`),
		"POST " + bfia.PathPlatformStopTask: respond(`{"code":0,"msg":"success"}`),
	})
	job.Tasks[0].State = bfia.TaskSuccess
	_, stdout, _ := p.run(t, "job", "stop", job.JobID, "--task", job.Tasks[0].Name)
	require.Contains(t, stdout, "is stopping", "a task that depends on it still runs")
	status, _, stderr := p.run(t, "job", "stop", job.JobID, "--task", "intersect_rsa_2")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr,
		`has no task "intersect_rsa_2"; it has intersect_rsa_1, hetero_secureboost_1; `+
			"did you mean intersect_rsa_1?")
	job.Tasks[1].State = bfia.TaskSuccess
	_, stdout, _ = p.run(t, "job", "stop", job.JobID, "--task", job.Tasks[1].Name)
	require.Contains(t, stdout,
		"task hetero_secureboost_1 of job "+job.JobID+" has already ended: it is SUCCESS")
	job.State, job.EndedAt = bfia.JobFinished, at(3)
	status, stdout, _ = p.run(t, "job", "stop", job.JobID)
	require.Equal(t, exitOK, status)
	require.Regexp(t, "^job "+job.JobID+` has already ended at .*: it is FINISHED \(all tasks succeeded\)\n$`,
		stdout)
	requests := p.requests()
	require.Equal(t, bfia.PathPlatformStopAll, requests[len(requests)-1].path, "it is sent all the same")
}

// TestLogsOfAnotherParty says at which party a role's log is.
func TestLogsOfAnotherParty(t *testing.T) {
	job := twoTasks()
	own, other := job.Tasks[0].Parties[0].NodeID, job.Tasks[0].Parties[1].NodeID
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformStatusAll: data(job),
		"GET " + bfia.PathHealth:            data(map[string]string{"node_id": own}),
	})
	status, _, stderr := p.run(t, "job", "logs", job.JobID, "--role", "host.0")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr,
		"--role: this party ("+own+") has no part host.0 in job "+job.JobID+"; it runs at "+other)
	_, _, stderr = p.run(t, "job", "logs", job.JobID, "--role", "hots")
	require.Contains(t, stderr, `has no part "hots"; it has guest.0, host.0; did you mean host?`)
}

// TestWrongScheme names the scheme that the port speaks.
func TestWrongScheme(t *testing.T) {
	p := newParty(t, nil)
	address := strings.TrimPrefix(p.URL, "http://")
	begun := time.Now()
	for _, args := range [][]string{{"job", "list"}, {"job", "watch", "j"},
		{"job", "submit", file(t, "{}")}} {
		status, _, stderr := runMain(t, t.Context(), []string{"HUTONG_URL=https://" + address}, "", args...)
		require.Equal(t, exitFailed, status)
		require.Equal(t,
			"hutong: https://"+address+" speaks HTTP, not HTTPS: set --url or HUTONG_URL to http://"+
				address+"\n", stderr)
	}
	require.Less(t, time.Since(begun), 20*time.Second, "nothing is tried again")

	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	address = strings.TrimPrefix(secure.URL, "https://")
	_, _, stderr := runMain(t, t.Context(), []string{"HUTONG_URL=http://" + address}, "", "job", "list")
	require.Contains(t, stderr, "speaks HTTPS, not HTTP: set --url or HUTONG_URL to https://"+address)
}

// TestNothingFound checks that commands say what they did not find, and what was meant.
func TestNothingFound(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathProviderQuery: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("name") != "" {
				data([]any{})(w, r)
				return
			}
			data([]any{map[string]any{"name": "reference", "version": "1.0.0"}})(w, r)
		},
		"POST " + bfia.PathProviderDelete: respond(`{"code":4040,"msg":"no provider matches the filter"}`),
		"GET " + bfia.PathPlatformJobList: func(w http.ResponseWriter, r *http.Request) {
			list := bfia.JobList{Jobs: []bfia.JobSummary{{JobID: "j1", State: bfia.JobRunning,
				Roles: []string{"guest.0"}, Initiator: "JGA1", Parties: []string{"JGA1", "JGB2"}}}}
			if r.URL.Query().Get("partner") != "" {
				list.Jobs = []bfia.JobSummary{}
			}
			data(list)(w, r)
		},
	})
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"provider", "show", "referense"},
			"no provider referense is registered; 'hutong provider list' shows all; did you mean reference?"},
		{[]string{"provider", "delete", "referense"}, "did you mean reference?"},
		{[]string{"job", "list", "--partner", "JGB3"},
			"No recent job has the party JGB3; their parties are JGA1, JGB2; did you mean JGB2?"},
	} {
		_, _, stderr := p.run(t, c.args...)
		require.Contains(t, stderr, c.want, c.args)
	}
	_, _, stderr := p.run(t, "job", "list", "--partner", "JGB2")
	require.Equal(t, "No jobs match, or there are none.\n", stderr)
	_, stdout, _ := p.run(t, "job", "list", "-o", "wide")
	require.Regexp(t, `ROLES +INITIATOR +PARTIES\n.*guest\.0 +JGA1 +JGA1, JGB2\n`, stdout)

	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	_, _, stderr = runMain(t, t.Context(), []string{"HUTONG_URL=" + other.URL}, "", "job", "list")
	require.Contains(t, stderr,
		"404 Not Found: check that --url or HUTONG_URL is the address of a party's API")
}

// TestHowAJobHasEnded checks the words of a stopped job, which is FINISHED on the wire.
func TestHowAJobHasEnded(t *testing.T) {
	job := twoTasks()
	job.State, job.Outcome, job.Reason = bfia.JobFinished, bfia.OutcomeStopped, "stopped by JGA1"
	require.Contains(t, alreadyEnded(job, ""), "it is STOPPED (stopped by JGA1)")
	job.Outcome, job.Reason = bfia.OutcomeFailed, "x"
	require.Contains(t, alreadyEnded(job, ""), "it is FAILED (a task failed or did not run)")
}
