package doctor_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"

	"hutong/internal/doctor"
	"hutong/internal/party"
	"hutong/test/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// The engine without the party's namespace, and with it and no worker.
func TestTemporal(t *testing.T) {
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir = node, t.TempDir()
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = free(t), free(t), testenv.Temporal(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	cfg.Temporal.Namespace = "doctor-nowhere"
	found := examine(t, cfg)["temporal"]
	assert.Equal(t, doctor.Failed, found.State, "%+v", found)
	assert.Contains(t, found.Detail, "doctor-nowhere")
	assert.Contains(t, found.Fix, "hutong migrate")

	cfg.Temporal.Namespace = "doctor-there"
	testenv.Namespace(t, cfg.Temporal.Address, cfg.Temporal.Namespace)
	found = examine(t, cfg)["temporal"]
	assert.Equal(t, doctor.Warning, found.State, "%+v", found)
	assert.Contains(t, found.Fix, "hutong worker")
}
