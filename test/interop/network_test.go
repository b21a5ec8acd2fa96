package interop

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestRejectedJob has the partner refuse a job. The initiator's client reads the partner's message, and no
// open job is left.
func TestRejectedJob(t *testing.T) {
	env := sharedEnvironment(t)
	t.Run("by FATE-Flow", func(t *testing.T) {
		document := hutongSchedules.job(sleepJob{tasks: 1}).document(t)
		job := decode(t, document)
		delete(job["dag"].(map[string]any), "version") // which FATE-Flow requires
		a := env.hutong.request(t, http.MethodPost, bfia.PathPlatformCreateAll, marshal(t, job))
		require.False(t, a.OK(), a.raw)
		require.Contains(t, a.Text(), fateFlowNode+":", a.raw)
		require.Contains(t, a.Text(), "version", "FATE-Flow's own message: %s", a.raw)
		env.requireNoOpenJobsAtHutong(t)
		require.Empty(
			t,
			env.fateFlow.query(t,
				"select 1 from t_job where f_status <> 'FINISHED' and f_scheduler_party_id = ?",
				hutongNode),
		)
	})
	t.Run("by Hutong", func(t *testing.T) {
		before := env.fateFlow.query(t, "select f_job_id from t_schedule_job")
		a := env.fateFlow.request(
			t,
			http.MethodPost,
			bfia.PathPlatformCreateAll,
			fateFlowSchedules.job(sleepJob{tasks: 1, data: map[string]string{"host": "interop#unknown"}}).
				document(t),
		)
		require.False(t, a.OK(), a.raw)
		require.Contains(t, a.raw, "interop#unknown", "Hutong's message must reach FATE-Flow's client")
		env.requireNoOpenJobsAtHutong(t)
		env.requireStuckJob(t, before)
	})
}

// TestPartnerDownAtCreation submits a job while the partner is down.
func TestPartnerDownAtCreation(t *testing.T) {
	env := sharedEnvironment(t)
	t.Run("FATE-Flow is down", func(t *testing.T) {
		env.toFateFlow.down()
		began := time.Now()
		a := env.hutong.request(t, http.MethodPost, bfia.PathPlatformCreateAll,
			hutongSchedules.job(sleepJob{tasks: 1}).document(t))
		require.False(t, a.OK(), a.raw)
		require.Equal(t, bfia.CodePartnerDown, a.Code, a.raw)
		require.Contains(t, a.Text(), fateFlowNode+":")
		require.Contains(t, a.Text(), "connection refused")
		require.Less(t, time.Since(began), time.Minute)
		env.requireNoOpenJobsAtHutong(t)
		env.toFateFlow.reset()
	})
	t.Run("Hutong is down", func(t *testing.T) {
		before := env.fateFlow.query(t, "select f_job_id from t_schedule_job")
		env.toHutong.down()
		a := env.fateFlow.request(t, http.MethodPost, bfia.PathPlatformCreateAll,
			fateFlowSchedules.job(sleepJob{tasks: 1}).document(t))
		require.False(t, a.OK(), a.raw)
		require.Contains(t, a.raw, "Connection refused")
		env.toHutong.reset()
		env.requireNoOpenJobsAtHutong(t)
		env.requireStuckJob(t, before)
	})
}

// requireStuckJob checks what FATE-Flow 2.2.0 itself keeps of a job that was not created everywhere: a row
// that it tries to schedule forever. It starts nothing at Hutong, which answers that it does not know the
// job. The row is then deleted, as FATE-Flow's operator must.
func (env *environment) requireStuckJob(t *testing.T, before [][]string) {
	t.Helper()
	for _, row := range env.fateFlow.query(t, "select f_job_id from t_schedule_job") {
		if slices.ContainsFunc(before, func(b []string) bool { return b[0] == row[0] }) {
			continue
		}
		// If FATE-Flow's scheduler comes by while Hutong is still down, it takes the job as started.
		require.Eventually(t, func() bool {
			return len(env.toHutong.exchangesWith(bfia.PathStart, row[0])) > 0 ||
				env.fateFlow.scheduledState(t, row[0]) == bfia.JobRunning
		}, jobTimeout, pollInterval)
		for _, start := range env.toHutong.exchangesWith(bfia.PathStart, row[0]) {
			require.Contains(t, start.answer, "knows no job "+row[0])
		}
		require.Empty(t, env.fateFlow.scheduledTasks(t, row[0]))
		env.requireNoContainers(t, row[0])
		env.fateFlow.deleteJob(t, row[0])
	}
}

// requireNoOpenJobsAtHutong waits until Hutong has no unfinished job, in no role.
func (env *environment) requireNoOpenJobsAtHutong(t *testing.T) {
	t.Helper()
	var list bfia.JobList
	require.Eventually(t, func() bool {
		list = bfia.JobList{}
		env.hutong.mustRequest(t, http.MethodGet, bfia.PathPlatformJobList+"?flow_id=interop", nil, &list)
		return !slices.ContainsFunc(list.Jobs, func(j bfia.JobSummary) bool { return !j.State.Terminal() })
	}, time.Minute, pollInterval, "jobs are left at Hutong: %v", &list)
}

// TestOutage disconnects the parties for 60 s while two jobs run, one in each direction. Tasks end meanwhile.
// When the network is up again, both jobs continue and succeed.
func TestOutage(t *testing.T) {
	env := sharedEnvironment(t)
	job := sleepJob{tasks: 2, seconds: map[string]int{"s1": 25}}
	ours, theirs := hutongSchedules.submit(t, env, job), fateFlowSchedules.submit(t, env, job)
	env.awaitContainers(t, ours)
	env.awaitContainers(t, theirs)
	env.toFateFlow.down()
	env.toHutong.down()
	back := time.Now().Add(time.Minute)
	for _, id := range []string{ours, theirs} { // both parties record the end of their own part
		require.Eventually(t, func() bool {
			return env.fateFlow.tasks(t, id)["s1"] == bfia.TaskSuccess &&
				env.hutongTasks(t, id)["s1"] == bfia.TaskSuccess
		}, jobTimeout, pollInterval)
	}
	require.Equal(t, bfia.JobRunning, env.hutong.status(t, ours).State)
	require.Equal(t, bfia.JobRunning, env.fateFlow.scheduledState(t, theirs))
	time.Sleep(time.Until(back)) // until the outage is over
	require.Equal(t, bfia.JobRunning, env.hutong.status(t, ours).State)
	require.Equal(t, bfia.JobRunning, env.fateFlow.scheduledState(t, theirs))
	env.toFateFlow.reset()
	env.toHutong.reset()
	env.requireBothSucceed(t, ours, theirs)
}

// requireBothSucceed waits until two jobs of two Sleep tasks, one in each direction, succeed.
func (env *environment) requireBothSucceed(t *testing.T, ours, theirs string) {
	t.Helper()
	hutongSchedules.await(t, env, ours)
	fateFlowSchedules.await(t, env, theirs)
	for _, id := range []string{ours, theirs} {
		env.requireSuccess(t, id, "s1", "s2")
		env.requireNoContainers(t, id)
	}
}

// TestSlowNetwork delays every request and answer by seconds, in both directions. Both jobs succeed.
func TestSlowNetwork(t *testing.T) {
	env := sharedEnvironment(t)
	env.toFateFlow.disturb(disturbance{before: time.Second, after: 2 * time.Second})
	env.toHutong.disturb(disturbance{before: time.Second, after: 2 * time.Second})
	job := sleepJob{tasks: 2}
	ours, theirs := hutongSchedules.submit(t, env, job), fateFlowSchedules.submit(t, env, job)
	env.requireBothSucceed(t, ours, theirs)
}

// TestSlowerThanTimeout delays FATE-Flow's answers to task/start beyond Hutong's timeout. Hutong then polls
// the task. It sends task/start only once, since FATE-Flow runs a task twice that is started twice.
func TestSlowerThanTimeout(t *testing.T) {
	env := sharedEnvironment(t)
	env.toFateFlow.disturb(disturbance{slow: func(path string) time.Duration {
		if path == bfia.PathTaskStart {
			return answerTimeout + 2*time.Second
		}
		return 0
	}})
	id := hutongSchedules.submit(t, env, sleepJob{tasks: 2})
	hutongSchedules.await(t, env, id)
	env.requireSuccess(t, id, "s1", "s2")
	env.requireNoContainers(t, id)
	for _, task := range []string{"s1", "s2"} {
		require.Len(t, env.toFateFlow.exchangesWith(bfia.PathTaskStart, task), 1)
	}
}

// TestDuplicatedMessages delivers FATE-Flow's requests to Hutong twice, and those of Hutong that FATE-Flow
// may get twice. Answers arrive twice on their connection. Both jobs succeed.
func TestDuplicatedMessages(t *testing.T) {
	env := sharedEnvironment(t)
	env.toHutong.disturb(disturbance{duplicate: func(string) bool { return true }, echo: true})
	env.toFateFlow.disturb(
		disturbance{duplicate: func(path string) bool { return path != bfia.PathTaskStart }, echo: true},
	)
	job := sleepJob{tasks: 2}
	ours, theirs := hutongSchedules.submit(t, env, job), fateFlowSchedules.submit(t, env, job)
	env.requireBothSucceed(t, ours, theirs)
}

// TestGarbledAnswers replaces the first answers to each command by nonsense, so that the sender cannot know
// whether the command was accepted. Both jobs succeed. FATE-Flow itself abandons a job whose creation or
// start is answered so, so only its polls and callbacks are affected.
func TestGarbledAnswers(t *testing.T) {
	env := sharedEnvironment(t)
	nonsense := []string{"<html>sorry</html>", `{}`, `[]`, `{"code":"zero"}`, "",
		`{"code":0,"data":{"status":17}}`}
	garble := func(paths ...string) func(string, int) (int, string, bool) {
		return func(path string, count int) (int, string, bool) {
			if len(paths) > 0 && !slices.Contains(paths, path) {
				return 0, "", false
			}
			return http.StatusOK, nonsense[count%len(nonsense)], count <= 3
		}
	}
	env.toFateFlow.disturb(disturbance{garble: garble()})
	env.toHutong.disturb(disturbance{garble: garble(bfia.PathTaskPoll, bfia.PathTaskCallback)})
	job := sleepJob{tasks: 2, seconds: map[string]int{"s1": 3}}
	ours, theirs := hutongSchedules.submit(t, env, job), fateFlowSchedules.submit(t, env, job)
	env.requireBothSucceed(t, ours, theirs)
	for _, task := range []string{"s1", "s2"} {
		require.Len(t, env.toFateFlow.exchangesWith(bfia.PathTaskStart, task), 1)
	}
}

// TestKilledAndFrozen kills each party's processes, and freezes FATE-Flow for longer than Hutong's timeout,
// while containers run. The jobs continue afterwards.
func TestKilledAndFrozen(t *testing.T) {
	env := sharedEnvironment(t)
	for _, c := range []struct {
		name   string
		length time.Duration
		away   func() (back func())
	}{
		{"FATE-Flow is killed", 4 * time.Second, func() func() {
			env.fateFlow.kill()
			return func() { env.fateFlow.restart(t) }
		}},
		{"FATE-Flow is frozen", answerTimeout + 3*time.Second, func() func() {
			env.fateFlow.freeze()
			return env.fateFlow.unfreeze
		}},
		{"Hutong is killed", 4 * time.Second, func() func() {
			env.hutong.kill()
			return func() { env.hutong.restart(t) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			job := sleepJob{tasks: 2, seconds: map[string]int{"s1": 20}}
			ours, theirs := hutongSchedules.submit(t, env, job), fateFlowSchedules.submit(t, env, job)
			env.awaitContainers(t, ours)
			env.awaitContainers(t, theirs)
			back := c.away()
			time.Sleep(c.length) // the duration of the outage
			back()
			env.requireBothSucceed(t, ours, theirs)
		})
	}
}
