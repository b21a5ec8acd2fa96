package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"hutong/bfia"
	"hutong/store"
)

// commandGroup is a group of commands about one kind of thing, and such a thing at a party.
type commandGroup struct {
	name    string
	show    []string // the thing, as arguments; none: it has no show
	shown   string   // what list and show print of it
	unknown []string // a thing that does not exist
	remove  string   // the command that deletes it; empty: there is none
	stays   string   // what list says of a deleted thing whose record stays
}

// TestCommandGroups walks list, show and delete of all groups of commands at a real party, in all formats and
// by the names that users of kubectl and of Temporal's command line expect.
func TestCommandGroups(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	n := pair.guest
	n.start()
	pair.host.start()
	registration := editJSON(t, sleepProvider(t), func(f map[string]any) {
		sleep := f["components_description"].(map[string]any)["Sleep"].(map[string]any)
		sleep["outputData"] = []any{map[string]any{"name": "m", "category": "model"}}
	})
	for _, party := range []*testParty{n, pair.host} {
		party.register(registration, bfia.DeviceProcess)
	}
	n.upload("guest.csv", "demo", "rows")
	job := editJSON(t, sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil), func(f map[string]any) {
		f["dag"].(map[string]any)["components"].([]any)[0].(map[string]any)["output"] = []any{
			map[string]string{"type": "model", "key": "m"}}
	})
	jobID := n.submit(job)
	requireSuccess(t, n.awaitJob(jobID, time.Minute, isFinished))
	n.mustCommand("model", "keep", jobID)
	document := filepath.Join(t.TempDir(), "job.json")
	require.NoError(t, os.WriteFile(document, job, 0o600))
	n.mustCommand("periodic", "add", document, "--name", "nightly", "--cron", "0 2 * * *", "--timezone",
		"Asia/Shanghai")
	n.mustCommand("project", "create", "spare")
	n.mustCommand("token", "create", "--name", "visitor", "--roles", "viewer")
	n.mustCommand("grant", "add", "--partner", hostNode, "--component", "test:1/Sleep", "--dataset",
		"demo#rows")
	_, err := n.database().Notice(t.Context(), store.Occurrence{Subject: store.SubjectEnd, ObjectID: jobID,
		OccurredAt: time.Now()}, []store.Notification{{NotificationID: "ntf_1", Event: "job_ended",
		Receiver: "duty", JobID: jobID, Content: "{}"}})
	require.NoError(t, err)
	idOf := func(group, field, other string) string {
		var list []map[string]any
		require.NoError(t, json.Unmarshal([]byte(n.mustCommand(group, "list", "-o", "json")), &list))
		for _, thing := range list {
			text, err := json.Marshal(thing)
			require.NoError(t, err)
			if strings.Contains(string(text), other) {
				return thing[field].(string)
			}
		}
		require.Fail(t, "nothing is listed", "%s with %s in %v", group, other, list)
		return ""
	}
	model, token := idOf("model", "model", jobID), idOf("token", "token_id", "visitor")
	grant, runner := idOf("grant", "grant_id", "demo#rows"), idOf("runner", "runner_id", "online")

	groups := []commandGroup{
		{name: "job", show: []string{jobID}, shown: jobID, unknown: []string{"none"}, remove: "delete"},
		{name: "data", show: []string{"demo", "rows"}, shown: "rows", unknown: []string{"demo", "none"},
			remove: "delete"},
		{name: "model", show: []string{model}, shown: model, unknown: []string{"none:a"}, remove: "delete"},
		{name: "provider", show: []string{"test"}, shown: "test", unknown: []string{"none"},
			remove: "delete"},
		{name: "runner", show: []string{runner}, shown: runner, unknown: []string{"none"}},
		{name: "partner", show: []string{hostNode}, shown: hostNode, unknown: []string{"none"}},
		{name: "grant", show: []string{grant}, shown: grant, unknown: []string{"none"}, remove: "delete",
			stays: "revoked"},
		{name: "token", show: []string{token}, shown: token, unknown: []string{"none"}, remove: "delete",
			stays: "revoked"},
		{name: "project", show: []string{"spare"}, shown: "spare", unknown: []string{"none"},
			remove: "delete"},
		{name: "periodic", show: []string{"nightly"}, shown: "nightly", unknown: []string{"none"},
			remove: "delete"},
		{name: "notification", show: []string{"ntf_1"}, shown: "ntf_1", unknown: []string{"none"}},
		{name: "audit", shown: "token.create"},
	}
	// Every group that lists things is in the table.
	listed := regexp.MustCompile(`hutong (\S+) list`).FindAllStringSubmatch(n.failing("list"), -1)
	require.Len(t, groups, len(listed))
	for _, g := range groups {
		require.Contains(t, n.failing("list"), "hutong "+g.name+" list")
		n.requireListed(g)
		if g.show != nil {
			n.requireShown(g)
		}
	}
	for _, g := range groups {
		if g.remove != "" {
			n.requireRemoved(g)
		}
	}
	require.Contains(t, n.failing("partner", "delete", hostNode), "configuration", "it is in routes")
}

// failing runs a command that must fail, and returns its output.
func (n *testParty) failing(args ...string) string {
	n.t.Helper()
	out, ok := n.command(args...)
	require.False(n.t, ok, "%v: %s", args, out)
	return out
}

// requireListed checks the list of a group in all formats.
func (n *testParty) requireListed(g commandGroup) {
	n.t.Helper()
	head := regexp.MustCompile(`^[A-Z][A-Z0-9 ]+[A-Z0-9]$`)
	var narrow int
	for _, args := range [][]string{{g.name, "list"}, {g.name, "ls"}, {g.name, "list", "-o", "wide"}} {
		out := n.mustCommand(args...)
		first, rest, _ := strings.Cut(out, "\n")
		require.Regexp(n.t, head, first, "%v", args)
		require.Contains(n.t, rest, g.shown, "%v", args)
		require.GreaterOrEqual(n.t, len(strings.Fields(first)), narrow, "%v", args)
		narrow = len(strings.Fields(first))
	}
	n.requireDocument(g.shown, g.name, "list")
}

// requireShown checks that show has a thing in all formats, and refuses one that does not exist.
func (n *testParty) requireShown(g commandGroup) {
	n.t.Helper()
	for _, verb := range []string{"show", "get", "describe"} {
		out := n.mustCommand(append([]string{g.name, verb}, g.show...)...)
		require.Contains(n.t, out, g.shown, "%s %s", g.name, verb)
		require.NotRegexp(n.t, `^[\[{]`, out, "%s %s is for people", g.name, verb)
	}
	n.requireDocument(g.shown, append([]string{g.name, "show"}, g.show...)...)
	out := n.failing(append([]string{g.name, "show"}, g.unknown...)...)
	require.Contains(n.t, out, "hutong: ", "%s", g.name)
	require.Contains(n.t, out, g.unknown[len(g.unknown)-1], "%s names what it did not find", g.name)
}

// requireDocument checks that a command prints the same document as JSON, by both flags, and as YAML.
func (n *testParty) requireDocument(has string, args ...string) {
	n.t.Helper()
	keys := func(text string) map[string]bool {
		var value any
		require.NoError(n.t, json.Unmarshal([]byte(text), &value), "%v: %s", args, text)
		found := map[string]bool{}
		collectKeys(value, "", found)
		return found
	}
	document := n.mustCommand(append(args, "-o", "json")...)
	require.Contains(n.t, document, has, "%v", args)
	require.Equal(n.t, keys(document), keys(n.mustCommand(append(args, "--json")...)), "%v", args)
	out := n.mustCommand(append(args, "-o", "yaml")...)
	require.NotRegexp(n.t, `^[\[{]`, out, "%v", args)
	converted, err := yaml.YAMLToJSON([]byte(out))
	require.NoError(n.t, err, "%v: %s", args, out)
	require.Equal(n.t, keys(document), keys(string(converted)), "%v", args)
	require.Contains(n.t, n.failing(append(args, "-o", "xml")...), "must be one of json, yaml, wide")
}

// collectKeys collects the paths of all fields of a document. Times and counts change between two commands.
func collectKeys(value any, path string, found map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			found[path+"."+key] = true
			collectKeys(v, path+"."+key, found)
		}
	case []any:
		for _, v := range value {
			collectKeys(v, path+"[]", found)
		}
	}
}

// requireRemoved deletes a thing. Then list does not have it, or says that it has no effect any more.
func (n *testParty) requireRemoved(g commandGroup) {
	n.t.Helper()
	require.Contains(n.t, n.failing(append([]string{g.name, g.remove}, g.unknown...)...), "hutong: ", g.name)
	out := n.mustCommand(append([]string{g.name, g.remove}, g.show...)...)
	require.Contains(n.t, out, strings.Join(g.show, "#"), "%s says what it deleted", g.name)
	line := lineWith(n.mustCommand(g.name, "list"), g.show[len(g.show)-1])
	if g.stays != "" {
		require.Contains(n.t, line, g.stays, g.name)
		return
	}
	require.Empty(n.t, line, g.name)
	require.Contains(n.t, n.failing(append([]string{g.name, "show"}, g.show...)...), "hutong: ", g.name)
}

// TestEmptyLists checks that a list without entries keeps its head, and says on the standard error that there
// are none.
func TestEmptyLists(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.start()
	for group, words := range map[string]string{"job": "There are no jobs.", "data": "There are no datasets.",
		"model": "There are no models.", "provider": "There are no providers."} {
		out := pair.guest.mustCommand(group, "list")
		require.Regexp(t, `^[A-Z]`, out, group)
		require.Contains(t, out, words, group)
	}
	out := pair.guest.mustCommand("data", "list", "--namespace", "x", "-o", "json")
	require.JSONEq(t, "[]", out, "programs get the list alone")
}
