// Package dockerd starts additional instances of Docker Engine, for tests that stop them or need several.
// Each instance has its own data, containers, id and bridge, and does not affect the machine's own.
// It requires root.
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
	"time"
)

// Daemon is an additional Docker Engine. Its containers can only use the host network.
type Daemon struct {
	// Dir is its folder, for all its files. The path should be short, because it contains sockets.
	Dir string

	// Bridge is the name of its network interface, of at most 15 characters.
	Bridge string

	// LiveRestore keeps its containers running when it stops.
	LiveRestore bool
}

// Socket returns the path of its socket.
func (d *Daemon) Socket() string { return filepath.Join(d.Dir, "docker.sock") }

// Prepare creates the instance's folder, with a configuration that it uses instead of the machine's, and the
// instance's bridge.
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

// Command returns the command that starts it. Call [Daemon.Prepare] first.
func (d *Daemon) Command() *exec.Cmd {
	args := []string{"--config-file", d.configFile(), "--data-root", filepath.Join(d.Dir, "data"),
		"--exec-root", filepath.Join(d.Dir, "exec"), "--pidfile", d.pidFile(),
		"-H", "unix://" + d.Socket(), "--bridge=" + d.Bridge, "--iptables=false", "--ip6tables=false",
		"--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"}
	if d.LiveRestore {
		args = append(args, "--live-restore")
	}
	return exec.Command("dockerd", args...)
}

// keyFile reports whether the installed Docker Engine derives its id from a key file of the machine, so that
// it needs a key file of its own. Versions before 23 do. Later versions store their id with their data.
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

// Clean prepares a new start after it was killed: it waits for the end of its containerd, which the kernel
// kills with it, and removes both pid files. A Docker Engine that finds a containerd that dies, or one that
// nobody has waited for yet, does not start another.
func (d *Daemon) Clean() {
	config := filepath.Join(d.Dir, "exec", "containerd") + "/"
	defer func() {
		_ = os.Remove(d.pidFile())
		_ = os.Remove(config + "containerd.pid")
	}()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if !anyProcess(func(commandLine string) bool {
			program, arguments, _ := strings.Cut(commandLine, "\x00")
			return filepath.Base(program) == "containerd" && strings.Contains(arguments, config)
		}) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// anyProcess reports whether a process has a command line that matches. Its arguments end with zero bytes.
func anyProcess(match func(commandLine string) bool) bool {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && match(string(line)) {
			return true
		}
	}
	return false
}

// Remove kills the remaining processes of a killed Docker Engine, and removes its bridge and mounts. It keeps
// the folder.
func (d *Daemon) Remove() {
	KillAll(d.Dir)
	removeBridge(d.Bridge)
	Unmount(d.Dir)
}

// KillAll kills every process whose command line or working directory refers to a folder.
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

// Unmount unmounts everything below a folder.
func Unmount(dir string) {
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
}
