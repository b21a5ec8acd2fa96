package kubernetes_test

import (
	"fmt"
	"os"
	"testing"

	"hutong/activities/driver/drivertest"
)

// prog is the test program.
var prog struct{ path string }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kubernetes-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()

	if prog.path, err = drivertest.BuildProgram(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if k8s.stop != nil {
			k8s.stop()
		}
	}()

	return m.Run()
}
