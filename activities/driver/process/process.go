package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"hutong/activities/driver"
)

// Options configure a Driver.
type Options struct {
	// Dir holds a folder for each container, and the supervisor's files. Parties must not share it.
	Dir string

	// AllowedCommands are the absolute paths of the programs that may run.
	AllowedCommands []string

	// Supervisor is the argument vector of a program that calls Supervise with the arguments that follow,
	// here Dir. nil is this program with the argument "supervise".
	Supervisor []string

	// MaxLog limits the stored output of each container, in bytes. The oldest output is dropped. 0 is 100
	// MiB.
	MaxLog int64
}

// Driver runs commands as processes. Create one with New.
type Driver struct {
	opts       Options
	locks      driver.LockDir
	supervisor *supervisorClient
}

var _ driver.Driver = (*Driver)(nil)

// Files and folders of the directory that are not containers start with a dot.
const (
	runnerIDFile = ".runner-id"
	lockFolder   = ".locks"
	tmpPrefix    = ".new-"
	trashPrefix  = ".old-"
)

// New returns a driver for processes. It works on Linux only.
func New(opts Options) (*Driver, error) {
	if runtime.GOOS != "linux" {
		return nil, driver.NonRetryablef("process driver: it supports Linux only; use Docker")
	}

	dir, err := filepath.Abs(opts.Dir)
	if err != nil || opts.Dir == "" {
		return nil, driver.NonRetryablef("process driver: %q is not a valid directory for containers",
			opts.Dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("process driver: %w", err)
	}

	// Processes are recognised by their working directory, so it must not contain symbolic links.
	if opts.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("process driver: %w", err)
	}

	for _, command := range opts.AllowedCommands {
		if !filepath.IsAbs(command) {
			return nil, driver.NonRetryablef(
				"process driver: the allowed command %q must be an absolute path",
				command,
			)
		}
	}

	if opts.Supervisor == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("process driver: failed to find this program, which is the supervisor: %w",
				err)
		}
		opts.Supervisor = []string{self, "supervise"}
	}

	if opts.MaxLog == 0 {
		opts.MaxLog = driver.DefaultMaxLog
	}

	return &Driver{
		opts:       opts,
		locks:      driver.LockDir(filepath.Join(opts.Dir, lockFolder)),
		supervisor: &supervisorClient{dir: opts.Dir, argv: append(slices.Clone(opts.Supervisor), opts.Dir)},
	}, nil
}

// Device returns "process".
func (p *Driver) Device() string { return "process" }

// RunnerID returns a random id that is stored in the directory.
func (p *Driver) RunnerID(context.Context) (string, error) {
	file := filepath.Join(p.opts.Dir, runnerIDFile)
	id, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := p.createRunnerID(file); err != nil {
			return "", driver.WrapError("create the runner's id", "", err)
		}
		id, err = os.ReadFile(file)
	}

	return string(id), driver.WrapError("read the runner's id", "", err)
}

// createRunnerID writes a new id unless another process was faster. A hard link appears with its whole
// content, and only one process can create it.
func (p *Driver) createRunnerID(file string) error {
	tmp := filepath.Join(p.opts.Dir, tmpPrefix+rand.Text())
	if err := os.WriteFile(tmp, []byte(rand.Text()), 0o600); err != nil {
		return err
	}

	err := os.Link(tmp, file)
	_ = os.Remove(tmp)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}

	return err
}

// StorageRoot returns a folder of symbolic links.
func (p *Driver) StorageRoot(name string) string { return p.folder(name).path("storage") }

// LogPath returns a folder that is deleted with the container.
func (p *Driver) LogPath(name string) string { return p.folder(name).path("logs") }

func (p *Driver) folder(name string) folder { return folder(filepath.Join(p.opts.Dir, name)) }

// Capacity returns the capacity of this machine, see [driver.Machine].
func (p *Driver) Capacity(context.Context) (driver.Capacity, error) {
	return driver.Machine(p.opts.Dir)
}

// ControlPort returns a free port of the machine.
func (p *Driver) ControlPort() (int, error) { return driver.FreePort() }

// Address returns the loopback address.
func (p *Driver) Address(context.Context, string) (string, error) { return driver.Loopback, nil }

// List returns the containers of the directory.
func (p *Driver) List(context.Context) ([]driver.Container, error) {
	entries, err := os.ReadDir(p.opts.Dir)
	if err != nil {
		return nil, driver.WrapError("list containers", "", err)
	}

	containers := []driver.Container{}
	for _, entry := range entries {
		if driver.CheckName(entry.Name()) != nil {
			p.sweep(entry.Name())
			continue
		}

		f := p.folder(entry.Name())
		spec, err := f.spec()
		if err != nil {
			continue // removed in the meantime, or not created by Hutong
		}

		state, _, err := f.state()
		if err != nil {
			continue
		}
		if state == driver.Running {
			if _, alive := f.process(); !alive && !p.supervisor.tracks(f.name()) {
				state = driver.Exited // Wait determines how
			}
		}

		containers = append(containers, driver.Container{
			Name: f.name(), ID: spec.ID, State: state, Labels: spec.Labels, CreatedAt: spec.CreatedAt,
		})
	}

	return containers, nil
}

// sweep removes the leftover of an interrupted Create or Remove once it is an hour old.
func (p *Driver) sweep(name string) {
	if !strings.HasPrefix(name, tmpPrefix) && !strings.HasPrefix(name, trashPrefix) {
		return
	}

	path := filepath.Join(p.opts.Dir, name)
	if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
		_ = os.RemoveAll(path)
	}
}
