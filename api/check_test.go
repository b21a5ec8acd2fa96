package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

// TestCheckJob checks a job at this party, and creates nothing.
func TestCheckJob(t *testing.T) {
	p := newParty(t).withProvider().withData()
	check := func(body string) bfia.JobCheck {
		t.Helper()
		var answer bfia.JobCheck
		p.good(post(bfia.PathPlatformCheck, body)).into(&answer)
		return answer
	}
	answer := check(job(t, ""))
	require.Len(t, answer.Parties, 1)
	require.Equal(t, guest, answer.Parties[0].NodeID)
	require.True(t, *answer.Parties[0].Accepts)

	// Typing errors are reported.
	for _, c := range []struct {
		body, field, message string
	}{
		{edited(t, "", "99", "dag", "version"), "dag.version", "the versions of the format are 1.x and 2.x"},
		{edited(t, "", "carrier-pigeon", "config", "job_params", "common", "sync_type"),
			"config.job_params.common.sync_type",
			"is \"carrier-pigeon\", which is ignored; must be callback or poll"},
		{edited(t, "", map[string]any{"network": 1}, "config", "job_params", "guest", "0", "resources"),
			"config.job_params.guest.0.resources.network",
			"is not a field of a job and is ignored; known are"},
		{edited(t, "", "arbiter", "config", "initiator", "role"), "config.initiator.role",
			"is \"arbiter\", but config.role does not list " + guest + " there; its role is guest, host"},
		{edited(t, "", "j0", "old_job"), "old_job", "did you mean old_job_id?"},
		{edited(t, "", map[string]any{}, "conf"), "conf", "did you mean config?"},
		{strings.Replace(job(t, ""), "{", `{"flow_id": "a", "flow_id": "b",`, 1), "flow_id",
			"is given more than once; only the last value has an effect"},
		{edited(t, "", []string{guest}, "config", "role", "gust"), "config.role.gust",
			"no component of the job runs at this role; did you mean guest?"},
	} {
		found := false
		for _, w := range check(c.body).Warnings {
			found = found || w.Field == c.field && len(w.Message) > 0
			if w.Field == c.field {
				require.Contains(t, w.Message, c.message)
			}
		}
		require.True(t, found, c.field)
	}

	// So are a misspelt and a missing dataset_id, at the submission too.
	for _, path := range []string{bfia.PathPlatformCheck, bfia.PathPlatformCreateAll} {
		for name, message := range map[string]string{"datasetid": "did you mean dataset_id?",
			"dataset-id": "did you mean dataset_id?", "dataset": "did you mean dataset_id?",
			"dataset_id": "is not given, and no other task feeds the component's input"} {
			params := map[string]any{name: "testspace#test_guest"}
			if name == "dataset_id" {
				params = map[string]any{}
			}
			var answer struct{ Warnings []bfia.Warning }
			fresh := newParty(t).withProvider().withData()
			fresh.good(post(path, edited(t, "", params, "config", "task_params", "guest", "0",
				"intersect_rsa_1"))).into(&answer)
			found := ""
			for _, w := range answer.Warnings {
				if w.Task == "intersect_rsa_1" && w.Role == "guest.0" && w.Parameter == name {
					found = w.Message
				}
			}
			require.Contains(t, found, message, "%s %s", path, name)
		}
	}

	p.bad(post(bfia.PathPlatformCheck, edited(t, "", []any{}, "dag", "components")), 400, bfia.CodeBadRequest,
		"dag.components: at least one component is required")
	p.bad(post(bfia.PathPlatformCheck, job(t, "", "test_guest", "test_gust")), 404, bfia.CodeNotFound,
		`has no dataset "testspace#test_gust"`)

	require.Empty(t, p.engine.started())
	page, err := p.store.Jobs(t.Context(), store.JobFilter{})
	require.NoError(t, err)
	require.Empty(t, page.Jobs)
}

// TestCheckJobAtPartners asks the partners too. A partner that refuses, can't check or does not
// answer is reported.
func TestCheckJobAtPartners(t *testing.T) {
	p := newParty(t).withProvider().withData()
	body := edited(t, "", []string{host}, "config", "role", "host")
	ask := func() bfia.PartyCheck {
		t.Helper()
		var answer bfia.JobCheck
		p.good(post(bfia.PathPlatformCheck, body)).into(&answer)
		require.Len(t, answer.Parties, 2)
		require.Equal(t, host, answer.Parties[1].NodeID)
		return answer.Parties[1]
	}
	unreachable := ask()
	require.Nil(t, unreachable.Accepts)
	require.Contains(t, unreachable.Reason, "it did not answer: ")

	other := newParty(t, func(c *Config) { c.Node, c.Scheduler = host, host })
	p.peer(host, "http://"+other.address)
	without := ask()
	require.False(t, *without.Accepts)
	require.Contains(t, without.Reason, "is not registered")
	other.withProvider()
	require.Contains(t, ask().Reason, `has no dataset "testspace#test_host"`)
	other.withData()
	require.True(t, *ask().Accepts)
	require.Empty(t, other.engine.started())

	asked := p.answering(host, http.StatusNotFound, `{"retcode":404,"retmsg":"404 Not Found"}`)
	require.Contains(t, ask().Reason, "its software can't check a job before the creation, or a gateway "+
		"answered in its place: HTTP 404 Not Found, ")
	require.Equal(t, []string{bfia.PathCheck}, asked())

	body = edited(t, "", []string{"JG0199999900000000"}, "config", "role", "host")
	var answer bfia.JobCheck
	p.good(post(bfia.PathPlatformCheck, body)).into(&answer)
	require.False(t, *answer.Parties[1].Accepts)
	require.Contains(t, answer.Parties[1].Reason, "the route table has no node JG0199999900000000")
}
