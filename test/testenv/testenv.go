// Package testenv provides what tests of whole deployments share: the built binaries, and one Temporal server
// for all tests of a process. So neither the race detector's build nor a test's compilation includes the
// Temporal server.
package testenv

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/internal/temporalns"
	"hutong/test/testenv/ports"
)

// Root returns the repository's folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// Binary returns the path of a program that `make build` has built.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not built: run 'make build' first", path)
	}
	return path
}

// FreeAddress returns an unused address on 127.0.0.1 that no other caller gets.
func FreeAddress(t testing.TB) string { return freeAddresses(t, 1) }

// FreeForParty returns an unused address on 127.0.0.1 whose next four ports are free too. A development
// deployment uses them for a party's other servers.
func FreeForParty(t testing.TB) string { return freeAddresses(t, 5) }

func freeAddresses(t testing.TB, n int) string {
	t.Helper()
	port, err := ports.Free("127.0.0.1", n)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

var temporalServer struct {
	sync.Once
	address string
	stop    func()
	err     error
}

// Main runs a package's tests and stops the Temporal server that they started. TestMain calls it.
func Main(m *testing.M) int {
	code := m.Run()
	if temporalServer.stop != nil {
		temporalServer.stop()
	}
	return code
}

// Temporal returns the address of the Temporal server that all tests share: the one in HUTONG_TEST_TEMPORAL,
// or one that the first call starts from bin/hutong.
func Temporal(t testing.TB) string {
	t.Helper()
	if address := os.Getenv("HUTONG_TEST_TEMPORAL"); address != "" {
		return address
	}
	program := Binary(t, "hutong")
	temporalServer.Do(func() {
		dir, err := os.MkdirTemp("", "hutong-temporal-")
		if err != nil {
			temporalServer.err = err
			return
		}
		address, stop, err := startTemporal(program, dir)
		temporalServer.address, temporalServer.err = address, err
		temporalServer.stop = func() {
			if stop != nil {
				stop()
			}
			_ = os.RemoveAll(dir)
		}
	})
	if temporalServer.err != nil {
		t.Fatal(temporalServer.err)
	}
	return temporalServer.address
}

// OwnTemporal starts a Temporal server for one test, with more flags for 'hutong temporal'. dir holds its
// database, until the test ends.
func OwnTemporal(t testing.TB, flags ...string) (address, dir string) {
	t.Helper()
	dir = t.TempDir()
	address, stop, err := startTemporal(Binary(t, "hutong"), dir, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address, dir
}

func startTemporal(program, dir string, flags ...string) (address string, stop func(), err error) {
	cmd := exec.Command(program, append([]string{"temporal", "--data-dir", dir, "--port", "0"}, flags...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ready {
		stop()
		return "", nil, fmt.Errorf(
			"failed to start the Temporal server: it printed %q instead of its address: %v",
			line,
			err,
		)
	}
	return address, stop, nil
}

// Namespace creates a namespace with Hutong's search attributes.
func Namespace(t testing.TB, address, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := temporalns.Ensure(ctx, client.Options{HostPort: address}, name, 30*24*time.Hour); err != nil {
		t.Fatalf("failed to create namespace %s: %v", name, err)
	}
}
