package kubernetes_test

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/kubernetes"
	k8senv "hutong/test/testenv/k8s"
)

// k8s is the control plane that the tests share. The first test that needs it starts it. It exits when the
// test binary closes its pipe.
var k8s struct {
	k8senv.Cluster
	once sync.Once
	err  error
	node *fakeNode
	stop func()
}

// needK8s starts the control plane, or skips the test.
func needK8s(t *testing.T) {
	program := os.Getenv("HUTONG_TEST_K8S")
	if program == "" {
		t.Skip("HUTONG_TEST_K8S names no control plane; run make test-k8s")
	}
	k8s.once.Do(func() { k8s.err = startK8s(program) })
	require.NoError(t, k8s.err)
}

func startK8s(program string) error {
	dir, err := os.MkdirTemp("", "driver-k8s-")
	if err != nil {
		return err
	}
	plane := exec.Command(program, dir)
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	plane.Stdout, plane.Stderr = logFile, logFile
	input, err := plane.StdinPipe()
	if err != nil {
		return err
	}
	if err := plane.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- plane.Wait() }()
	k8s.stop = func() {
		_ = input.Close()
		<-ended
		_ = os.RemoveAll(dir)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
			break
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(logFile.Name())
			return &exec.Error{Name: string(text[max(0, len(text)-2000):]), Err: err}
		case <-time.After(50 * time.Millisecond):
		}
	}
	if k8s.Cluster, err = k8senv.Open(filepath.Join(dir, "kubeconfig")); err != nil {
		return err
	}
	k8s.node, err = startNode(k8s.Admin)
	return err
}

// k8sNamespace creates a namespace for a party in the control plane without nodes.
func k8sNamespace(t *testing.T) (kubeconfig, namespace string) {
	needK8s(t)

	return k8s.Namespace(t)
}

// TestDriver runs the suite.
func TestDriver(t *testing.T) {
	needK8s(t)
	drivertest.Run(t, newFixture)
}

func newFixture(t *testing.T) drivertest.Fixture {
	kubeconfig, _ := k8sNamespace(t)
	opts := kubernetes.Options{NodeID: "T" + rand.Text(), Kubeconfig: kubeconfig}
	another := func(t *testing.T) driver.Driver {
		d, err := kubernetes.New(opts)
		require.NoError(t, err)
		return d
	}

	return drivertest.Fixture{
		Driver: drivertest.RemoveAllAfter(t, another(t)), Another: another, Kubernetes: true,
		Spec: func(args ...string) driver.Spec {
			return driver.Spec{
				Name:    "Test_1.of-" + rand.Text(),
				Image:   progImage,
				Command: append([]string{"/prog"}, args...),
			}
		},
		MakeUnstartable: func(spec *driver.Spec) { spec.Command = []string{"/not there"} },

		// The programs run on this machine.
		Share: func(_ driver.Driver, _ *driver.Spec, dir string) string { return dir },
	}
}
