// Hostile is the program of a container that tries to get out of it. Each argument is an attempt, some with a
// target: NAME or NAME=TARGET. For each it prints NAME=TARGET, a tab, and "ALLOWED" or why it was refused.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var attempts = map[string]func(target string) error{
	"write":      write,
	"fill":       fill,
	"setuid":     func(string) error { return syscall.Setuid(0) },
	"setuidfile": runSetuidFile,
	"rawsocket":  func(string) error { return socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP) },
	"packet":     func(string) error { return socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300) },
	"mount":      func(string) error { return syscall.Mount("none", "/tmp", "tmpfs", 0, "") },
	"remount":    func(string) error { return syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND, "") },
	"userns":     unshareUser,
	"ptrace":     ptrace,
	"fork":       fork,
	"dial":       dial,
	"udp":        queryDNS,
	"lookup":     lookup,
	"unix":       dialUnix,
	"read":       read,
	"mknod":      func(string) error { return syscall.Mknod("/tmp/disk", syscall.S_IFBLK|0o600, 8<<8) },
	"hostname":   func(string) error { return syscall.Sethostname([]byte("hostile")) },
	"processes":  countProcesses,
	"chown":      chown,
	"whoami":     whoami,
	"eat":        eat,
}

func main() {
	if os.Args[0] == "sleep" {
		time.Sleep(time.Hour)
	}
	if len(os.Args) == 2 && os.Args[1] == "effective-user" {
		fmt.Print(os.Geteuid())
		return
	}
	for _, arg := range os.Args[1:] {
		name, target, _ := strings.Cut(arg, "=")
		result := "ALLOWED"
		if attempt, ok := attempts[name]; !ok {
			result = "UNKNOWN"
		} else if err := attempt(target); err != nil {
			result = err.Error()
		}
		fmt.Printf("%s\t%s\n", arg, result)
	}
}

func write(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("0")
	return errors.Join(err, f.Close())
}

func read(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := f.Read(make([]byte, 1)); n == 0 {
		return fmt.Errorf("nothing to read: %v", err)
	}
	return nil
}

// fill writes 64 MiB to a folder.
func fill(dir string) error {
	f, err := os.Create(dir + "/fill")
	if err != nil {
		return err
	}
	defer os.Remove(dir + "/fill")
	defer f.Close()
	for range 64 {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	return nil
}

// runSetuidFile makes this program a setuid program of the owner of a folder, or of root if it can, and runs
// it.
func runSetuidFile(dir string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	file := dir + "/setuid"
	if err := os.WriteFile(file, self, 0o755); err != nil {
		return err
	}
	if err := os.Chown(file, 0, 0); err != nil {
		return err
	}
	if err := os.Chmod(file, 0o755|os.ModeSetuid); err != nil {
		return err
	}
	out, err := exec.Command(file, "effective-user").Output()
	if err == nil && string(out) != "0" {
		err = fmt.Errorf("ran as user %s", out)
	}
	return err
}

func socket(domain, kind, protocol int) error {
	fd, err := syscall.Socket(domain, kind, protocol)
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

func unshareUser(string) error {
	cmd := exec.Command("/proc/self/exe", "effective-user")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS}
	return cmd.Run()
}

// ptrace attaches to a process of the machine by its number there.
func ptrace(pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	return syscall.PtraceAttach(n)
}

// fork starts so many processes.
func fork(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var started []*os.Process
	defer func() {
		for _, p := range started {
			_ = p.Kill()
			_, _ = p.Wait()
		}
	}()
	for range n {
		p, err := os.StartProcess("/proc/self/exe", []string{"sleep"}, &os.ProcAttr{})
		if err != nil {
			return fmt.Errorf("after some processes: %w", err)
		}
		started = append(started, p)
	}
	return nil
}

func dial(address string) error {
	c, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

// query is a DNS query for the A record of "test.".
var query = []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04test\x00\x00\x01\x00\x01")

// queryDNS sends a query to a name server, which may answer anything.
func queryDNS(address string) error {
	c, err := net.DialTimeout("udp", address, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(query); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, err = c.Read(make([]byte, 512))
	return err
}

func lookup(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := net.DefaultResolver.LookupHost(ctx, name)
	return err
}

func dialUnix(path string) error {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return err
}

// countProcesses succeeds if it sees a process besides its own.
func countProcesses(string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			return nil
		}
	}
	return errors.New("sees its own process only")
}

func chown(string) error {
	if err := os.WriteFile("/tmp/mine", nil, 0o600); err != nil {
		return err
	}
	return os.Chown("/tmp/mine", 0, 0)
}

// whoami fails with the user, the group and all capabilities, so that the test can compare them.
func whoami(string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	var found []string
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "Uid", "Gid", "CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp":
			found = append(found, name+" "+strings.Join(strings.Fields(value), " "))
		}
	}
	return errors.New(strings.Join(found, ", "))
}

var kept [][]byte

func eat(mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	for range n {
		kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
	}
	return nil
}
