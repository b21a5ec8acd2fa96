package process_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/process"
)

// prog is the test program.
var prog struct{ path string }

func TestMain(m *testing.M) {
	// The test binary is also the supervisor, and a worker that gets killed.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise":
			os.Exit(process.Supervise(os.Args[2:]))
		case "worker":
			os.Exit(killedWorker(os.Args[2:]))
		}
	}

	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "process-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()

	if prog.path, err = drivertest.BuildProgram(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	return m.Run()
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
		broken := filepath.Join(t.TempDir(), "broken")
		require.NoError(t, os.WriteFile(broken, []byte("no program"), 0o700))
		opts := processOptions(t, broken)
		another := func(t *testing.T) driver.Driver { return newProcess(t, opts) }

		return drivertest.Fixture{
			Driver: drivertest.RemoveAllAfter(t, another(t)), Another: another, Process: true,
			Spec: func(args ...string) driver.Spec {
				return driver.Spec{Name: "test-" + rand.Text(), Command: append([]string{prog.path}, args...)}
			},
			MakeUnstartable: func(spec *driver.Spec) { spec.Command = []string{broken} },
			Share:           drivertest.ShareMount,
		}
	})
}
