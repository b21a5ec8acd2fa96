package interop

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/test/testenv/apiclient"
)

const (
	theirApp   = "40000071" // with which FATE-Flow authenticates at Hutong
	theirToken = "AbCdEfGh01234567"
	wrongToken = "0000000000000000"
)

// TestSiteAuthentication runs jobs with FATE-Flow's site authentication on: FATE-Flow's commands, and
// Hutong's reports and stops, are signed. A wrong token at either side is refused with FATE-Flow's code 5003,
// and Hutong says what to do about it.
func TestSiteAuthentication(t *testing.T) {
	env := sharedEnvironment(t)
	site := env.turnOnSiteAuthentication(t)

	t.Run("jobs succeed", func(t *testing.T) {
		for _, sync := range []string{"callback", "poll"} {
			id := env.submitFateFlow(t, fateFlowDAG{seconds: "1", sync: sync})
			env.awaitFateFlowProtocol(t, id, "success")
			require.Equal(t, map[string]bfia.TaskState{"s1": "success", "s2": "success"},
				env.fateFlow.scheduledTasks(t, id))
			require.NotEmpty(t, env.toHutong.exchangesWith(fateflow.PathJobCreate, id))
			reports := env.toFateFlow.exchangesWith(fateflow.PathSchedulerTaskReport, id)
			require.NotEmpty(t, reports)
			for _, report := range reports {
				require.Contains(t, report.answer, `"code":0`)
			}
		}
	})
	t.Run("Hutong schedules", func(t *testing.T) {
		// FATE-Flow as the participant of a job of BFIA demands nothing, and calls nobody.
		id := hutongSchedules.submit(t, env, sleepJob{tasks: 2})
		hutongSchedules.await(t, env, id)
		env.requireSuccess(t, id, "s1", "s2")
		env.requireNoContainers(t, id)
	})
	t.Run("a request that proves nothing", func(t *testing.T) {
		a, err := apiclient.Send(t.Context(), http.MethodPost,
			"http://"+env.hutong.partners+fateflow.PathJobCreate, []byte(`{}`))
		require.NoError(t, err)
		require.Equal(t, bfia.CodeUnauthenticated, a.Code, "%s", a.Body)
	})
	t.Run("Hutong has a wrong token of FATE-Flow", func(t *testing.T) {
		site.theirToken = wrongToken
		site.apply(t, env)
		a := env.fateFlow.request(t, http.MethodPost, "/v2/job/submit",
			fateFlowDAG{seconds: "1", sync: "callback"}.document())
		require.False(t, a.OK(), a.raw)
		id, _ := decode(t, []byte(a.raw))["job_id"].(string)
		env.fateFlow.deleteJob(t, id)
		refused := env.toHutong.exchangesWith(fateflow.PathJobCreate, id)
		require.NotEmpty(t, refused)
		require.Contains(t, refused[0].answer, `"code":5003`)
		require.Contains(t, a.raw, "verify failed", "Hutong's message must reach FATE-Flow's client")
	})
	t.Run("Hutong has a wrong token of its own", func(t *testing.T) {
		site.theirToken, site.token = theirToken, wrongToken
		site.apply(t, env)
		id := env.submitFateFlow(t, fateFlowDAG{seconds: "300", sync: "poll"})
		require.Eventually(t, func() bool { return env.hutong.status(t, id).State == bfia.JobRunning },
			jobTimeout, pollInterval, "the job runs")
		a := env.hutong.request(t, http.MethodPost, bfia.PathPlatformStopAll, bfia.JobRef{JobID: id})
		require.False(t, a.OK(), a.raw)
		require.Contains(t, a.raw, "compare fate.app_token_file of its route", "the remedy must be named")
		refused := env.toFateFlow.exchangesWith(fateflow.PathSchedulerJobStop, id)
		require.NotEmpty(t, refused)
		require.Contains(t, refused[0].answer, `"code":5003`, "FATE-Flow's own answer")

		stopped := env.fateFlow.request(t, http.MethodPost, "/v2/job/stop", map[string]any{"job_id": id})
		require.True(t, stopped.OK(), stopped.raw)
		require.Eventually(t, // canceled, since FATE-Flow gets no report of the task that was stopped
			func() bool { s := env.fateFlow.scheduledState(t, id); return s == "failed" || s == "canceled" },
			jobTimeout, pollInterval, "the job ends at FATE-Flow")
		env.awaitHutong(t, id, isFinished)
		env.requireNoContainers(t, id)
	})
}

// siteAuthentication holds the apps of both sides, as Hutong's operator has configured them.
type siteAuthentication struct {
	original   []byte // the party's configuration without them
	app, token string // of Hutong at FATE-Flow
	theirToken string
}

// turnOnSiteAuthentication starts both parties again with site authentication, as docs/operators/fateflow.md
// says. The end of the test turns it off.
func (env *environment) turnOnSiteAuthentication(t *testing.T) *siteAuthentication {
	t.Helper()
	original, err := os.ReadFile(env.hutong.config)
	require.NoError(t, err)
	s := &siteAuthentication{original: original, theirToken: theirToken}
	restart := func(on bool) {
		env.fateFlow.kill()
		env.fateFlow.SiteAuthentication = on
		require.NoError(t, env.fateFlow.Configure())
		env.fateFlow.restart(t)
	}
	t.Cleanup(func() {
		env.hutong.kill()
		require.NoError(t, os.WriteFile(env.hutong.config, original, 0o600))
		restart(false)
		env.hutong.restart(t)
	})
	restart(true)

	var app struct {
		ID    string `json:"app_id"`
		Token string `json:"app_token"`
	}
	env.fateFlow.administer(t, "/v2/app/site/create", map[string]any{"party_id": hutongNode}, &app)
	require.NotEmpty(t, app.Token)
	env.fateFlow.administer(t, "/v2/permission/grant", map[string]any{"app_id": app.ID, "role": "site"}, nil)
	env.fateFlow.administer(t, "/v2/app/partner/create",
		map[string]any{"party_id": hutongNode, "app_id": theirApp, "app_token": theirToken}, nil)
	s.app, s.token = app.ID, app.Token
	s.apply(t, env)
	return s
}

// apply starts Hutong's API and worker with these apps.
func (s *siteAuthentication) apply(t *testing.T, env *environment) {
	t.Helper()
	token := func(name, text string) string {
		file := filepath.Join(env.hutong.dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text+"\n"), 0o600))
		return file
	}
	env.hutong.kill()
	var settings map[string]any
	require.NoError(t, yaml.Unmarshal(s.original, &settings))
	route := settings["routes"].(map[string]any)[fateFlowNode].(map[string]any)
	delete(route, "from")
	route["auth"] = "fate-site"
	route["fate"] = map[string]any{"app_id": s.app, "app_token_file": token("app", s.token),
		"their_app_id": theirApp, "their_app_token_file": token("their-app", s.theirToken)}
	writeYAML(t, env.hutong.config, settings)
	env.hutong.restart(t)
}

// administer sends a request of FATE-Flow's administrator, and decodes the answer's data. With client
// authentication off, the app id alone proves the administrator.
func (f *fateFlowParty) administer(t *testing.T, path string, body map[string]any, data any) {
	t.Helper()
	a, err := apiclient.Send(t.Context(), http.MethodPost, f.url+path, marshal(t, body), "appId", "admin")
	require.NoError(t, err)
	require.True(t, a.OK(), "%s: %s", path, a.Body)
	if data != nil {
		require.NoError(t, json.Unmarshal(a.Data, data), "%s: %s", path, a.Body)
	}
}
