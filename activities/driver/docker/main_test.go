package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
)

// prog is the image of the test program.
var prog struct {
	path, image string

	// dockerErr is why there is no image.
	dockerErr error
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "docker-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()

	if prog.image = drivertest.UserImage(); prog.image != "" {
		return m.Run()
	}
	path, err := drivertest.BuildProgram(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	prog.path, prog.image = path, "hutong-driver-test:"+strings.ToLower(rand.Text())
	removeImage, err := importImage(path, prog.image)
	prog.dockerErr = err
	if removeImage != nil {
		defer removeImage()
	}

	return m.Run()
}

// TestDriver runs the suite on the host's network.
func TestDriver(t *testing.T) { drivertest.Run(t, newFixture) }

func newFixture(t *testing.T) drivertest.Fixture {
	needDocker(t)
	opts := docker.Options{NodeID: "T" + rand.Text(), HostNetwork: true}
	another := func(t *testing.T) driver.Driver {
		d, err := docker.New(opts)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		return d
	}

	return drivertest.Fixture{
		Driver: drivertest.RemoveAllAfter(t, another(t)), Another: another,
		Spec: func(args ...string) driver.Spec {
			return driver.Spec{
				Name:    "test-" + rand.Text(),
				Image:   prog.image,
				Command: append([]string{"/prog"}, args...),
			}
		},
		MakeUnstartable: func(spec *driver.Spec) { spec.Command = []string{"/not there"} },
		Share:           drivertest.ShareMount,
	}
}

// importImage creates an image of one program.
func importImage(path, ref string, changes ...string) (remove func(), err error) {
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
		image.ImportOptions{Changes: append(changes, `CMD ["/prog","print","the image's own command"]`)})
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

// needDocker skips the test without Docker, or fails it if Docker is required.
func needDocker(tb testing.TB) {
	tb.Helper()
	if prog.dockerErr == nil {
		return
	}
	if os.Getenv("HUTONG_REQUIRE_DOCKER") == "1" {
		tb.Fatalf("Docker is required: %v", prog.dockerErr)
	}
	tb.Skipf("no Docker Engine answers: %v", prog.dockerErr)
}
