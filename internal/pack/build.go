package pack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Architectures are those that Hutong is handed out for, by their names in Go.
func Architectures() []string { return []string{"amd64", "arm64"} }

// Release names what is built.
type Release struct {
	// Root is the folder of the repository.
	Root string
	// Version is that of Hutong, such as 1.2.0, and a valid tag of an image. Commit is the commit.
	Version, Commit string
	// Time is the time of all files: that of the commit (SOURCE_DATE_EPOCH), so that builds are alike.
	Time time.Time
}

var validVersion = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)

// Validate checks the fields.
func (r Release) Validate() error {
	var wrong []error
	if !validVersion.MatchString(r.Version) {
		wrong = append(wrong,
			fmt.Errorf("the version %q can't be the tag of an image: use letters, digits and .-_",
				r.Version))
	}
	if r.Commit == "" || strings.ContainsAny(r.Commit, " '\"") {
		wrong = append(wrong, fmt.Errorf("the commit %q is empty or has spaces or quotes", r.Commit))
	}
	if r.Time.Unix() <= 0 {
		wrong = append(wrong, errors.New("the time of the commit is missing: set SOURCE_DATE_EPOCH"))
	}
	return errors.Join(wrong...)
}

// Program is a program of this repository.
type Program struct {
	// Name is that of its file, Package its folder, in the module whose folder is Module.
	Name, Module, Package string
	// Tags are the build tags, Flags further flags of the linker.
	Tags, Flags string
}

// Hutong returns the program of all processes of a party, without the embedded Temporal server, which is for
// development.
func (r Release) Hutong() Program {
	return Program{Name: "hutong", Module: ".", Package: "./cmd/hutong", Tags: "slim",
		Flags: "-X main.commit=" + r.Commit + " -X main.release=" + r.Version}
}

// Provider returns the reference provider's program.
func (r Release) Provider() Program {
	return Program{Name: "provider", Module: "providers/reference", Package: "."}
}

// Build builds a static program for an architecture of Linux as the file out. Neither paths nor the state of
// the repository get into it, so builds in different folders are alike.
func (r Release) Build(ctx context.Context, p Program, arch, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("failed to build %s: %w", p.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("failed to build %s: %w", p.Name, err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", p.Tags,
		"-ldflags", strings.TrimSpace("-s -w -buildid= "+p.Flags), "-o", out, p.Package)
	cmd.Dir = filepath.Join(r.Root, p.Module)
	// GOFLAGS and the levels of instruction sets of this machine's user must not change the result.
	own := []string{"GOFLAGS", "GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "GOEXPERIMENT"}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(own, name)
	})
	cmd.Env = append(cmd.Env, "GOFLAGS=", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0",
		"CGO_ENABLED=0", "GOEXPERIMENT=")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("failed to build %s for %s: %w\n%s", p.Name, arch, err, output)
	}
	return nil
}
