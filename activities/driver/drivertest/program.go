package drivertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildProgram builds the test program, statically linked, in a folder and returns its path.
func BuildProgram(dir string) (path string, err error) {
	return Build("hutong/activities/driver/drivertest/testdata/prog", filepath.Join(dir, "prog"))
}

// Build builds a program of a package, statically linked, at a path, which it returns.
func Build(pkg, path string) (string, error) {
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("failed to build the test program: %w\n%s", err, out)
	}

	return path, nil
}
