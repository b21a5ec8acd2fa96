// Package image puts the provider's program into a Docker image, through the Docker API alone: nothing is pulled and no
// docker command or Dockerfile is needed where a platform is tried out.
//
// The image is FROM scratch and runs as root, since the directories that a platform mounts for outputs belong to whoever
// runs the platform; the program needs no capability, so a platform may drop them all, and may run the image as
// another user that can write to its outputs.
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

// label carries the digest of the program, by which an image that is there already is known.
const label = "hutong.provider.sha256"

const dockerfile = "FROM scratch\nCOPY provider /provider\nENTRYPOINT [\"/provider\"]\n"

// Load makes an image of the static binary and gives it all the tags, such as hutong/provider:1.0.0. Tags that already
// stand for an image of the same binary are left alone, so that Load can be called at each start.
func Load(ctx context.Context, cli *client.Client, binary string, tags ...string) error {
	if len(tags) == 0 {
		return errors.New("provider image: no tag was given")
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("provider image: %w", err)
	}
	hash := sha256.Sum256(program)
	digest := hex.EncodeToString(hash[:])
	var missing []string
	for _, tag := range tags {
		found, err := cli.ImageInspect(ctx, tag)
		if err != nil && !cerrdefs.IsNotFound(err) {
			return fmt.Errorf("provider image: look for %s: %w", tag, err)
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
		return fmt.Errorf("provider image: %w", err)
	}
	resp, err := cli.ImageBuild(ctx, buildContext, build.ImageBuildOptions{
		Version: build.BuilderV1, // the one that needs no session with the client
		Tags:    missing,
		Labels:  map[string]string{label: digest},
		Remove:  true,
	})
	if err != nil {
		return fmt.Errorf("provider image: build: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := outcome(resp.Body); err != nil {
		return fmt.Errorf("provider image: build: %w", err)
	}
	return nil
}

// archive is the build's context: the Dockerfile and the program.
func archive(program []byte) (io.Reader, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []struct {
		name string
		mode int64
		data []byte
	}{{"Dockerfile", 0o644, []byte(dockerfile)}, {"provider", 0o755, program}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return &buf, w.Close()
}

// outcome reads the build's progress to its end; a failed step comes as an event, not as a status.
func outcome(progress io.Reader) error {
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
			return fmt.Errorf("read the progress: %w", err)
		}
		if event.Error != "" {
			return errors.New(event.Error)
		}
	}
}
