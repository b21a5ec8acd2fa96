package system

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"
	"golang.org/x/text/encoding/simplifiedchinese"

	"hutong/bfia"
	"hutong/test/testenv"
)

// hutong runs a client command at a party, as n.client, and returns what it prints.
func (n *testParty) hutong(args ...string) (string, error) {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), testenv.Binary(n.t, "hutong"),
		append([]string{"--url", n.url}, args...)...)
	cmd.Env = append(os.Environ(), "HUTONG_TOKEN="+n.client.Token, "HUTONG_CA_FILE="+n.caFile)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// command is hutong with whether the command succeeded in place of the error.
func (n *testParty) command(args ...string) (string, bool) {
	n.t.Helper()
	out, err := n.hutong(args...)
	return out, err == nil
}

// mustCommand runs a command that must succeed, and returns its output.
func (n *testParty) mustCommand(args ...string) string {
	n.t.Helper()
	out, ok := n.command(args...)
	require.True(n.t, ok, out)
	return out
}

// lastLine returns the last line of a command's output. Warnings are before it, on the standard error.
func lastLine(out string) string {
	out = strings.TrimSpace(out)
	return out[strings.LastIndexByte(out, '\n')+1:]
}

// TestDryRunFindsTypingErrors checks a misspelt job at both parties with the command line, which creates
// nothing.
func TestDryRunFindsTypingErrors(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.start()
	pair.host.start()
	pair.registerReference(bfia.DeviceProcess)
	pair.guest.upload("guest.csv", "demo", "breast_guest")
	document, err := os.ReadFile(filepath.Join(testenv.Root(t), "deploy", "demo", "job.json"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "job.json")
	check := func(change func(config, dag map[string]any)) string {
		t.Helper()
		require.NoError(t, os.WriteFile(path, editJSON(t, document, func(f map[string]any) {
			config := f["config"].(map[string]any)
			config["job_params"] = map[string]any{"common": map[string]any{"sync_type": "callback"}}
			change(config, f["dag"].(map[string]any))
		}), 0o600))
		out, _ := pair.guest.hutong("job", "submit", path, "--dry-run")
		return out
	}

	out := check(func(config, _ map[string]any) {})
	require.Regexp(t, guestNode+` +yes`, out)
	require.Regexp(t, hostNode+` +no +.*has no dataset "demo#breast_host"`, out, "the partner is asked too")
	pair.host.upload("host.csv", "demo", "breast_host")
	out = check(func(config, _ map[string]any) {})
	require.Regexp(t, hostNode+` +yes`, out)
	require.NotContains(t, out, "warning:")

	common := func(config map[string]any) map[string]any {
		return config["job_params"].(map[string]any)["common"].(map[string]any)
	}
	for name, c := range map[string]struct {
		change func(config, dag map[string]any)
		want   string
	}{
		"parameter": {func(config, _ map[string]any) {
			tasks := config["task_params"].(map[string]any)["common"].(map[string]any)
			tasks["hetero_secureboost_1"] = map[string]any{"id": "id", "lable": "y"}
		}, "parameter lable is not in the component's description; did you mean label?"},
		"resource": {func(config, _ map[string]any) {
			common(config)["resources"] = map[string]any{"gpus": 1}
		},
			"config.job_params.common.resources.gpus: is not a field of a job and is ignored; did you mean gpu?"},
		"sync_type": {func(config, _ map[string]any) {
			common(config)["sync_type"] = "carrier-pigeon"
		}, `config.job_params.common.sync_type: is "carrier-pigeon", which is ignored; must be callback or poll`},
		"role": {func(config, _ map[string]any) {
			config["role"].(map[string]any)["gust"] = []string{hostNode}
		}, "config.role.gust: no component of the job runs at this role; did you mean guest?"},
		"version": {func(_, dag map[string]any) {
			dag["version"] = "99"
		}, `dag.version: is "99", but the versions of the format are 1.x and 2.x`},
		"field": {func(_, dag map[string]any) {
			dag["components"].([]any)[0].(map[string]any)["componetName"] = "x"
		},
			"dag.components[0].componetName: is not a field of a job and is ignored; did you mean componentName?"},
	} {
		require.Contains(t, check(c.change), c.want, name)
	}
	for _, n := range []*testParty{pair.guest, pair.host} {
		var list bfia.JobList
		n.mustRequest("GET", bfia.PathPlatformJobList, nil, &list)
		require.Empty(t, list.Jobs)
	}
}

// TestUploadFromWindows uploads a file with tabs in GBK, and a job file with a byte order mark.
func TestUploadFromWindows(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	text, err := simplifiedchinese.GBK.NewEncoder().String("id\t姓名\n1\t张三\n")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "rows.txt")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	upload := []string{"data", "upload", "--file", path, "--namespace", "n", "--name", "t", "--delimiter",
		`\t`}
	out, err := pair.guest.hutong(upload...)
	require.Error(t, err)
	require.Contains(t, out,
		"is not UTF-8; give the file's encoding, such as gbk (encoding, or --encoding gbk)")
	out, err = pair.guest.hutong(append(upload, "--encoding", "gbk")...)
	require.NoError(t, err, out)
	out, err = pair.guest.hutong("data", "download", "n", "t")
	require.NoError(t, err, out)
	require.Equal(t, "id,姓名\n1,张三\n", out)

	require.NoError(t, os.WriteFile(path, append([]byte("\uFEFF"), sleepJob(t, 1, nil, nil)...), 0o600))
	out, err = pair.guest.hutong("job", "submit", path)
	require.NoError(t, err, out)
	jobID := lastLine(out)
	out, err = pair.guest.hutong("job", "watch", jobID[:20]) // it is the only job that begins so
	require.NoError(t, err, out)
	out, err = pair.guest.hutong("job", "stop", jobID[:4])
	require.NoError(t, err, out)
	require.Contains(t, out, "job "+jobID+" has already ended")
}

// TestRerunReuses submits a job again, whose first task is reused, by the beginning of its id.
func TestRerunReuses(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	job := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(0),
		"s2": map[string]any{"seconds": 0, "exit_code": 3}}, nil))
	pair.guest.awaitJob(job, time.Minute, isFinished)
	out, err := pair.guest.hutong("job", "rerun", job[:18])
	require.NoError(t, err, out)
	again := lastLine(out)
	status := pair.guest.awaitJob(again, time.Minute, isFinished)
	require.Equal(t, job, status.Tasks[0].Parties[0].ReusedFrom)
	require.Equal(t, bfia.TaskFailed, status.Tasks[1].State)

	out, err = pair.guest.hutong("job", "status", again, "-o", "json")
	require.Error(t, err, "the job failed")
	var printed bfia.JobStatus
	require.NoError(t, json.Unmarshal([]byte(out), &printed))
	require.Equal(t, again, printed.JobID)
}

// TestDemoThenDev runs the demo, then the command that its last line gives, which shows what the demo did.
func TestDemoThenDev(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := testenv.Root(t)
	for from, to := range map[string]string{filepath.Join(root, "testdata"): "testdata",
		filepath.Join(root, "deploy"): "deploy", filepath.Join(root, "providers"): "providers",
		filepath.Dir(testenv.Binary(t, "hutong")): "bin"} {
		require.NoError(t, os.Symlink(from, filepath.Join(dir, to)))
	}
	demo := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "hutong"), "demo", "--device",
		"process")
	demo.Dir = dir
	out, err := demo.CombinedOutput()
	require.NoError(t, err, "%s", out)
	last := regexp.MustCompile(`The data is in hutong-data\. To explore it, run (bin/hutong dev.*) ` +
		`and open (http://\S+/console/) \(Temporal's UI: (http://\S+)\)\n$`).
		FindStringSubmatch(string(out))
	require.NotNil(t, last, "%s", out)

	dev := exec.CommandContext(t.Context(), "bash", "-c", "exec "+last[1])
	dev.Dir = dir
	stdout, err := dev.StdoutPipe()
	require.NoError(t, err)
	dev.Stderr = os.Stderr
	require.NoError(t, dev.Start())
	defer func() {
		_ = dev.Process.Signal(os.Interrupt)
		_ = dev.Wait()
	}()
	guest, console := "", ""
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "Stop it with Ctrl-C") {
		fields := strings.Fields(lines.Text())
		if len(fields) > 2 && fields[0] == "party" && fields[1] == guestNode {
			guest = fields[2]
		}
		if len(fields) > 2 && fields[0] == "console" && fields[1] == guestNode {
			console = fields[2]
		}
		if strings.Contains(lines.Text(), "Temporal's UI") {
			require.Contains(t, lines.Text(), last[3], "the demo has named the address of dev's UI")
		}
	}
	require.NotEmpty(t, guest, "dev is ready")
	require.Equal(t, last[2], console, "the demo has named the address of the console")
	answer, err := http.Get(console)
	require.NoError(t, err)
	page, err := io.ReadAll(answer.Body)
	require.NoError(t, errors.Join(err, answer.Body.Close()))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, string(page), "<title>Hutong</title>")
	party := &testParty{t: t, url: guest}
	text, err := party.hutong("job", "list", "--json")
	require.NoError(t, err, text)
	var list bfia.JobList
	require.NoError(t, json.Unmarshal([]byte(text), &list))
	require.Len(t, list.Jobs, 1)
	text, err = party.hutong("job", "outputs", list.Jobs[0].JobID, "--show")
	require.NoError(t, err, text)
	require.Contains(t, text, "auc")
}

// TestDevPortTaken checks that dev names the flag of the port that another program uses.
func TestDevPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	_, taken, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	free := func() string {
		_, port, err := net.SplitHostPort(testenv.FreeAddress(t))
		require.NoError(t, err)
		return port
	}
	for flag, ports := range map[string][3]string{"--temporal-port": {taken, free(), ""},
		"--ui-port": {free(), taken, ""}, "--party": {free(), free(), taken}} {
		if ports[2] == "" {
			_, ports[2], err = net.SplitHostPort(testenv.FreeForParty(t))
			require.NoError(t, err)
		}
		begun := time.Now()
		dev := exec.CommandContext(t.Context(), testenv.Binary(t, "hutong"), "dev", "--no-docker",
			"--data-dir", t.TempDir(), "--temporal-port", ports[0], "--ui-port", ports[1],
			"--party", "A=127.0.0.1:"+ports[2])
		out, err := dev.CombinedOutput()
		require.Error(t, err)
		require.Regexp(t, flag+`: .*\b`+taken+`\b.* is in use`, string(out))
		require.Less(t, time.Since(begun), 2*time.Minute)
	}
}

// TestMigrateKeepsHistories checks that the namespace of a new party keeps histories as long as the party
// keeps results, and that a longer retention of results extends it.
func TestMigrateKeepsHistories(t *testing.T) {
	t.Parallel()
	address := testenv.Temporal(t)
	namespace := "migrate-" + strings.ToLower(rand.Text())
	path := filepath.Join(t.TempDir(), "party.yaml")
	migrate := func(retention string) time.Duration {
		t.Helper()
		require.NoError(t, os.WriteFile(path,
			fmt.Appendf(nil, "node_id: A\ndata_dir: %s\ntemporal: {address: %q, "+
				"namespace: %s}\njobs: {retention: %s}\n", t.TempDir(), address, namespace, retention),
			0o600))
		out, err := exec.CommandContext(t.Context(), testenv.Binary(t, "hutong"), "migrate", "-c",
			path).CombinedOutput()
		require.NoError(t, err, "%s", out)
		c, err := temporal.Dial(temporal.Options{HostPort: address, Namespace: namespace})
		require.NoError(t, err)
		defer c.Close()
		described, err := c.WorkflowService().DescribeNamespace(t.Context(),
			&workflowservice.DescribeNamespaceRequest{Namespace: namespace})
		require.NoError(t, err)
		return described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
	}
	require.Equal(t, 30*24*time.Hour, migrate("30d"))
	require.Equal(t, 60*24*time.Hour, migrate("60d"))
	require.Equal(t, 60*24*time.Hour, migrate("12h"), "a longer retention stays")
}
