package fateclient

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/testenv"
)

const (
	guestNode = "JG0100001100000010"
	hostNode  = "JG0110017800000000"
)

// environment is a development deployment of two parties, and FATE's client.
type environment struct {
	t           *testing.T
	venv        string
	dir         string
	guest, host string // host:port
}

// newEnvironment starts two parties with the reference provider and the demo's data. Providers may also run
// the programs in allow.
func newEnvironment(t *testing.T, allow ...string) *environment {
	t.Helper()
	venv := os.Getenv("HUTONG_FATE_CLIENT")
	if venv == "" {
		t.Skip("HUTONG_FATE_CLIENT is not set; make fate-client installs FATE's client and sets it")
	}
	e := &environment{t: t, venv: venv, dir: t.TempDir(), guest: testenv.FreeForParty(t),
		host: testenv.FreeForParty(t)}
	_, temporal, _ := strings.Cut(testenv.FreeAddress(t), ":")
	_, ui, _ := strings.Cut(testenv.FreeAddress(t), ":")
	provider := testenv.Binary(t, "provider")
	var log testenv.Buffer
	args := []string{"dev", "--no-docker", "--data-dir", filepath.Join(e.dir, "data"), "--temporal-port",
		temporal, "--ui-port", ui, "--slots", "4", "--party", guestNode + "=" + e.guest, "--party",
		hostNode + "=" + e.host}
	for _, program := range append([]string{provider}, allow...) {
		args = append(args, "--allow", program)
	}
	dev := exec.Command(testenv.Binary(t, "hutong"), args...)
	dev.Stdout, dev.Stderr = &log, &log
	require.NoError(t, dev.Start())
	t.Cleanup(func() {
		_ = dev.Process.Signal(os.Interrupt)
		_ = dev.Wait()
		testenv.EndSupervisors(t, e.dir)
		if t.Failed() {
			t.Logf("hutong dev:\n%s", log.String())
		}
	})
	for _, address := range []string{e.guest, e.host} {
		require.Eventually(t, func() bool {
			resp, err := http.Get("http://" + address + bfia.PathReady)
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}, 3*time.Minute, 100*time.Millisecond, "%s is not ready:\n%s", address, &log)
	}

	registration, err := os.ReadFile(filepath.Join(testenv.Root(t), "providers", "reference",
		"provider.json"))
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(registration, &fields))
	fields["device"], fields["metadata"] = "process", map[string]any{"command": []string{provider}}
	e.write("provider.json", fields)
	e.hutong("provider", "register", "--file", e.path("provider.json"), "--url", "http://"+e.host)
	e.hutong("data", "upload", "--file", e.data("host.csv"), "--namespace", "demo", "--name", "breast_host",
		"--id", "id", "--url", "http://"+e.host)
	return e
}

func (e *environment) path(name string) string { return filepath.Join(e.dir, name) }

func (e *environment) data(name string) string {
	return filepath.Join(testenv.Root(e.t), "testdata", "breast", name)
}

// write writes a value as a JSON file, and returns its path.
func (e *environment) write(name string, value any) string {
	e.t.Helper()
	raw, err := json.Marshal(value)
	require.NoError(e.t, err)
	require.NoError(e.t, os.WriteFile(e.path(name), raw, 0o600))
	return e.path(name)
}

// hutong runs Hutong's own client.
func (e *environment) hutong(args ...string) {
	e.t.Helper()
	out, err := exec.Command(testenv.Binary(e.t, "hutong"), args...).CombinedOutput()
	require.NoError(e.t, err, "hutong %s:\n%s", strings.Join(args, " "), out)
}

// run runs a program of FATE's client, and returns what it prints.
func (e *environment) run(program string, args ...string) string {
	e.t.Helper()
	out, err := e.try(program, args...)
	require.NoError(e.t, err, "%s %s:\n%s", program, strings.Join(args, " "), out)
	return out
}

// try runs a program of FATE's client, which may fail.
func (e *environment) try(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(e.t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(e.venv, "bin", program), args...)
	cmd.Dir = e.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// answer is what flow prints.
type answer struct {
	Code    *int            `json:"code"`
	Message string          `json:"message"`
	JobID   string          `json:"job_id"`
	Data    json.RawMessage `json:"data"`
	text    string
}

// flow runs a command of flow, and returns the answer that it prints.
func (e *environment) flow(args ...string) answer {
	e.t.Helper()
	a := answer{text: e.run("flow", args...)}
	require.NoError(e.t, json.Unmarshal([]byte(a.text), &a), "flow %s:\n%s", strings.Join(args, " "), a.text)
	return a
}

// into decodes the data of an answer.
func (e *environment) into(a answer, v any) {
	e.t.Helper()
	require.NoError(e.t, json.Unmarshal(a.Data, v), "%s", a.text)
}

// await returns the first row of a job once it has ended.
func (e *environment) await(jobID string) map[string]any {
	e.t.Helper()
	var rows []map[string]any
	require.Eventually(e.t, func() bool {
		e.into(e.flow("job", "query", "-j", jobID, "-r", "guest", "-p", guestNode), &rows)
		return rows[0]["end_time"] != nil
	}, 3*time.Minute, 100*time.Millisecond, "job %s has not ended", jobID)
	return rows[0]
}
