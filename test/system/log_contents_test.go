package system

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// pythonComponent writes what algorithms write. Its first attempt is killed. The second one logs to its
// output and to a file, draws a progress bar until the gate opens, and dies of an exception.
const pythonComponent = `
import os, signal, sys, time
env = os.environ
gate = env["runtime.component.parameter.gate"]
folder = env["config.log.path"] + "/logs/" + env["config.task_id"] + "/guest"
os.makedirs(folder)
def log(text, name):
    with open(folder + "/" + name, "a") as f:
        f.write(text + "\n")
if not os.path.exists(gate + ".first"):
    open(gate + ".first", "w").close()
    print("2024-11-22 06:36:00,001|alice|ERROR|secretflow|psi.py:1| of the first attempt", flush=True)
    log("[ERROR][2024-11-22 06:36:00,002][7][psi.run][line:2]: in a file of the first attempt", "ERROR")
    os.kill(os.getpid(), signal.SIGKILL)
print("2024-11-22 06:36:01,001|alice|INFO|secretflow|psi.py:3| of the second attempt", flush=True)
print("layer 0%", flush=True)
print("2024-11-22 06:36:01,002|alice|ERROR|secretflow|psi.py:88| key column not found", flush=True)
for name in ("DEBUG", "INFO", "WARNING", "ERROR"):
    log("[ERROR][2024-11-22 06:36:01,003][7][psi.run][line:4]: in a file", name)
i = 0
while not os.path.exists(gate):
    print("\033[2K\033[1G%d rows" % i, end="", file=sys.stderr, flush=True)
    i += 1
    time.sleep(0.02)
print("\033[2K\033[1Gall rows", file=sys.stderr, flush=True)
for i in range(101):
    print("\033[2A\033[2K\rlayer %d%%\r\033[2B" % i, end="", file=sys.stderr, flush=True)
print("error: 0.234", file=sys.stderr, flush=True)
with open(folder + "/state", "wb") as f:
    f.write(bytes(range(1, 256)) * 4)
log("[ERROR][2024-11-22 06:36:01,004][7][psi.run][line:5]: last words in a file", "DEBUG")
{}["key"]
`

// pythonProgram returns the path of the Python interpreter, and skips the test if there is none.
func pythonProgram(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "python3.11"} {
		out, err := exec.CommandContext(t.Context(), name, "-c", "import sys; print(sys.executable)").Output()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
	}
	if os.Getenv("HUTONG_REQUIRE_DOCKER") == "1" {
		t.Fatal("CI requires Python, and neither python3 nor python3.11 runs")
	}
	t.Skip("there is no Python: neither python3 nor python3.11 runs")
	return ""
}

// submitPython registers a component that is a Python program, and submits a job of it.
func (n *testParty) submitPython(program, source, gate string) (jobID string) {
	n.t.Helper()
	script := filepath.Join(n.t.TempDir(), "run.py")
	require.NoError(n.t, os.WriteFile(script, []byte(source), 0o600))
	registration, err := json.Marshal(map[string]any{"name": "py", "version": "1", "device": "process",
		"protocol": "bfia", "metadata": map[string]any{"command": []string{program, script}},
		"components_description": map[string]any{"Run": map[string]any{
			"componentName": "Run", "title": "Run", "provider": "py", "version": "1",
			"roleList": []string{"guest"}, "storageEngine": []string{"file"}, "inputParam": []any{},
			"inputData": []any{}, "outputData": []any{}, "result": []any{}}}})
	require.NoError(n.t, err)
	n.mustRequest(http.MethodPost, bfia.PathProviderRegister, registration, nil)
	job, err := json.Marshal(map[string]any{"flow_id": "logs",
		"dag": map[string]any{"version": "2.0", "components": []any{map[string]any{"name": "a",
			"componentName": "Run", "provider": "py", "version": "1", "input": []any{}, "output": []any{}}}},
		"config": map[string]any{"version": "2.0.0",
			"initiator":   map[string]string{"role": "guest", "node_id": guestNode},
			"role":        map[string]any{"guest": []string{guestNode}},
			"job_params":  map[string]any{"common": map[string]any{"sync_type": "callback"}},
			"task_params": map[string]any{"common": map[string]any{"a": map[string]string{"gate": gate}}}}})
	require.NoError(n.t, err)
	return n.submit(job)
}

// TestLogsOfAnAlgorithm reads the logs of a program in Python as a user does: while it draws a progress bar,
// the errors of its death, what it wrote to files, and the log of an attempt that was killed.
func TestLogsOfAnAlgorithm(t *testing.T) {
	t.Parallel()
	program, gate := pythonProgram(t), filepath.Join(t.TempDir(), "gate")
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, program)
	})
	pair.guest.start()
	jobID := pair.guest.submitPython(program, pythonComponent, gate)
	logs := func(args ...string) []string {
		out, err := pair.guest.hutong(append([]string{"job", "logs", jobID}, args...)...)
		require.NoError(t, err, out)
		var lines []string
		for line := range strings.Lines(out) {
			_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ") // without the time
			lines = append(lines, text)
		}
		return lines
	}

	pair.guest.awaitJob(jobID, time.Minute, func(s bfia.JobStatus) bool {
		return isTaskRunning("a")(s) && s.Tasks[0].Attempt == 2
	})
	bars := map[string]bool{}
	require.Eventually(t, func() bool {
		if out, err := pair.guest.hutong("job", "logs", jobID); err == nil {
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if last := lines[len(lines)-1]; strings.HasSuffix(last, " rows") {
				bars[last] = true
			}
		}
		return len(bars) > 1 && len(logs("--level", "error")) == 2
	}, time.Minute, 100*time.Millisecond, "the newest state of a bar is visible")
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Eventually(t, func() bool {
		row, err := pair.guest.database().Tasks(t.Context(), jobID)
		return err == nil && row[0].ExitCode != nil
	}, time.Minute, 50*time.Millisecond)

	secretFlow := "2024-11-22 06:36:01,002|alice|ERROR|secretflow|psi.py:88| key column not found"
	inFile := "[ERROR][2024-11-22 06:36:01,003][7][psi.run][line:4]: in a file"
	lastWords := "[ERROR][2024-11-22 06:36:01,004][7][psi.run][line:5]: last words in a file"
	// A line without a level counts to the entry that was read just before it, here perhaps from the file.
	errors := slices.DeleteFunc(logs("--level", "error"), func(line string) bool {
		return line == "all rows" || strings.HasPrefix(line, "layer ")
	})
	require.ElementsMatch(t, []string{secretFlow, inFile, lastWords},
		without(errors, lastWords, secretFlow, inFile, true))
	rest := strings.Join(without(errors, lastWords, secretFlow, inFile, false), "\n")
	require.Regexp(t,
		`^Traceback \(most recent call last\):\n  File .*\n    \{\}\["key"\]\n(.*\n)?KeyError: 'key'$`, rest)

	all := logs()
	require.Contains(t, all, "2024-11-22 06:36:01,001|alice|INFO|secretflow|psi.py:3| of the second attempt")
	for _, line := range []string{"layer 0%", "all rows", "layer 100%", "error: 0.234"} {
		require.Contains(t, all, line)
	}
	require.Len(t, all, len(errors)+5, "bars are a line each, copies of an entry are one, and data is none")

	first := []string{"2024-11-22 06:36:00,001|alice|ERROR|secretflow|psi.py:1| of the first attempt",
		"[ERROR][2024-11-22 06:36:00,002][7][psi.run][line:2]: in a file of the first attempt"}
	require.ElementsMatch(t, first, logs("--attempt", "1"))
	require.ElementsMatch(t, first, logs("--task", bfia.TaskID(jobID, "a"), "--level", "error"))
	require.Equal(t, all, logs("--attempt", "2"))
}

// without returns the lines that are among three given ones, or the others.
func without(lines []string, a, b, c string, among bool) (found []string) {
	for _, line := range lines {
		if (line == a || line == b || line == c) == among {
			found = append(found, line)
		}
	}
	return found
}

// TestLogFilesLimit stops a component whose log files exceed the configured size, and says why.
func TestLogFilesLimit(t *testing.T) {
	t.Parallel()
	program := pythonProgram(t)
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, program)
		cfg.Runner.LogFilesMiB = 2
	})
	pair.guest.start()
	jobID := pair.guest.submitPython(program, `
import os, time
with open(os.environ["config.log.path"] + "/psi.log", "w") as f:
    while True:
        f.write("x" * 100000 + "\n")
        f.flush()
        time.sleep(0.02)
`, "none")
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	failure := s.Tasks[0].Parties[0].Failure
	require.NotNil(t, failure)
	require.Equal(t, bfia.FailedLogFiles, failure.Kind)
	require.Regexp(t, `its log files take .* MiB, more than the limit of 2.0 MiB \(runner.log_files_mib\)`,
		failure.Message)
	require.Zero(t, s.Tasks[0].Attempt, "another attempt would write as much")
}
