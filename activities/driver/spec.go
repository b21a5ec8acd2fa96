package driver

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"hutong/bfia"
)

// maxEnv is the kernel's MAX_ARG_STRLEN without the final NUL. execve refuses a longer "name=value" with a
// bare E2BIG that names no variable.
const maxEnv = 128<<10 - 1

// maxTotal limits environment and arguments together. It is a quarter of the usual stack limit (8 MiB), see
// execve(2), minus a reserve for the image's own environment.
const maxTotal = 2<<20 - 64<<10

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$`)

// CheckName returns a non-retryable error if a container's name is invalid.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return NonRetryablef(
			"name %q: use 2 to 128 letters, digits, '_', '.' and '-', starting with a letter or digit", name)
	}

	return nil
}

// Check returns a non-retryable error if the spec is invalid on every device. Errors never contain values of
// Env.
func (s *Spec) Check() error {
	if err := CheckName(s.Name); err != nil {
		return err
	}

	if err := errors.Join(checkEnv(s.Env), checkMounts(s.Mounts), checkResources(s.Resources)); err != nil {
		return NonRetryable(err)
	}

	for _, gpu := range s.GPUs {
		if err := CheckGPU(gpu); err != nil {
			return NonRetryable(fmt.Errorf("gpu: %w", err))
		}
	}

	total := 0
	for name, value := range s.Env {
		total += len(name) + len(value) + 2 + 8 // '=', NUL and a pointer
	}

	for _, arg := range s.Command {
		total += len(arg) + 1 + 8
		if strings.ContainsRune(arg, 0) || !utf8.ValidString(arg) {
			return NonRetryablef("command: an argument contains a NUL byte or is not UTF-8")
		}
	}

	if total > maxTotal {
		return NonRetryablef(
			"env: all variables and the command take %d bytes together, at most %d are allowed; "+
				"pass large values as a file",
			total,
			maxTotal,
		)
	}

	return nil
}

func checkEnv(env map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value := env[name]
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return fmt.Errorf("env: %q is not a valid name of a variable", name)
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return fmt.Errorf("env %q: name and value must be UTF-8, other bytes would be changed on the way",
				name)
		case strings.ContainsRune(value, 0):
			return fmt.Errorf("env %s: the value contains a NUL byte", name)
		case len(name)+1+len(value) > maxEnv:
			return fmt.Errorf(
				"env %s: name and value take %d bytes, Linux allows %d; pass large values as a file",
				name,
				len(name)+1+len(value),
				maxEnv,
			)
		}
	}

	return nil
}

func checkMounts(mounts []Mount) error {
	var targets []string
	for _, m := range mounts {
		switch {
		case !filepath.IsAbs(m.Source):
			return fmt.Errorf("mount %q: the source %q must be an absolute path", m.Target, m.Source)
		case !filepath.IsLocal(m.Target) || path.Clean(m.Target) == ".":
			return fmt.Errorf("mount %q: the target must be a relative path below the storage root", m.Target)
		}

		targets = append(targets, path.Clean(m.Target)+"/")
	}

	// Comparing sorted neighbours would not do: "a/", "a-b/" and "a/b/" sort in that order.
	for i, a := range targets {
		for j, b := range targets {
			if i != j && strings.HasPrefix(b, a) {
				return fmt.Errorf("mount %q must not be within mount %q", mounts[j].Target, mounts[i].Target)
			}
		}
	}

	return nil
}

func checkResources(r bfia.Resources) error {
	if r.CPUMilli < 0 || r.CPUMilli > 1000<<20 {
		return fmt.Errorf("resources: %d is not a number of thousandths of CPU cores", r.CPUMilli)
	}

	if r.Memory < 0 {
		return fmt.Errorf("resources: %d is not an amount of memory", r.Memory)
	}

	if r.Disk < 0 {
		return fmt.Errorf("resources: %d is not an amount of disk space", r.Disk)
	}

	if r.GPU < 0 {
		return fmt.Errorf("resources: %d is not a number of GPUs", r.GPU)
	}

	return nil
}

// Environ returns env as sorted "name=value" strings.
func Environ(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)

	return list
}
