package driver

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// writeFiles writes files into a new folder.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	return root
}

func TestMachine(t *testing.T) {
	cores := int64(runtime.NumCPU()) * 1000
	const meminfo = "MemTotal:        4000000 kB\nMemFree:          100 kB\n"
	for name, test := range map[string]struct {
		files       map[string]string
		cpu, memory int64
	}{
		"no cgroups": {map[string]string{}, cores, 4000000 << 10},
		"no limits": {map[string]string{
			"proc/self/cgroup":           "0::/a/b\n",
			"sys/fs/cgroup/a/cpu.max":    "max 100000\n",
			"sys/fs/cgroup/a/memory.max": "max\n",
		}, cores, 4000000 << 10},
		"own limits": {map[string]string{
			"proc/self/cgroup":             "0::/a/b\n",
			"sys/fs/cgroup/a/b/cpu.max":    "50000 100000\n",
			"sys/fs/cgroup/a/b/memory.max": "1048576\n",
		}, 500, 1 << 20},
		"lowest limit of all ancestors": {map[string]string{
			"proc/self/cgroup":           "0::/a/b\n",
			"sys/fs/cgroup/a/b/cpu.max":  "90000 100000\n",
			"sys/fs/cgroup/a/cpu.max":    "25000 100000",
			"sys/fs/cgroup/memory.max":   "4096",
			"sys/fs/cgroup/a/memory.max": "8192",
		}, 250, 4096},
		"cgroup version 1": {map[string]string{
			"proc/self/cgroup":                             "4:memory:/m\n3:cpu,cpuacct:/c\n",
			"sys/fs/cgroup/cpu/c/cpu.cfs_quota_us":         "30000\n",
			"sys/fs/cgroup/cpu/c/cpu.cfs_period_us":        "100000\n",
			"sys/fs/cgroup/memory/m/memory.limit_in_bytes": "65536\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us":           "-1\n",
			"sys/fs/cgroup/cpu/cpu.cfs_period_us":          "100000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
		}, 300, 65536},
		"limits above the machine": {map[string]string{
			"sys/fs/cgroup/cpu.max":    "999900000 100000",
			"sys/fs/cgroup/memory.max": "8000000000000",
		}, cores, 4000000 << 10},
		"invalid values": {map[string]string{
			"sys/fs/cgroup/cpu.max":    "x y",
			"sys/fs/cgroup/memory.max": "-5",
			"proc/self/cgroup":         "?",
		}, cores, 4000000 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			test.files["proc/meminfo"] = meminfo
			root := writeFiles(t, test.files)
			c, err := machine(root, root)
			require.NoError(t, err)
			require.Equal(t, test.cpu, c.CPUMilli)
			require.Equal(t, test.memory, c.Memory)
			require.Positive(t, c.DiskFree)
			require.GreaterOrEqual(t, c.Disk, c.DiskFree)
		})
	}
}

func TestMachineInvalidMeminfo(t *testing.T) {
	for text, message := range map[string]string{
		"":                  "has no MemTotal",
		"MemTotal: many kB": `"MemTotal: many kB"`,
		"MemTotal: 0 kB":    `"MemTotal: 0 kB"`,
	} {
		root := writeFiles(t, map[string]string{"proc/meminfo": text})
		_, err := machine(root, root)
		require.ErrorContains(t, err, message)
	}
}
