package system

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/image"
	"hutong/internal/party"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv"
	"hutong/test/testenv/dockerd"
)

// runnerMachine is a Docker Engine with a runner worker of its own. For the party it is a separate machine.
type runnerMachine struct {
	t      *testing.T
	env    []string
	file   string
	host   string // the address of its Docker Engine
	id     string // of its engine, and so of the host
	worker *program
}

// newRunnerMachine starts a Docker Engine with the reference provider's image.
func newRunnerMachine(t *testing.T, name, file string, settings ...string) *runnerMachine {
	t.Helper()
	dir, err := os.MkdirTemp("", "hutong-"+name+"-") // short, for the paths of sockets
	require.NoError(t, err)
	d := &dockerd.Daemon{Dir: dir, Bridge: fmt.Sprintf("ht%d-%s", os.Getpid(), name)}
	require.NoError(t, d.Prepare())
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := d.Command()
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
		}
		d.Remove()
		<-ended
		_ = log.Close()
		_ = os.RemoveAll(dir)
	})
	cli, err := client.NewClientWithOpts(client.WithHost("unix://"+d.Socket()),
		client.WithAPIVersionNegotiation())
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = cli.Ping(t.Context()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			output, _ := os.ReadFile(log.Name())
			t.Fatalf("the Docker Engine of %s does not answer: %v; its log: %s", name, err, output)
		}
	}
	info, err := cli.Info(t.Context())
	require.NoError(t, err)
	require.NoError(t, image.Load(t.Context(), cli, testenv.Binary(t, "provider"), referenceImage))
	return &runnerMachine{
		t:    t,
		file: file,
		host: "unix://" + d.Socket(),
		id:   info.ID,
		env: append(settings, "DOCKER_HOST=unix://"+d.Socket(),
			"HUTONG_CONTAINERS_LISTEN="+testenv.FreeAddress(t), "HUTONG_DATA_DIR="+filepath.Join(dir,
				"hutong")),
	}
}

// start starts the machine's runner worker.
func (m *runnerMachine) start() {
	m.t.Helper()
	m.worker = startHutong(m.t, m.env, "worker", "--only", "runner", "--config", m.file)
	m.worker.awaitOutput("is ready")
}

func (m *runnerMachine) stop() {
	m.t.Helper()
	m.worker.kill(syscall.SIGTERM)
}

// multiRunnerParty is a party with several runners.
type multiRunnerParty struct {
	*testParty
	db *store.Store
}

// newMultiRunnerParty starts a party without a runner: its API, its transport, and two control workers in
// processes of their own. It returns the configuration file for its runners.
func newMultiRunnerParty(t *testing.T) (multiRunnerParty, string) {
	t.Helper()
	n := newTestParty(t, guestNode, testenv.Temporal(t), pairCount.Add(1))
	dir := t.TempDir()
	n.cfg.Database.URL = party.Secret(storetest.Postgres(t))
	n.cfg.Storage.URL = party.Secret("file://" + dir)
	n.cfg.Partners.Listen = "" // it has no partners
	n.cfg.Runner.Process.Allow = nil
	n.prepare()
	n.startAs(party.Roles{API: true, Transport: true})
	file := filepath.Join(t.TempDir(), "party.yaml")
	document, err := yaml.Marshal(
		map[string]any{
			"node_id":   n.cfg.NodeID,
			"listen":    n.cfg.Listen,
			"data_dir":  filepath.Join(dir, "control"),
			"transport": map[string]any{"listen": n.cfg.Transport.Listen},
			"temporal": map[string]any{"address": n.cfg.Temporal.Address,
				"namespace": n.cfg.Temporal.Namespace},
			"database": map[string]any{
				"url": n.cfg.Database.URL.Reveal(),
			},
			"storage": map[string]any{"url": n.cfg.Storage.URL.Reveal()},
			"runner": map[string]any{"stop_grace": "2s", "unsafe": true,
				"docker": map[string]any{"host_network": true}},
		},
	)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, document, 0o600))
	for range 2 {
		startHutong(t, []string{"HUTONG_RUNNER_DOCKER_ENABLED=false"}, "worker", "--only", "control",
			"--config", file).awaitOutput("is ready")
	}
	n.register(editJSON(t, sleepProvider(t), func(fields map[string]any) { fields["device"] = "docker" }),
		bfia.DeviceDocker)
	return multiRunnerParty{n, n.database()}, file
}

// document returns a job with a chain of tasks that sleep for some seconds each; params are its job
// parameters.
func (b multiRunnerParty) document(params map[string]any, durations ...float64) []byte {
	b.t.Helper()
	each := map[string]any{}
	for i, n := range durations {
		each[fmt.Sprintf("s%d", i+1)] = seconds(n)
	}
	return editJSON(b.t, sleepJob(b.t, len(durations), each, nil), func(fields map[string]any) {
		config := fields["config"].(map[string]any)
		config["role"] = map[string]any{"guest": []string{guestNode}}
		config["job_params"] = map[string]any{"common": params}
	})
}

// submitHeldJobs submits jobs that run until they are released. It waits until all have started, and returns
// how many run on each runner.
func (b multiRunnerParty) submitHeldJobs(n int, params map[string]any) (jobs []string, on map[string]int) {
	b.t.Helper()
	for range n {
		jobs = append(jobs, b.submit(b.document(params, 1000)))
	}
	return jobs, b.countByRunner(jobs)
}

// release stops jobs and waits until their reservations are released.
func (b multiRunnerParty) release(jobs []string) {
	b.t.Helper()
	for _, id := range jobs {
		body, err := json.Marshal(bfia.JobRef{JobID: id})
		require.NoError(b.t, err)
		b.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, body, nil)
	}
	for _, id := range jobs {
		b.awaitJob(id, 2*time.Minute, isFinished)
	}
	require.Eventually(b.t, func() bool { // reservations are released shortly after the job's end
		for _, h := range b.runners() {
			if h.Used != (bfia.RunnerCapacity{}) || h.Running > 0 {
				return false
			}
		}
		return true
	}, time.Minute, 50*time.Millisecond, "reservations of ended jobs were not released")
}

// runners returns the party's runners as its API reports them, by id.
func (b multiRunnerParty) runners() map[string]bfia.Runner {
	b.t.Helper()
	var list []bfia.Runner
	b.mustRequest(http.MethodGet, bfia.PathRunnerQuery, nil, &list)
	byID := map[string]bfia.Runner{}
	for _, h := range list {
		byID[h.RunnerID] = h
	}
	return byID
}

// runnerOf returns the runner and the attempt of a job's task, or "" while the task has no container.
func (b multiRunnerParty) runnerOf(jobID, task string) (hostID string, attempt int) {
	b.t.Helper()
	tasks, err := b.db.Tasks(b.t.Context(), jobID)
	require.NoError(b.t, err)
	for _, t := range tasks {
		if t.Name == task && t.ContainerID != "" {
			return t.RunnerID, t.Attempt
		}
	}
	return "", 0
}

// countByRunner waits until the first tasks of jobs have started, and returns how many run on each runner.
func (b multiRunnerParty) countByRunner(jobs []string) map[string]int {
	b.t.Helper()
	on := map[string]int{}
	for _, id := range jobs {
		host := ""
		require.Eventually(b.t, func() bool {
			host, _ = b.runnerOf(id, "s1")
			return host != ""
		}, 2*time.Minute, 50*time.Millisecond, "job %s did not start", id)
		on[host]++
	}
	return on
}

func (b multiRunnerParty) drain(hostID string, draining bool) {
	b.t.Helper()
	body, err := json.Marshal(bfia.DrainRunner{RunnerID: hostID, Draining: &draining})
	require.NoError(b.t, err)
	b.mustRequest(http.MethodPost, bfia.PathRunnerDrain, body, nil)
}

// TestRunners distributes a party's tasks to several runners with a Docker Engine each, by free resources and
// by labels. One runner is drained, one is added and one removed, without configuration elsewhere.
func TestRunners(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("HUTONG_REQUIRE_DOCKER") == "1" {
			t.Fatalf("HUTONG_REQUIRE_DOCKER=1, but this test needs dockerd and root")
		}
		t.Skip("this test runs dockerd for each runner, which needs dockerd and root")
	}
	b, file := newMultiRunnerParty(t)
	big := newRunnerMachine(t, "big", file, "HUTONG_RUNNER_SLOTS=4", "HUTONG_RUNNER_CPU=4",
		"HUTONG_RUNNER_MEMORY=8")
	gpu := newRunnerMachine(t, "gpu", file, "HUTONG_RUNNER_SLOTS=2", "HUTONG_RUNNER_CPU=2",
		"HUTONG_RUNNER_LABELS=gpu=1,region=north")
	require.NotEqual(t, big.id, gpu.id)
	big.start()
	gpu.start()
	hosts := b.runners()
	require.Len(t, hosts, 2)
	assert.Equal(t, bfia.RunnerOnline, hosts[big.id].State)
	assert.Equal(t, []string{"docker"}, hosts[big.id].Devices)
	assert.Equal(t, 4, hosts[big.id].Total.Slots)
	assert.Equal(t, int64(4000), hosts[big.id].Total.CPUMilli)
	assert.Equal(t, int64(8<<30), hosts[big.id].Total.Memory)
	assert.Positive(t, hosts[gpu.id].Total.Memory, "as its Docker Engine reports it")
	assert.Positive(t, hosts[gpu.id].Total.Disk)
	assert.Equal(t, map[string]string{"gpu": "1", "region": "north"}, hosts[gpu.id].Labels)

	t.Log("jobs are spread by free resources")
	jobs, on := b.submitHeldJobs(6, map[string]any{"resources": map[string]any{"cpu": 1}})
	assert.Equal(t, map[string]int{big.id: 4, gpu.id: 2}, on)
	hosts = b.runners()
	assert.Equal(t, bfia.RunnerCapacity{Slots: 4, Resources: bfia.Resources{CPUMilli: 4000}},
		hosts[big.id].Used)
	assert.Equal(t, bfia.RunnerCapacity{Slots: 2, Resources: bfia.Resources{CPUMilli: 2000}},
		hosts[gpu.id].Used)
	assert.Equal(t, 4, hosts[big.id].Running)
	b.release(jobs)

	t.Log("a required label selects the runner that has it")
	for _, labels := range []map[string]string{{"gpu": "1"}, {"gpu": "1", "region": "north"}} {
		jobs, on = b.submitHeldJobs(2, map[string]any{"requires": map[string]any{"s1": labels}})
		assert.Equal(t, map[string]int{gpu.id: 2}, on)
		b.release(jobs)
	}
	env, _ := b.request(http.MethodPost, bfia.PathPlatformCreateAll,
		b.document(map[string]any{"requires": map[string]any{"*": map[string]string{"gpu": "7"}}}, 1))
	assert.False(t, env.OK())
	assert.Contains(t, env.Text(), "the label gpu=7")

	t.Log("a draining runner keeps its containers, also across a restart of its worker, and gets no new ones")
	b.drain(big.id, true)
	chain := b.submit(b.document(nil, 8, 0))
	require.Equal(t, map[string]int{gpu.id: 1}, b.countByRunner([]string{chain}))
	b.drain(gpu.id, true)
	b.drain(big.id, false)
	assert.Equal(t, bfia.RunnerDraining, b.runners()[gpu.id].State)
	assert.Equal(t, 1, b.runners()[gpu.id].Running)
	jobs, on = b.submitHeldJobs(3, nil)
	assert.Equal(t, map[string]int{big.id: 3}, on)
	gpu.stop()
	assert.Equal(t, bfia.RunnerDeregistered, b.runners()[gpu.id].State)
	gpu.start()
	assert.True(t, b.runners()[gpu.id].Draining)
	requireSuccess(t, b.awaitJob(chain, 2*time.Minute, isFinished))
	for task, want := range map[string]string{"s1": gpu.id, "s2": big.id} {
		host, attempt := b.runnerOf(chain, task)
		assert.Equal(t, want, host, task)
		assert.Equal(t, 1, attempt, task)
	}
	assert.Eventually(t, func() bool { return b.runners()[gpu.id].State == bfia.RunnerDrained }, time.Minute,
		50*time.Millisecond, "reservations are released shortly after the job's end")
	b.release(jobs)

	t.Log("an added runner takes its share without configuration elsewhere")
	added := newRunnerMachine(t, "add", file, "HUTONG_RUNNER_SLOTS=4")
	added.start()
	jobs, on = b.submitHeldJobs(8, nil)
	assert.Equal(t, map[string]int{big.id: 4, added.id: 4}, on)
	b.release(jobs)

	t.Log("a removed runner gets nothing more, without configuration elsewhere")
	b.drain(gpu.id, false)
	big.stop()
	assert.ElementsMatch(t, []string{gpu.id, added.id}, slices.Collect(maps.Keys(b.runners())))
	jobs, on = b.submitHeldJobs(6, nil)
	assert.Equal(t, map[string]int{gpu.id: 2, added.id: 4}, on)
	b.release(jobs)
}
