package main

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/devserver"
)

// leaves returns all commands that people run.
func leaves(cmd *cobra.Command) (list []*cobra.Command) {
	if !cmd.HasSubCommands() && cmd.IsAvailableCommand() {
		return []*cobra.Command{cmd}
	}
	for _, sub := range cmd.Commands() {
		list = append(list, leaves(sub)...)
	}
	return list
}

// TestHelpHasExamples checks that the help of each command shows how to call it, by examples that it accepts.
func TestHelpHasExamples(t *testing.T) {
	for _, cmd := range leaves(Main{Environ: []string{}}.newRootCommand()) {
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		require.NotEmpty(t, cmd.Example, cmd.CommandPath())
		for _, line := range strings.Split(strings.TrimSpace(cmd.Example), "\n") {
			// What is before hutong are variables or another program; what follows | or > is the shell's.
			_, text, found := strings.Cut(" "+line, " hutong ")
			require.True(t, found, line)
			text, _, _ = strings.Cut(text, " | ")
			text, _, _ = strings.Cut(text, " > ")
			var args []string
			for _, word := range exampleWord.FindAllString(text, -1) {
				args = append(args, strings.NewReplacer("'", "", `"`, "").Replace(word))
			}
			if k := slices.Index(args, "#"); k >= 0 { // a comment
				args = args[:k]
			}

			called, rest, err := Main{Environ: []string{}}.newRootCommand().Find(args)
			require.NoError(t, err, line)
			require.Equal(t, cmd.CommandPath(), called.CommandPath(), line)
			require.NoError(t, called.ParseFlags(rest), line)
			require.NoError(t, called.ValidateArgs(called.Flags().Args()), line)
			require.NoError(t, called.ValidateRequiredFlags(), line)
			require.NoError(t, called.ValidateFlagGroups(), line)
		}
	}
}

// TestGroupsAreAlike checks that each group of commands about things of a party has the same commands, under
// the names that users of kubectl and of Temporal's command line expect, and that their help says so.
func TestGroupsAreAlike(t *testing.T) {
	// What is recorded of acts can't be deleted, and a runner deregisters when its worker stops.
	without := map[string][]string{"audit": {"show", "describe", "delete"}, "runner": {"delete"},
		"notification": {"delete"}}
	names := map[string]string{"list": "ls", "show": "get", "describe": "get", "delete": "rm"}
	groups := 0
	for _, group := range (Main{Environ: []string{}}).newRootCommand().Commands() {
		if list, _, err := group.Find([]string{"list"}); err != nil || list == group {
			continue
		}
		groups++
		for name, alias := range names {
			cmd, _, err := group.Find([]string{name})
			if slices.Contains(without[group.Name()], name) {
				require.True(t, err != nil || cmd == group, "hutong %s %s", group.Name(), name)
				continue
			}
			require.NoError(t, err)
			require.NotEqual(t, group, cmd, "hutong %s %s is missing", group.Name(), name)
			require.True(t, cmd.HasAlias(alias), cmd.CommandPath())
			status, help, stderr := runMain(t, t.Context(), []string{}, "", group.Name(), name, "--help")
			require.Equal(t, exitOK, status, stderr)
			require.Contains(t, help, "Examples:\n", cmd.CommandPath())
			require.Contains(t, help, "Aliases:\n  "+cmd.Name()+", ", cmd.CommandPath())
			if name != "delete" {
				require.Contains(t, help, "-o, --format string", cmd.CommandPath())
				require.Contains(t, help, "json, yaml, wide", cmd.CommandPath())
			}
		}
	}
	require.Equal(t, 12, groups)
}

// exampleWord matches the arguments in a line for a shell, with their quotes.
var exampleWord = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)

// TestDurationFlags checks that all flags read durations alike.
func TestDurationFlags(t *testing.T) {
	root := Main{Environ: []string{}}.newRootCommand()
	found := 0
	check := func(f *pflag.Flag) {
		if f.Value.Type() != "duration" {
			return
		}
		found++
		require.NoError(t, f.Value.Set("30d"), f.Name)
		require.ErrorContains(t, f.Value.Set("30"), "is not a duration", f.Name)
	}
	root.PersistentFlags().VisitAll(check)
	for _, cmd := range leaves(root) {
		cmd.Flags().VisitAll(check)
	}
	require.GreaterOrEqual(t, found, 4)
}

func TestVersionNamesTheCommit(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"version"}} {
		status, stdout, _ := runMain(t, t.Context(), []string{}, "", args...)
		assert.Equal(t, exitOK, status)
		assert.Regexp(t, `^hutong \S+, commit \S.*, go1\.\S+, .*Temporal.*\n$`, stdout)
	}
	info := &debug.BuildInfo{GoVersion: "go1.26", Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}}
	assert.Contains(t, describeBuild(info), "commit 0123456789ab with changes, go1.26")
}

// TestTypingErrors checks that errors of the command line name what was meant, and the command's own help.
func TestTypingErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"jbo"}, []string{`unknown command "jbo" for "hutong"; did you mean job?`,
			"See 'hutong --help'."}},
		{[]string{"job", "lst"}, []string{"did you mean list?", "See 'hutong job --help'."}},
		{[]string{"job", "list", "--flaw", "x"},
			[]string{"unknown flag: --flaw; did you mean --flow?", "See 'hutong job list --help'."}},
		{[]string{"job", "status"}, []string{"ID is missing", "Usage: hutong job status ID",
			"See 'hutong job status --help'."}},
		{[]string{"job", "status", "a", "b"}, []string{`"b" is one argument too many`}},
		{[]string{"job", "submit"}, []string{"no file is given: name it, or - for standard input",
			"See 'hutong job submit --help'."}},
		{[]string{"job", "submit", "a", "-f", "b"}, []string{"a and -f are both given"}},
		{[]string{"job", "logs", "1", "--level", "eror"},
			[]string{"must be one of debug, info, warning, error; did you mean error?"}},
		{[]string{"job", "list", "-o", "yml"},
			[]string{"must be one of json, yaml, wide; did you mean yaml?"}},
		{[]string{"job", "outputs", "1", "-o", "file"}, []string{"-o: needs --output"}},
		{[]string{"--timeout", "30", "job", "list"},
			[]string{`"30" is not a duration: write numbers with units`}},
		{[]string{"list"},
			[]string{"did you mean hutong audit list or hutong data list or hutong grant list or hutong job list or hutong model list or hutong notification list or hutong partner list or hutong periodic list or hutong project list or hutong provider list or hutong runner list or hutong token list?"}},
		{[]string{"watch"}, []string{"did you mean hutong job watch?"}},
		{[]string{"submit", "f"}, []string{"did you mean hutong job submit?"}},
		{[]string{"job", "list", "extra"}, []string{`"extra" is one argument too many`}},
		{[]string{"job", "submit", "a", "b"}, []string{`"b" is one argument too many`}},
		{[]string{"job", "delete"}, []string{"ID is missing"}},
		{[]string{"job", "probe"}, []string{"NODE_ID is missing"}},
		{[]string{"job", "priority"}, []string{"ID and PRIORITY are missing"}},
		{[]string{"data", "upload", "d.csv"},
			[]string{`"d.csv" is one argument too many; name the file with --file`}},
		{[]string{"job", "list", "--limit", "x"}, []string{"must be a whole number, at least 0"}},
		{[]string{"job", "list", "--limit", "-1"}, []string{"must be a whole number, at least 0"}},
		{[]string{"job", "logs", "1", "--attempt", "one"}, []string{"must be a whole number, at least 0"}},
		{[]string{"job", "list", "--state", "SUCCESS"},
			[]string{"--state: SUCCESS", "use --outcome SUCCESS"}},
		{[]string{"job", "list", "--outcome", "FAILED,pending"}, []string{"use --state PENDING"}},
		{[]string{"job", "list", "--state", "RUNING"}, []string{"did you mean RUNNING?"}},
		{[]string{"dev", "--party", "A"}, []string{"--party:", "See 'hutong dev --help'."}},
		{[]string{"worker", "--only", "runer"},
			[]string{"did you mean runner?", "See 'hutong worker --help'."}},
	} {
		status, _, stderr := runMain(t, t.Context(), []string{}, "", c.args...)
		assert.Equal(t, exitUsage, status, c.args)
		for _, want := range c.want {
			assert.Contains(t, stderr, want, c.args)
		}
	}
}

// TestConfigurationMissing checks the words of all commands that read a configuration.
func TestConfigurationMissing(t *testing.T) {
	t.Setenv("HUTONG_NODE_ID", "")
	t.Setenv("HUTONG_CONFIG", "")
	for _, command := range []string{"api", "worker", "transport", "migrate", "config", "doctor"} {
		status, stdout, stderr := runMain(t, t.Context(), []string{}, "", command)
		assert.Equal(t, exitFailed, status)
		assert.Contains(t, stdout+stderr, "no configuration is given: name the party's file with -c FILE",
			command)
		assert.NotContains(t, stdout+stderr, "node_id", command)
	}
}

// TestDevDataFolderIsIgnored checks that git does not offer what dev and the demo write into the repository.
func TestDevDataFolderIsIgnored(t *testing.T) {
	ignored, err := os.ReadFile("../../.gitignore")
	require.NoError(t, err)
	require.Contains(t, strings.Split(string(ignored), "\n"), defaultDataDir+"/")
	for _, command := range []string{"dev", "demo"} {
		cmd, _, err := Main{Environ: []string{}}.newRootCommand().Find([]string{command})
		require.NoError(t, err)
		require.Equal(t, defaultDataDir, cmd.Flags().Lookup("data-dir").DefValue)
	}
}

// TestDemoNamesTheCommandOfDev checks that dev, started with the printed command, has the ports that were
// printed.
func TestDemoNamesTheCommandOfDev(t *testing.T) {
	standard := devserver.Options{DataDir: defaultDataDir, TemporalPort: defaultTemporalPort,
		UIPort:  defaultUIPort,
		Parties: devserver.DefaultParties()}
	require.Equal(t, "bin/hutong dev", devCommand(standard))
	other := devserver.Options{DataDir: "d", TemporalPort: 20000, UIPort: 20002,
		Parties: []devserver.PartyAddress{{NodeID: "A", Listen: "127.0.0.1:20004"}}}
	require.Equal(t,
		"bin/hutong dev --data-dir d --temporal-port 20000 --ui-port 20002 --party A=127.0.0.1:20004",
		devCommand(other))
}

// TestPrefixes lets commands take the beginning of a job id.
func TestPrefixes(t *testing.T) {
	const id = "202601021200000000001"
	jobs := []bfia.JobSummary{{JobID: id, State: bfia.JobRunning}, {JobID: "202601031200000000002"},
		{JobID: "202601031200000000003"}}
	known := func(next http.HandlerFunc, get func(*http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if got := get(r); got != id {
				refuse(w, http.StatusNotFound, bfia.CodeNotFound, "job_id: A does not know job "+got)
				return
			}
			next(w, r)
		}
	}
	query := func(r *http.Request) string { return r.URL.Query().Get("job_id") }
	body := func(r *http.Request) string {
		var ref bfia.JobRef
		_ = json.NewDecoder(r.Body).Decode(&ref)
		return ref.JobID
	}
	status := twoTasks()
	status.JobID = id
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformJobList:   data(bfia.JobList{Jobs: jobs}), // it ignores the prefix
		"GET " + bfia.PathPlatformStatusAll: known(data(status), query),
		"GET " + bfia.PathJobOutputs:        known(data(map[string]any{"outputs": []any{}}), query),
		"POST " + bfia.PathPlatformStopAll:  known(respond(`{"code":0,"msg":"success"}`), body),
		"POST " + bfia.PathPlatformAudit:    known(respond(`{"code":0,"msg":"success"}`), body),
		"POST " + bfia.PathPlatformPriority: known(respond(`{"code":0,"msg":"success"}`), body),
	})
	for _, args := range [][]string{{"status"}, {"outputs"}, {"stop"}, {"approve"}, {"reject"},
		{"priority"}} {
		args = append([]string{"job"}, append(args, "20260102")...)
		switch args[1] {
		case "priority":
			args = append(args, "5")
		case "approve":
			args = append(args, "--yes")
		}
		code, stdout, stderr := p.run(t, args...)
		require.Equal(t, exitOK, code, "%v: %s", args, stderr)
		if args[1] != "outputs" {
			require.Contains(t, stdout, id, args)
		}
	}

	code, _, stderr := p.run(t, "job", "status", "20260103")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr,
		"several jobs begin with 20260103: 202601031200000000002, 202601031200000000003; "+
			"give more of the id")
	code, _, stderr = p.run(t, "job", "status", "2025")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "A does not know job 2025")
	before := len(p.requests())
	_, _, _ = p.run(t, "job", "status", id)
	require.Len(t, p.requests(), before+2, "a whole id costs one request, and one for the account")

	root := Main{Environ: []string{}}.newRootCommand()
	job, _, err := root.Find([]string{"job"})
	require.NoError(t, err)
	for _, cmd := range job.Commands() {
		switch cmd.Name() {
		// delete takes several ids, and resolves each
		case "submit", "predict", "rehearse", "list", "probe", "delete":
		default:
			require.True(t, takesJobID(cmd), cmd.Name())
		}
	}
}

// TestFormats prints the same data in each format.
func TestFormats(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathProviderQuery: data([]any{map[string]any{"name": "p", "version": "1",
			"device":                 "docker",
			"metadata":               map[string]any{"image": "p:1"},
			"components_description": map[string]any{"C": map[string]any{}}}}),
		"GET " + bfia.PathDataQuery: data([]any{map[string]any{"namespace": "n", "name": "t",
			"count":   12345678901,
			"columns": []any{map[string]any{"name": "id", "type": "int64"}}}}),
		"GET " + bfia.PathRunnerQuery: data([]any{map[string]any{"runner_id": "worker-3",
			"state": "online"}}),
		"GET " + bfia.PathPlatformStatusAll: data(failedJob()),
	})
	for _, args := range [][]string{{"provider", "list"}, {"data", "list"}, {"runner", "list"},
		{"runner", "show", "worker-3"}} {
		_, want, _ := p.run(t, append(args, "--json")...)
		status, stdout, stderr := p.run(t, append(args, "-o", "json")...)
		require.Equal(t, exitOK, status, stderr)
		require.JSONEq(t, want, stdout)
	}
	_, stdout, _ := p.run(t, "data", "list", "-o", "yaml")
	require.Contains(t, stdout, "- columns:\n  - name: id\n    type: int64\n  count: 12345678901\n")
	_, stdout, _ = p.run(t, "provider", "list", "-o", "wide")
	require.Regexp(t, `NAME +VERSION +DEVICE +COMPONENTS +RUNS +ASKS FOR +ALLOWED\np +1 +docker +C +p:1 +none +none\n`, stdout)
	_, stdout, _ = p.run(t, "data", "list", "-o", "wide")
	require.Regexp(t, `UPDATED +COLUMNS\n.* id\n`, stdout)
	_, stdout, _ = p.run(t, "runner", "show", "worker-3")
	require.Contains(t, stdout, "runner_id: worker-3\n")
	status, _, stderr := p.run(t, "runner", "show", "worker-4")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr,
		`this party has no runner "worker-4"; it has worker-3; did you mean worker-3?`)
	status, stdout, _ = p.run(t, "job", "status", "j", "-o", "yaml")
	require.Equal(t, exitFailed, status, "the job's exit status stays")
	require.Contains(t, stdout, "job_status: ")
}

// TestCompletion completes what a shell asks for.
func TestCompletion(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathPlatformJobList: data(bfia.JobList{Jobs: []bfia.JobSummary{{JobID: "j1",
			FlowID: "F",
			State:  bfia.JobRunning, Parties: []string{"A", "B"}}, {JobID: "k2"}}}),
		"GET " + bfia.PathHealth:            data(map[string]string{"node_id": "A"}),
		"GET " + bfia.PathPlatformStatusAll: data(twoTasks()),
		"GET " + bfia.PathJobOutputs: data(map[string]any{"outputs": []bfia.Output{{TaskName: "a",
			Type:   "dataset",
			Output: "predictions"}}}),
		"GET " + bfia.PathRunnerQuery: data([]any{map[string]any{"runner_id": "worker-3",
			"state": "online"}}),
		"GET " + bfia.PathProviderQuery: data([]any{map[string]any{"name": "p", "version": "1.0.0"}}),
		"GET " + bfia.PathDataQuery:     data([]any{map[string]any{"namespace": "n", "name": "t"}}),
		"GET " + bfia.PathModelQuery:    data([]bfia.ModelView{{Model: "j1:a"}, {Model: "j1:a"}}),
		"GET " + bfia.PathPartnerQuery:  data([]bfia.PartnerView{{NodeID: "B", State: "APPLIED"}}),
		"GET " + bfia.PathTokenQuery:    data([]bfia.TokenView{{TokenID: "t-1", Name: "alice"}}),
		"GET " + bfia.PathGrantQuery:    data([]bfia.DataGrant{{ID: "g1", Partner: "B", Dataset: "n#t"}}),
		"GET " + bfia.PathGrantRequests: data([]bfia.GrantRequestView{{AuditID: "r1", Partner: "B",
			Dataset: "n#t"}}),
	})
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"job", "status", ""}, []string{"j1\tRUNNING F", "k2"}},
		{[]string{"model", "delete", ""}, []string{"j1:a\n:4"}},
		{[]string{"partner", "show", ""}, []string{"B\tAPPLIED"}},
		{[]string{"token", "revoke", ""}, []string{"t-1\talice"}},
		{[]string{"grant", "show", ""}, []string{"g1\tB n#t"}},
		{[]string{"grant", "deny", ""}, []string{"r1\tB n#t"}},
		{[]string{"job", "stop", "k"}, []string{"k2"}},
		{[]string{"job", "logs", "j1", "--task", ""}, []string{"hetero_secureboost_1", "intersect_rsa_1"}},
		{[]string{"job", "logs", "j1", "--role", ""}, []string{"guest.0\t", "host.0\t"}},
		{[]string{"job", "logs", "j1", "--level", ""}, []string{"debug", "info", "warning", "error"}},
		{[]string{"job", "outputs", "j1", "--output", ""}, []string{"predictions\ta dataset"}},
		{[]string{"job", "list", "--flow", ""}, []string{"F"}},
		{[]string{"job", "list", "-o", ""}, []string{"json", "yaml", "wide"}},
		{[]string{"job", "list", "--state", ""}, []string{"PENDING\n", "REJECTED\n", ":4"}},
		{[]string{"job", "list", "--outcome", "FAILED,"}, []string{"FAILED,STOPPED\n", ":4"}},
		{[]string{"job", "list", "--since", ""}, []string{":4"}},
		{[]string{"job", "list", "--limit", ""}, []string{":4"}},
		{[]string{"job", "list", "--partner", ""}, []string{"B\n", ":4"}},
		{[]string{"job", "probe", ""}, []string{"B\n", ":4"}},
		{[]string{"job", "submit", ""}, []string{"json", ":8"}},
		{[]string{"runner", "drain", ""}, []string{"worker-3\tonline"}},
		{[]string{"data", "download", ""}, []string{"n"}},
		{[]string{"data", "download", "n", ""}, []string{"t"}},
		{[]string{"data", "list", "--namespace", ""}, []string{"n"}},
		{[]string{"data", "upload", "--encoding", ""}, []string{"gbk"}},
		{[]string{"provider", "list", "--name", ""}, []string{"p"}},
		{[]string{"provider", "list", "--device", ""}, []string{"docker", "process", "k8s"}},
		{[]string{"worker", "--only", ""}, []string{"control", "runner"}},
		{[]string{"demo", "--device", ""}, []string{"auto"}},
		{[]string{"api", "-c", ""}, []string{"yaml", ":8"}},
	} {
		status, stdout, stderr := p.run(t, append([]string{"__complete"}, c.args...)...)
		require.Equal(t, exitOK, status, stderr)
		for _, want := range c.want {
			require.Contains(t, "\n"+stdout, "\n"+want, c.args)
		}
	}
	status, stdout, _ := runMain(t, t.Context(), []string{"HUTONG_URL=http://127.0.0.1:1"}, "", "__complete",
		"job",
		"status", "")
	require.Equal(t, exitOK, status)
	require.Equal(t, ":4\n", stdout, "without a party there is nothing to offer")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		status, stdout, _ := runMain(t, t.Context(), []string{}, "", "completion", shell)
		require.Equal(t, exitOK, status)
		require.Contains(t, stdout, "__complete")
	}
}
