// Package dockerd starts Docker Engines beside the machine's own, for tests that take them down or need several. Each has
// its data, its containers, its id and its bridge to itself and changes nothing of the machine's. It takes root.
package dockerd

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Daemon is a Docker Engine of its own. It has no network for containers but the host's.
type Daemon struct {
	// Dir is its folder, with all that it writes. It should be short: it holds the paths of sockets.
	Dir string
	// Bridge is the name of its network interface, of at most 15 characters.
	Bridge string
	// LiveRestore leaves its containers running when it ends.
	LiveRestore bool
}

// Socket is where it listens.
func (d *Daemon) Socket() string { return filepath.Join(d.Dir, "docker.sock") }

// Prepare makes its folder, with a configuration of its own in the place of the machine's, and its bridge.
func (d *Daemon) Prepare() error {
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return err
	}
	config := map[string]string{}
	if keyFile() {
		config["deprecated-key-path"] = filepath.Join(d.Dir, "key.json")
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.configFile(), text, 0o644); err != nil {
		return err
	}
	return addBridge(d.Bridge)
}

func (d *Daemon) configFile() string { return filepath.Join(d.Dir, "daemon.json") }

func (d *Daemon) pidFile() string { return filepath.Join(d.Dir, "pid") }

// Command starts it; see [Daemon.Prepare].
func (d *Daemon) Command() *exec.Cmd {
	args := []string{"--config-file", d.configFile(), "--data-root", filepath.Join(d.Dir, "data"), "--exec-root", filepath.Join(d.Dir, "exec"), "--pidfile", d.pidFile(),
		"-H", "unix://" + d.Socket(), "--bridge=" + d.Bridge, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"}
	if d.LiveRestore {
		args = append(args, "--live-restore")
	}
	return exec.Command("dockerd", args...)
}

// keyFile tells whether the installed Engine takes its id from a key of the machine, as those before version 23 do, so that
// it must be given one of its own; later ones keep their id with their data.
var keyFile = sync.OnceValue(func() bool {
	out, err := exec.Command("dockerd", "--version").Output()
	if err != nil {
		return false
	}
	found := regexp.MustCompile(`version (\d+)\.`).FindSubmatch(out)
	if found == nil {
		return false
	}
	major, err := strconv.Atoi(string(found[1]))
	return err == nil && major < 23
})

// Clean removes what keeps it from starting again after it was killed.
func (d *Daemon) Clean() { _ = os.Remove(d.pidFile()) }

// Remove ends what a killed one has left running, and removes its bridge and its mounts. Its folder stays.
func (d *Daemon) Remove() {
	KillAll(d.Dir)
	removeBridge(d.Bridge)
	Unmount(d.Dir)
}

// KillAll kills every process whose command line or working directory is of a folder.
func KillAll(dir string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if strings.Contains(string(line), dir+"/") || strings.HasPrefix(cwd, dir+"/") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Unmount takes away every mount below a folder.
func Unmount(dir string) {
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
}
