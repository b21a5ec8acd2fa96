package drivertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	// ordinaryUser is the id of a user without rights.
	ordinaryUser = 54321
	envUserDir   = "HUTONG_TEST_USER_DIR"
	envUserImage = "HUTONG_TEST_USER_IMAGE"
)

// UserImage returns the image of the test program in a process that [AsOrdinaryUser] has started, otherwise
// "".
func UserImage() string { return os.Getenv(envUserImage) }

// AsOrdinaryUser runs the calling test again as an ordinary user who may use Docker Engine, with a folder of
// the user's own. It returns that folder in the user's process, and "" in root's, once the user's has passed.
func AsOrdinaryUser(t *testing.T, image string) (dir string) {
	t.Helper()
	if dir := os.Getenv(envUserDir); dir != "" {
		return dir
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	socket, err := os.Stat("/var/run/docker.sock")
	if err != nil {
		t.Skip(err)
	}
	dir, err = os.MkdirTemp("", "ordinary-user-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chown(dir, ordinaryUser, ordinaryUser))
	self, err := os.Executable() // its folder is closed to others
	require.NoError(t, err)
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	binary := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(binary, content, 0o755))

	c := exec.CommandContext(t.Context(), binary, "-test.run", "^"+t.Name()+"$", "-test.v")
	c.Dir = dir
	c.Env = append(os.Environ(), envUserDir+"="+dir, envUserImage+"="+image, "TMPDIR="+dir, "HOME="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser,
		Groups: []uint32{socket.Sys().(*syscall.Stat_t).Gid}}}
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())

	return ""
}
