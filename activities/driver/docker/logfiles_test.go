package docker_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
)

// TestDockerLogFiles reads the log files of a container whose image runs as an ordinary user: where the
// files of Docker Engine can be read, and where only its API can.
func TestDockerLogFiles(t *testing.T) {
	needDocker(t)
	ref := "hutong-driver-user-test:" + strings.ToLower(rand.Text())
	remove, err := importImage(prog.path, ref, "USER 1234")
	require.NoError(t, err)
	t.Cleanup(remove)
	for _, remote := range []bool{false, true} {
		t.Run(fmt.Sprintf("remote %t", remote), func(t *testing.T) {
			d, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), HostNetwork: true,
				RemoteEngine: remote})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Close()) })
			drivertest.RemoveAllAfter(t, d)
			own := d.LogPath("") + "/own.log"
			spec := driver.Spec{Name: "test-" + rand.Text(), Image: ref,
				Command: []string{"/prog", "append", own, "one\n",
					"append", own, "two\n", "exit", "3"}}
			_, err = d.Create(t.Context(), spec)
			require.NoError(t, err)
			require.NoError(t, d.Start(t.Context(), spec.Name))
			exit, err := d.Wait(t.Context(), spec.Name)
			require.NoError(t, err)
			require.Equal(t, 3, exit.Code)

			found := 0
			require.NoError(t, d.ScanLogFiles(t.Context(), spec.Name, func(f driver.LogFile) error {
				found++
				var text bytes.Buffer
				require.NoError(t, f.Copy(&text, 4))
				require.Equal(t, "own.log two\n", f.Name+" "+text.String())
				require.Equal(t, remote, f.ID == "")
				return nil
			}))
			require.Equal(t, 1, found)

			engine := dockerClient(t)
			c, err := engine.ContainerInspect(t.Context(), spec.Name)
			require.NoError(t, err)
			require.NoError(t, d.Remove(t.Context(), spec.Name))
			volumes, err := engine.VolumeList(t.Context(),
				volume.ListOptions{Filters: filters.NewArgs(filters.Arg("name",
					c.Mounts[0].Name))})
			require.NoError(t, err)
			require.Empty(t, volumes.Volumes, "nothing of the log files is left")
		})
	}
}
