// Package testenv gives tests of whole deployments what they need from outside: the normally built binaries, and one
// Temporal server for all tests of a process, so that neither the race detector's build nor the edit-test cycle compiles
// the server in.
package testenv

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
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

	"hutong/deploy/dev"
)

// Root is the repository's folder.
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

// Binary is a program that `make build` made.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not built: run 'make build' first", path)
	}
	return path
}

// FreeAddress is an address on 127.0.0.1 that nothing listens on. Nothing keeps it free.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// FreePair is an address on 127.0.0.1 that nothing listens on, nor on the next port, where a development deployment puts
// a party's transport. It is below the ports that systems hand out by themselves, so that nobody takes it by chance.
func FreePair(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := 20000 + 2*rand.IntN(6000)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if free(address) && free(net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1))) {
			return address
		}
	}
	t.Fatal("no two free ports beside each other")
	return ""
}

func free(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

var engine struct {
	sync.Once
	address string
	stop    func()
	err     error
}

// Main runs a package's tests and stops what they started. TestMain calls it.
func Main(m *testing.M) int {
	code := m.Run()
	if engine.stop != nil {
		engine.stop()
	}
	return code
}

// Temporal is the address of the Temporal server that tests share: that of HUTONG_TEST_TEMPORAL, or one that is started
// from bin/hutong with the first test that asks.
func Temporal(t testing.TB) string {
	t.Helper()
	if address := os.Getenv("HUTONG_TEST_TEMPORAL"); address != "" {
		return address
	}
	program := Binary(t, "hutong")
	engine.Do(func() { engine.address, engine.stop, engine.err = startEngine(program) })
	if engine.err != nil {
		t.Fatal(engine.err)
	}
	return engine.address
}

func startEngine(program string) (address string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "hutong-engine-")
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(program, "engine", "--data-dir", dir, "--port", "0")
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
		_ = os.RemoveAll(dir)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ready {
		stop()
		return "", nil, fmt.Errorf("the engine did not become ready: %q, %v", line, err)
	}
	return address, stop, nil
}

// Namespace makes a namespace with Hutong's search attributes, ready to use.
func Namespace(t testing.TB, address, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := dev.EnsureNamespace(ctx, client.Options{HostPort: address}, name, 24*time.Hour); err != nil {
		t.Fatalf("making namespace %s: %v", name, err)
	}
}
