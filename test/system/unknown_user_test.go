package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/testenv"
)

// TestDevAsUnknownUser starts hutong dev as a user id that the machine has no entry for, in an empty
// environment, as docker run --user does. A job runs.
func TestDevAsUnknownUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a program as another user id")
	}
	const uid = 812345
	dir, err := os.MkdirTemp("", "hutong-unknown-user-") // all users may enter it, unlike [testing.T.TempDir]
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	for _, name := range []string{"hutong", "provider"} {
		// Written by this process, it could not run while one that another test has just forked holds it.
		out, err := exec.Command("cp", testenv.Binary(t, name), filepath.Join(dir, name)).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoError(t, os.Chmod(filepath.Join(dir, name), 0o755))
	}
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	guest := &testParty{t: t, url: "http://" + testenv.FreeForParty(t)}
	host := &testParty{t: t, url: "http://" + testenv.FreeForParty(t)}
	cmd := exec.Command(filepath.Join(dir, "hutong"), "dev", "--no-docker", "--data-dir",
		filepath.Join(dir, "data"), "--temporal-port", port(testenv.FreeAddress(t)), "--ui-port",
		port(testenv.FreeAddress(t)), "--party", guestNode+"="+strings.TrimPrefix(guest.url, "http://"),
		"--party", hostNode+"="+strings.TrimPrefix(host.url, "http://"))
	cmd.Dir, cmd.Env = dir, []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	p := startCommand(t, cmd)
	p.awaitOutput("is ready")
	for _, n := range []*testParty{guest, host} {
		n.register(editJSON(t, sleepProvider(t), func(fields map[string]any) {
			fields["metadata"] = map[string]any{"command": []string{filepath.Join(dir, "provider")}}
		}), bfia.DeviceDocker) // as it is
	}
	requireSuccess(t, guest.awaitJob(guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil)),
		time.Minute, isFinished))
	p.kill(syscall.SIGTERM)
}
