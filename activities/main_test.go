package activities_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/process"
)

// prog is the program that the containers of these tests run, and an image of it.
var prog struct {
	path, image string
	dockerErr   error // why there is no image
}

func TestMain(m *testing.M) {
	// The process driver starts this program again as its supervisor.
	if len(os.Args) > 2 && os.Args[1] == "supervise" {
		os.Exit(process.Supervise(os.Args[2:]))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if prog.image = drivertest.UserImage(); prog.image != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "activities-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	prog.path = filepath.Join(dir, "prog")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", prog.path,
		"./driver/drivertest/testdata/prog")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the test program: %v\n%s", err, out)
		return 1
	}
	prog.image = "hutong-activities-test:" + strings.ToLower(rand.Text())
	var remove func()
	remove, prog.dockerErr = importImage(prog.path, prog.image)
	if remove != nil {
		defer remove()
	}
	return m.Run()
}

// importImage creates an image that holds one program.
func importImage(path, ref string) (remove func(), err error) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "prog", Mode: 0o755, Size: int64(len(binary))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	ctx := context.Background()
	out, err := docker.ImageImport(ctx, image.ImportSource{Source: &layer, SourceName: "-"}, ref,
		image.ImportOptions{Changes: []string{"USER 65534"}}) // a vendor's image may set a user
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	if _, err := io.Copy(io.Discard, out); err != nil {
		return nil, err
	}
	return func() {
		if _, err := docker.ImageRemove(ctx, ref, image.RemoveOptions{Force: true}); err != nil {
			fmt.Fprintln(os.Stderr, "remove the test image:", err)
		}
		_ = docker.Close()
	}, nil
}

// testDriver is a real driver of this machine, with a program for it.
type testDriver struct {
	driver.Driver
	program string // its path as the driver sees it
}

// Usage implements [driver.Meter].
func (d testDriver) Usage(ctx context.Context, name string) (driver.Usage, error) {
	return d.Driver.(driver.Meter).Usage(ctx, name)
}

// eachDriver runs f with the process driver and with Docker.
// Docker may be missing unless HUTONG_REQUIRE_DOCKER is 1.
func eachDriver(t *testing.T, f func(t *testing.T, d testDriver)) {
	t.Run("process", func(t *testing.T) {
		t.Parallel()
		f(t, processDriver(t))
	})
	t.Run("docker", func(t *testing.T) {
		t.Parallel()
		if prog.dockerErr != nil && os.Getenv("HUTONG_REQUIRE_DOCKER") == "1" {
			t.Fatalf("Docker is required: %v", prog.dockerErr)
		}
		if prog.dockerErr != nil {
			t.Skipf("no Docker Engine answers: %v", prog.dockerErr)
		}
		r, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), HostNetwork: true})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		f(t, removeContainersAfter(t, testDriver{r, "/prog"}))
	})
}

// removeContainersAfter removes all containers at the end of a test, also of a failed one.
func removeContainersAfter(t *testing.T, d testDriver) testDriver {
	t.Cleanup(func() {
		containers, err := d.List(context.Background())
		require.NoError(t, err)
		for _, container := range containers {
			require.NoError(t, d.Remove(context.Background(), container.Name))
		}
	})
	return d
}

// processDriver returns the process driver, which a runner of every machine has.
func processDriver(t *testing.T) testDriver {
	t.Helper()
	r, err := process.New(process.Options{Dir: t.TempDir(), AllowedCommands: []string{prog.path}})
	require.NoError(t, err)
	return removeContainersAfter(t, testDriver{r, prog.path})
}
