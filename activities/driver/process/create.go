package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"hutong/activities/driver"
)

// Create creates the container's folder.
func (p *Driver) Create(_ context.Context, spec driver.Spec) (string, error) {
	id, err := p.create(spec)

	return id, driver.WrapError("create", spec.Name, err)
}

func (p *Driver) create(spec driver.Spec) (string, error) {
	if err := spec.Check(); err != nil {
		return "", err
	}

	program, err := findAllowed(p.opts.AllowedCommands, spec.Command)
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

// CheckCommand returns an error if only the given programs are allowed and the command is another one.
func CheckCommand(allow, command []string) error {
	_, err := findAllowed(allow, command)

	return err
}

// findAllowed returns the operator's own path of the requested program. The checked path is the one that
// runs, whatever links the request contains.
func findAllowed(allow, command []string) (program string, err error) {
	if len(command) == 0 {
		return "", driver.NonRetryablef("the command is missing")
	}

	requested := filepath.Clean(command[0])
	resolved, resolveErr := filepath.EvalSymlinks(requested)
	if filepath.IsAbs(requested) {
		for _, path := range allow {
			if path = filepath.Clean(path); path == requested {
				return path, nil
			}
		}

		for _, path := range allow {
			target, err := filepath.EvalSymlinks(path)
			if err == nil && resolveErr == nil && target == resolved {
				return filepath.Clean(path), nil
			}
		}
	}

	return "", driver.NonRetryablef(
		"the command %q is not allowed; add its absolute path to the allowed commands of the configuration",
		command[0],
	)
}

func (f folder) fill(record specRecord, spec driver.Spec) error {
	for _, dir := range []string{"", "storage", "logs"} {
		if err := os.Mkdir(f.path(dir), 0o700); err != nil {
			return err
		}
	}

	for _, m := range spec.Mounts {
		if _, err := os.Stat(m.Source); err != nil {
			return driver.NonRetryablef("mount %q: %w; create the source first", m.Target, err)
		}

		link := filepath.Join(f.path("storage"), m.Target)
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			return err
		}
		if err := os.Symlink(m.Source, link); err != nil {
			return err
		}
	}

	if err := writeJSON(f.path(envFile), withGPUs(spec.Env, spec.GPUs)); err != nil {
		return fmt.Errorf("failed to write the environment: %w", err)
	}

	return writeJSON(f.path(specFile), record)
}

// withGPUs returns env with the variable by which CUDA hides the other GPUs of the machine.
func withGPUs(env map[string]string, gpus []string) map[string]string {
	var nvidia []string
	for _, gpu := range gpus {
		if driver.KindOfGPU(gpu) == driver.GPUNvidia {
			nvidia = append(nvidia, gpu)
		}
	}
	if len(nvidia) == 0 {
		return env
	}
	env = maps.Clone(env)
	if env == nil {
		env = map[string]string{}
	}
	env["CUDA_VISIBLE_DEVICES"] = strings.Join(nvidia, ",")

	return env
}

// minimalEnviron returns env, with defaults for the variables that most programs require.
func minimalEnviron(env map[string]string, home string) []string {
	list := driver.Environ(env)
	if _, ok := env["PATH"]; !ok {
		list = append(list, "PATH="+defaultPath)
	}
	if _, ok := env["HOME"]; !ok {
		list = append(list, "HOME="+home)
	}

	return list
}

var defaultPath = strings.Join([]string{
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
}, ":")
