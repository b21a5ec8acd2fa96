package interop

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/store"
	"hutong/test/testenv"
)

// answerTimeout is Hutong's timeout for one answer of its partner.
const answerTimeout = 8 * time.Second

// hutongNetwork is the Docker network that Hutong creates for its containers.
const hutongNetwork = "hutong-jg0100001100000071"

// hutongParty is a party of Hutong whose roles are separate processes, as in production.
type hutongParty struct {
	endpoint
	dir       string
	config    string
	partners  string // host:port for partners
	messages  string // host:port for the transports of partners
	db        string
	storage   string
	api       string
	transport string
	parts     map[string]*process
}

func newHutong(t *testing.T, dir, partners, storage string) *hutongParty {
	api := testenv.FreeAddress(t)
	h := &hutongParty{endpoint: endpoint{url: "http://" + api}, dir: filepath.Join(dir, "hutong"),
		api: api, partners: partners, messages: testenv.FreeAddress(t), storage: storage,
		transport: testenv.FreeAddress(t), parts: map[string]*process{}}
	h.config = filepath.Join(h.dir, "party.yaml")
	h.db = "sqlite://" + filepath.Join(h.dir, "hutong.db")
	return h
}

// settings returns the configuration of the party with a FATE-Flow partner.
func (h *hutongParty) settings(t *testing.T, env *environment) map[string]any {
	return map[string]any{
		"node_id": hutongNode, "listen": h.api, "data_dir": filepath.Join(h.dir, "data"),
		"security":   map[string]any{"mode": "open"}, // clients need no token
		"partners":   map[string]any{"plain_listen": h.partners},
		"containers": map[string]any{"listen": testenv.FreeAddress(t)},
		"transport":  map[string]any{"listen": h.transport, "partner_plain_listen": h.messages},
		"temporal":   map[string]any{"address": testenv.Temporal(t), "namespace": "interop"},
		"database":   map[string]any{"url": h.db},
		"storage":    map[string]any{"url": h.storage},
		"routes": map[string]any{
			// FATE-Flow proves nothing to its partners unless site authentication is on.
			fateFlowNode: map[string]any{"url": env.toFateFlow.url(), "auth": "none",
				"from": []string{"127.0.0.0/8"}, "transport_url": "http://" + env.fateFlow.messages},
		},
		// FATE-Flow sends no callbacks for its tasks, so they are polled early.
		"jobs": map[string]any{"poll_after": "1s", "poll_every": "1s"},
		"runner": map[string]any{"slots": 16, "stop_grace": "2s",
			"docker": map[string]any{"enabled": "true"}},
		"remote": map[string]any{"timeout": answerTimeout.String(), "give_up_after": "5m"},
		"log":    map[string]any{"level": "debug"},
	}
}

func (h *hutongParty) start(t *testing.T, env *environment) {
	writeYAML(t, h.config, h.settings(t, env))
	h.run(t, "migrate")
	for _, part := range []string{"transport", "worker", "api"} {
		h.startPart(t, part)
	}
	h.awaitReady(t)
}

func (h *hutongParty) run(t *testing.T, command string) {
	p := launch(t, h.dir, "hutong-"+command, nil, testenv.Binary(t, "hutong"), command, "--config", h.config)
	<-p.exited
	require.True(t, p.cmd.ProcessState.Success(), "hutong %s: %s", command, p.tail())
}

func (h *hutongParty) startPart(t *testing.T, part string) {
	h.parts[part] = launch(t, h.dir, "hutong-"+part, nil, testenv.Binary(t, "hutong"), part, "--config",
		h.config)
}

// awaitReady waits until all processes serve.
func (h *hutongParty) awaitReady(t *testing.T) {
	h.parts["transport"].await(t, time.Minute, func() bool { return isListening(h.transport) })
	h.parts["worker"].await(t, time.Minute,
		func() bool { return strings.Contains(h.parts["worker"].tail(), "is ready") })
	h.parts["api"].await(t, time.Minute, func() bool {
		resp, err := http.Get(h.url + bfia.PathReady)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// kill kills all processes with SIGKILL, except the transport, which has its messages in memory.
func (h *hutongParty) kill() {
	h.parts["api"].kill()
	h.parts["worker"].kill()
}

func (h *hutongParty) restart(t *testing.T) {
	h.startPart(t, "worker")
	h.startPart(t, "api")
	h.awaitReady(t)
}

func (h *hutongParty) status(t *testing.T, jobID string) bfia.JobStatus {
	t.Helper()
	var status bfia.JobStatus
	h.mustRequest(t, http.MethodGet, bfia.PathPlatformStatusAll+"?job_id="+jobID, nil, &status)
	return status
}

// outputs returns a job's outputs at Hutong, by role, task and output name.
func (h *hutongParty) outputs(t *testing.T, jobID string) map[string]address {
	t.Helper()
	var list struct{ Outputs []bfia.Output }
	h.mustRequest(t, http.MethodGet, bfia.PathJobOutputs+"?job_id="+jobID, nil, &list)
	byName := map[string]address{}
	for _, o := range list.Outputs {
		byName[o.Role+" "+o.TaskName+" "+o.Output] = address{Name: o.Name, Namespace: o.Namespace}
	}
	return byName
}

// database opens a second connection to the party's database.
func (h *hutongParty) database(t *testing.T) *store.Store {
	t.Helper()
	db, err := store.Open(t.Context(), h.db)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func writeYAML(t *testing.T, path string, content any) {
	t.Helper()
	b, err := yaml.Marshal(content)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(t, os.WriteFile(path, b, 0o600))
}
