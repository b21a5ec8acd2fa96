// Package image builds a Docker image of the reference provider's program through the Docker API. It pulls
// nothing and needs neither the docker command nor a Dockerfile on the machine.
//
// The image is FROM scratch and runs as root, since the output directories that a platform mounts belong to
// the user that runs the platform. The program needs no capabilities, so a platform may drop them all. It may
// also run the image as another user that can write to the output directories.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/client"
)

// label holds the digest of the program. It identifies existing images of the same program.
const label = "hutong.provider.sha256"

const dockerfile = "FROM scratch\nCOPY provider /provider\nENTRYPOINT [\"/provider\"]\n"

// Load builds an image of the static binary and adds all tags, such as hutong/provider:1.0.0. It skips tags
// of an existing image of the same binary, so that Load can be called at each start.
func Load(ctx context.Context, cli *client.Client, binary string, tags ...string) error {
	if len(tags) == 0 {
		return errors.New("failed to build provider image: no tag is given")
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("failed to build provider image: %w", err)
	}
	hash := sha256.Sum256(program)
	digest := hex.EncodeToString(hash[:])
	var missing []string
	for _, tag := range tags {
		found, err := cli.ImageInspect(ctx, tag)
		if err != nil && !cerrdefs.IsNotFound(err) {
			return fmt.Errorf("failed to inspect provider image %s: %w", tag, err)
		}
		if err != nil || found.Config == nil || found.Config.Labels[label] != digest {
			missing = append(missing, tag)
		}
	}

	if len(missing) == 0 {
		return nil
	}
	buildContext, err := archive(program)
	if err != nil {
		return fmt.Errorf("failed to build provider image: %w", err)
	}
	resp, err := cli.ImageBuild(ctx, buildContext, build.ImageBuildOptions{
		Version: build.BuilderV1, // needs no session with the client
		Tags:    missing,
		Labels:  map[string]string{label: digest},
		Remove:  true,
	})
	if err != nil {
		return fmt.Errorf("failed to build provider image: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := waitForBuild(resp.Body); err != nil {
		return fmt.Errorf("failed to build provider image: %w", err)
	}
	return nil
}

// archive returns the build context: the Dockerfile and the program.
func archive(program []byte) (io.Reader, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []struct {
		name string
		mode int64
		data []byte
	}{{"Dockerfile", 0o644, []byte(dockerfile)}, {"provider", 0o755, program}} {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data))}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return &buf, w.Close()
}

// waitForBuild reads the build's progress to its end. A failed step is reported as an event, not as a status.
func waitForBuild(progress io.Reader) error {
	events := json.NewDecoder(progress)
	for {
		var event struct {
			Error string `json:"error"`
		}
		err := events.Decode(&event)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("failed to read the progress: %w", err)
		}
		if event.Error != "" {
			return errors.New(event.Error)
		}
	}
}
