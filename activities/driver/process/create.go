package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"hutong/activities/driver"
)

// Create makes the run's folder.
func (p *Driver) Create(_ context.Context, spec driver.Spec) (string, error) {
	id, err := p.create(spec)
	return id, driver.WrapError("create", spec.Name, err)
}

func (p *Driver) create(spec driver.Spec) (string, error) {
	if err := spec.Check(); err != nil {
		return "", err
	}
	program, err := p.allowed(spec.Command)
	if err != nil {
		return "", err
	}
	f := p.folder(spec.Name)
	record := specRecord{
		ID:        rand.Text(),
		Command:   append([]string{program}, spec.Command[1:]...),
		Labels:    spec.Labels,
		CreatedAt: time.Now().UTC(),
		MaxLog:    p.opts.MaxLog,
		Boot:      bootID(),
	}
	if found, err := f.spec(); !errors.Is(err, driver.ErrNotFound) {
		return found.ID, err
	}
	tmp := folder(filepath.Join(p.opts.Dir, tmpPrefix+rand.Text()))
	defer func() { _ = os.RemoveAll(string(tmp)) }()
	if err := tmp.fill(record, spec); err != nil {
		return "", err
	}
	switch err := os.Rename(string(tmp), string(f)); {
	case err == nil:
		return record.ID, nil
	case errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.ENOTDIR):
		found, err := f.spec()
		return found.ID, err
	default:
		return "", err
	}
}

// allowed finds the operator's own path for the program that was asked for:
// what is checked is what is run, whatever links were given.
func (p *Driver) allowed(command []string) (program string, err error) {
	return allowed(p.opts.AllowedCommands, command)
}

// CheckCommand tells why a command may not run where only the given programs are allowed, or nil.
func CheckCommand(allow, command []string) error {
	_, err := allowed(allow, command)
	return err
}

func allowed(allow, command []string) (program string, err error) {
	if len(command) == 0 {
		return "", driver.NonRetryablef("the command is missing")
	}
	asked := filepath.Clean(command[0])
	resolved, resolveErr := filepath.EvalSymlinks(asked)
	if filepath.IsAbs(asked) {
		for _, path := range allow {
			if path = filepath.Clean(path); path == asked {
				return path, nil
			}
		}
		for _, path := range allow {
			if target, err := filepath.EvalSymlinks(path); err == nil && resolveErr == nil && target == resolved {
				return filepath.Clean(path), nil
			}
		}
	}
	return "", driver.NonRetryablef("the command %q is not allowed; name its absolute path in the allowed commands of the configuration", command[0])
}

func (f folder) fill(record specRecord, spec driver.Spec) error {
	for _, dir := range []string{"", "storage", "logs"} {
		if err := os.Mkdir(f.path(dir), 0o700); err != nil {
			return err
		}
	}
	for _, m := range spec.Mounts {
		if _, err := os.Stat(m.Source); err != nil {
			return driver.NonRetryablef("mount %q: %w; make the source first", m.Target, err)
		}
		link := filepath.Join(f.path("storage"), m.Target)
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			return err
		}
		if err := os.Symlink(m.Source, link); err != nil {
			return err
		}
	}
	if err := writeJSON(f.path(envFile), spec.Env); err != nil {
		return fmt.Errorf("write the environment: %w", err)
	}
	return writeJSON(f.path(specFile), record)
}

// processEnviron is env and, where it has none, the least that programs expect.
func processEnviron(env map[string]string, home string) []string {
	list := driver.Environ(env)
	if _, ok := env["PATH"]; !ok {
		list = append(list, "PATH="+minimalPath)
	}
	if _, ok := env["HOME"]; !ok {
		list = append(list, "HOME="+home)
	}
	return list
}

var minimalPath = strings.Join([]string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":")
