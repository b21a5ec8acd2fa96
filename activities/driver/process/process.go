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

// Options say where processes run, and which may.
type Options struct {
	// Dir holds a folder for each run and the supervisor's files. One party's own.
	Dir string

	// AllowedCommands are the absolute paths of the programs that may be run.
	AllowedCommands []string

	// Supervisor is the argument vector of a program that calls Supervise with what
	// follows it, here Dir; nil is this program with the argument "supervise".
	Supervisor []string

	// MaxLog is how many bytes of each run's output are kept, the last ones; 0 is 100 MiB.
	MaxLog int64
}

// Driver runs commands as processes. Make one with New.
type Driver struct {
	opts       Options
	locks      driver.LockDir
	supervisor *supervisor
}

var _ driver.Driver = (*Driver)(nil)

// The files of a Process directory that are no runs begin with a dot.
const (
	hostIDFile  = ".host-id"
	lockFolder  = ".locks"
	tmpPrefix   = ".new-"
	trashPrefix = ".old-"
)

// New makes a Runner for processes. Linux only.
func New(opts Options) (*Driver, error) {
	if runtime.GOOS != "linux" {
		return nil, driver.NonRetryablef("process runner: it works on Linux only; use Docker")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil || opts.Dir == "" {
		return nil, driver.NonRetryablef("process runner: %q cannot be the directory of the runs", opts.Dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("process runner: %w", err)
	}
	// Symbolic links out of the way: processes are recognised by their working directory.
	if opts.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("process runner: %w", err)
	}
	for _, command := range opts.AllowedCommands {
		if !filepath.IsAbs(command) {
			return nil, driver.NonRetryablef("process runner: the allowed command %q must be an absolute path", command)
		}
	}
	if opts.Supervisor == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("process runner: find this program to start the supervisor: %w", err)
		}
		opts.Supervisor = []string{self, "supervise"}
	}
	if opts.MaxLog == 0 {
		opts.MaxLog = driver.DefaultMaxLog
	}
	return &Driver{
		opts:       opts,
		locks:      driver.LockDir(filepath.Join(opts.Dir, lockFolder)),
		supervisor: &supervisor{dir: opts.Dir, argv: append(slices.Clone(opts.Supervisor), opts.Dir)},
	}, nil
}

// Device is "process".
func (p *Driver) Device() string { return "process" }

// RunnerID is a random id that is kept in the directory.
func (p *Driver) RunnerID(context.Context) (string, error) {
	file := filepath.Join(p.opts.Dir, hostIDFile)
	id, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		// A link is made whole and by one only, whoever else tries.
		tmp := filepath.Join(p.opts.Dir, tmpPrefix+rand.Text())
		if err := os.WriteFile(tmp, []byte(rand.Text()), 0o600); err != nil {
			return "", driver.WrapError("make the host's id", "", err)
		}
		err = os.Link(tmp, file)
		_ = os.Remove(tmp)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", driver.WrapError("make the host's id", "", err)
		}
		id, err = os.ReadFile(file)
		return string(id), driver.WrapError("read the host's id", "", err)
	}
	return string(id), driver.WrapError("read the host's id", "", err)
}

// StorageRoot is a folder of symbolic links.
func (p *Driver) StorageRoot(name string) string { return p.folder(name).path("storage") }

// LogPath is a folder that goes when the run is removed.
func (p *Driver) LogPath(name string) string { return p.folder(name).path("logs") }

func (p *Driver) folder(name string) folder { return folder(filepath.Join(p.opts.Dir, name)) }

// Capacity is [Machine] with the runs' folder.
func (p *Driver) Capacity(context.Context) (driver.Capacity, error) {
	return driver.Machine(p.opts.Dir)
}

// ControlPort is a free port of the host.
func (p *Driver) ControlPort() (int, error) { return driver.FreePort() }

// Address is the host's own.
func (p *Driver) Address(context.Context, string) (string, error) { return driver.Loopback, nil }

// List tells the runs of the directory.
func (p *Driver) List(context.Context) ([]driver.Container, error) {
	entries, err := os.ReadDir(p.opts.Dir)
	if err != nil {
		return nil, driver.WrapError("list runs", "", err)
	}
	runs := []driver.Container{}
	for _, entry := range entries {
		if driver.CheckName(entry.Name()) != nil {
			p.sweep(entry.Name())
			continue
		}
		f := p.folder(entry.Name())
		spec, err := f.spec()
		if err != nil {
			continue // removed meanwhile, or nothing of ours
		}
		state, _, err := f.look()
		if err != nil {
			continue
		}
		if state == driver.Running {
			if _, alive := f.process(); !alive && !p.supervisor.tracks(f.name()) {
				state = driver.Exited // Wait will tell how
			}
		}
		runs = append(runs, driver.Container{Name: f.name(), ID: spec.ID, State: state, Labels: spec.Labels, CreatedAt: spec.CreatedAt})
	}
	return runs, nil
}

// sweep removes what a Create or Remove left behind that was killed half-way.
func (p *Driver) sweep(name string) {
	if !strings.HasPrefix(name, tmpPrefix) && !strings.HasPrefix(name, trashPrefix) {
		return
	}
	path := filepath.Join(p.opts.Dir, name)
	if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
		_ = os.RemoveAll(path)
	}
}
