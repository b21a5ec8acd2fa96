package doctor_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"

	"hutong/internal/doctor"
	"hutong/internal/party"
)

func TestCapacity(t *testing.T) {
	for _, test := range []struct {
		name        string
		change      func(*party.RunnerConfig)
		state       doctor.State
		detail, fix string
	}{
		{"enough", func(r *party.RunnerConfig) { r.CPU, r.Memory, r.Disk = 1, 2, 5 }, "",
			"1 core(s), 2 GiB memory, 5 GiB disk of data_dir", ""},
		{"more than the machine has", func(r *party.RunnerConfig) { r.CPU = 100000 }, doctor.Warning,
			"runner.cpu is 1e+05, but the machine has ", "lower runner.cpu"},
		{"little CPU", func(r *party.RunnerConfig) { r.CPU = 0.5 }, doctor.Warning,
			"a usual task requests 1 core(s) of CPU", "raise runner.cpu"},
		{"little memory", func(r *party.RunnerConfig) { r.CPU, r.Memory = 1, 0.5 }, doctor.Warning,
			"a usual task requests 2 GiB of memory", "raise runner.memory"},
		{"little disk", func(r *party.RunnerConfig) { r.CPU, r.Memory, r.Disk = 1, 2, 1 }, doctor.Warning,
			"a usual task requests 5 GiB of disk", "raise runner.disk"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := party.Default()
			cfg.NodeID, cfg.DataDir = node, filepath.Join(t.TempDir(), "does", "not", "exist")
			cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(
				t,
			), freeAddress(t)
			cfg.Runner.Docker.Enabled = party.SwitchOff
			test.change(&cfg.Runner)
			found := examine(t, cfg)["capacity"]
			if test.state != "" { // the machine of a test may be smaller than a usual task
				assert.Equal(t, test.state, found.State, "%+v", found)
			}
			assert.Contains(t, found.Detail, test.detail)
			assert.Contains(t, found.Fix, test.fix)
		})
	}
}
