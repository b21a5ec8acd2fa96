package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store/storetest"
	"hutong/test/testenv"
)

// program represents a running hutong process.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *testenv.Buffer
	done   chan error
}

// startHutong starts bin/hutong, which is killed at the end of the test.
func startHutong(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	return startProgram(t, env, testenv.Binary(t, "hutong"), args...)
}

// startProgram starts a program, which is killed at the end of the test.
func startProgram(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	return startCommand(t, cmd)
}

// startCommand starts a command, which is killed at the end of the test.
func startCommand(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, cmd: cmd, output: &testenv.Buffer{}, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	require.NoError(t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// awaitOutput waits until the program has printed a text.
func (p *program) awaitOutput(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(p.output.String(), text) },
		busy*time.Minute, 20*time.Millisecond, "%s did not print %q: %s", p.cmd.Args, text, p.output)
}

// kill sends the program a signal and waits until it has ended.
func (p *program) kill(signal syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(signal))
	select {
	case <-p.done:
	case <-time.After(busy * time.Minute):
		p.t.Fatalf("%s did not end on %s: %s", p.cmd.Args, signal, p.output)
	}
}

// TestKillDeployment ends a whole development deployment with SIGKILL, and once with SIGTERM, while a task
// runs. After the restart the job succeeds, each part has run once, and its log is complete.
func TestKillDeployment(t *testing.T) {
	t.Parallel()
	signals := map[string]syscall.Signal{"SIGKILL": syscall.SIGKILL, "SIGTERM": syscall.SIGTERM}
	for name, signal := range signals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			guest := &testParty{t: t, url: "http://" + testenv.FreeForParty(t)}
			host := &testParty{t: t, url: "http://" + testenv.FreeForParty(t)}
			port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
			args := []string{"dev", "--no-docker", "--data-dir", t.TempDir(), "--allow",
				testenv.Binary(t, "provider"), "--temporal-port", port(testenv.FreeAddress(t)), "--ui-port",
				port(testenv.FreeAddress(t)), "--party",
				guestNode + "=" + strings.TrimPrefix(guest.url, "http://"), "--party",
				hostNode + "=" + strings.TrimPrefix(host.url, "http://")}
			p := startHutong(t, nil, args...)
			p.awaitOutput("is ready")
			for _, n := range []*testParty{guest, host} {
				n.register(sleepProvider(t), bfia.DeviceProcess)
			}
			jobID := guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(6), "s2": seconds(1)}, nil))
			s := guest.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
			task := s.Tasks[0].TaskID
			for _, n := range []*testParty{guest, host} {
				require.Eventually(t, func() bool { return countLogLines(n, task) > 0 }, time.Minute,
					50*time.Millisecond, "the task has not begun at %s", n.url)
			}
			p.kill(signal)
			p = startHutong(t, nil, args...)
			p.awaitOutput("is ready")
			requireSuccess(t, guest.awaitJob(jobID, time.Minute, isFinished))
			for _, n := range []*testParty{guest, host} {
				var log struct{ Data string }
				n.mustRequest(http.MethodGet,
					bfia.PathPlatformLog+"?log_level=debug&start=0&task_id="+task, nil, &log)
				require.Equal(t, 1, strings.Count(log.Data, "second 1 of 6"),
					"ran once, from the first line: %s", log.Data)
			}
			p.kill(syscall.SIGTERM)
		})
	}
}

func countLogLines(n *testParty, taskID string) int {
	env, _ := n.request(http.MethodGet, bfia.PathPlatformLogLines+"?log_level=debug&task_id="+taskID, nil)
	var lines struct{ Num int }
	_ = json.Unmarshal(env.Data, &lines) // without data there are no lines yet
	return lines.Num
}

// TestSeparateProcesses runs the guest as separate processes with an external Temporal server and PostgreSQL.
// It kills its API and its workers with SIGKILL while a task runs. No output contains the database's
// password.
func TestSeparateProcesses(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-in-no-log"
	database := storetest.Postgres(t)
	pair := newPartyPair(t, func(cfg *party.Config) {
		if cfg.NodeID == guestNode {
			cfg.Database.URL = party.Secret(database) // with the tokens and grants of the test
		}
	})
	cfg := pair.guest.cfg
	messages := testenv.FreeAddress(t) // the transport is a process of its own
	pair.host.cfg.Routes[guestNode] = party.Route{URL: "https://" + cfg.Partners.Listen,
		TransportURL: "https://" + messages}
	pair.host.start()
	pair.host.register(sleepProvider(t), bfia.DeviceProcess)

	file := filepath.Join(t.TempDir(), "party.yaml")
	document, err := yaml.Marshal(
		map[string]any{"node_id": cfg.NodeID, "listen": cfg.Listen, "data_dir": cfg.DataDir,
			"containers": map[string]any{"listen": cfg.Containers.Listen},
			"partners": map[string]any{"listen": cfg.Partners.Listen, "tls": map[string]any{
				"cert_file": cfg.Partners.TLS.CertFile, "key_file": cfg.Partners.TLS.KeyFile,
				"ca_file": cfg.Partners.TLS.CAFile}},
			"transport": map[string]any{"listen": cfg.Transport.Listen, "partner_listen": messages},
			"temporal":  map[string]any{"address": cfg.Temporal.Address, "namespace": cfg.Temporal.Namespace},
			"runner": map[string]any{"docker": map[string]any{"enabled": "false"}, "stop_grace": "2s",
				"unsafe": true, "process": map[string]any{"allow": cfg.Runner.Process.Allow}},
			"routes": map[string]any{
				hostNode: map[string]any{"url": "https://" + pair.host.cfg.Partners.Listen},
			}},
	)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, document, 0o600))
	env := []string{"HUTONG_DATABASE_URL=" + withPassword(database, secret)}

	var all []*program
	part := func(says string, args ...string) *program {
		p := startHutong(t, env, append(args, "--config", file)...)
		all = append(all, p)
		p.awaitOutput(says)
		return p
	}
	part("are ready", "migrate").awaitExit()
	part("is ready", "transport")
	control := part("is ready", "worker", "--only", "control")
	runnerProcess := part("is ready", "worker", "--only", "runner")
	api := part("is ready", "api")

	pair.guest.register(sleepProvider(t), bfia.DeviceProcess)
	jobID := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(5), "s2": seconds(1)}, nil))
	s := pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
	require.Eventually(t, func() bool { return countLogLines(pair.guest, s.Tasks[0].TaskID) > 0 },
		time.Minute, 50*time.Millisecond)
	for _, p := range []*program{api, runnerProcess, control} {
		p.kill(syscall.SIGKILL)
	}
	part("is ready", "worker")
	part("is ready", "api")
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))

	env2, _ := pair.guest.request(http.MethodGet, "/no/such/path", nil)
	require.Equal(t, bfia.CodeNotFound, env2.Code)
	for _, p := range all {
		require.NotContains(t, p.output.String(), secret, "%s", p.cmd.Args)
	}
	shown, err := exec.Command(testenv.Binary(t, "hutong"), "config", "--config", file).Output()
	require.NoError(t, err)
	require.NotContains(t, string(shown), secret)
}

// awaitExit waits until the program has ended with exit code 0.
func (p *program) awaitExit() {
	p.t.Helper()
	select {
	case err := <-p.done:
		require.NoError(p.t, err, "%s", p.output)
	case <-time.After(busy * time.Minute):
		p.t.Fatalf("%s did not end: %s", p.cmd.Args, p.output)
	}
}

// withPassword adds a password to a database's URL. The test server accepts any.
func withPassword(address, password string) string {
	user, rest, ok := strings.Cut(strings.TrimPrefix(address, "postgres://"), "@")
	if !ok {
		return address
	}
	name, _, _ := strings.Cut(user, ":")
	return fmt.Sprintf("postgres://%s:%s@%s", name, password, rest)
}
