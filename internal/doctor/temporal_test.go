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

// TestTemporal checks Temporal without the party's namespace, then with the namespace and without a worker.
func TestTemporal(t *testing.T) {
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir = node, t.TempDir()
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(
		t,
	), testenv.Temporal(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	cfg.Temporal.Namespace = "doctor-missing"
	found := examine(t, cfg)["temporal"]
	assert.Equal(t, doctor.Failed, found.State, "%+v", found)
	assert.Contains(t, found.Detail, "doctor-missing")
	assert.Contains(t, found.Fix, "hutong migrate")

	cfg.Temporal.Namespace = "doctor-exists"
	testenv.Namespace(t, cfg.Temporal.Address, cfg.Temporal.Namespace)
	found = examine(t, cfg)["temporal"]
	assert.Equal(t, doctor.Warning, found.State, "%+v", found)
	assert.Contains(t, found.Fix, "hutong worker")
}
