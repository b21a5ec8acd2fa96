package runner_test

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

	"hutong/activities/runner"
)

// prog is the test program: its path on the host, and its image.
var prog struct {
	path  string
	image string
	// dockerErr is why there is no image.
	dockerErr error
}

func TestMain(m *testing.M) {
	// The test binary is the supervisor's too, and a worker that gets killed.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise":
			os.Exit(runner.Supervise(os.Args[2:]))
		case "worker":
			os.Exit(killedWorker(os.Args[2:]))
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "runner-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	prog.path = filepath.Join(dir, "prog")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", prog.path, "./testdata/prog")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the test program: %v\n%s", err, out)
		return 1
	}
	prog.image = "hutong-runner-test:" + strings.ToLower(rand.Text())
	removeImage, err := importImage(prog.path, prog.image)
	prog.dockerErr = err
	if removeImage != nil {
		defer removeImage()
	}
	defer func() {
		if k8s.stop != nil {
			k8s.stop()
		}
	}()
	return m.Run()
}

// importImage makes an image of one program.
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
		image.ImportOptions{Changes: []string{`CMD ["/prog","print","the image's own command"]`}})
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

// needDocker skips, or fails where Docker is required.
func needDocker(tb testing.TB) {
	tb.Helper()
	if prog.dockerErr == nil {
		return
	}
	if os.Getenv("HUTONG_REQUIRE_DOCKER") == "1" {
		tb.Fatalf("Docker is required: %v", prog.dockerErr)
	}
	tb.Skipf("no Docker: %v", prog.dockerErr)
}
