package pack

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright|patents)([.-].*)?$`)

// licences returns the licence files of Go and of all modules in the programs, from the module cache. One
// more file names the modules that have none.
func (r Release) licences(ctx context.Context) ([]packed, error) {
	all, missing := map[string]packed{}, map[string]bool{}
	for _, p := range []Program{r.Hutong(), r.Provider()} {
		if err := r.programLicences(ctx, p, all, missing); err != nil {
			return nil, err
		}
	}
	root, err := goCommand(ctx, r.Root, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	if collectLicences(all, strings.TrimSpace(root), "go-"+strings.TrimPrefix(runtime.Version(), "go")) == 0 {
		return nil, fmt.Errorf("failed to collect licences: Go has none in %s", strings.TrimSpace(root))
	}
	var files []packed
	if len(missing) > 0 {
		text := "These modules have no licence file. See their repositories.\n" +
			strings.Join(slices.Sorted(maps.Keys(missing)), "\n") + "\n"
		files = append(files, packed{name: "licences/WITHOUT-A-FILE.txt", data: []byte(text), mode: 0o644})
	}
	for _, file := range all {
		files = append(files, file)
	}
	return files, nil
}

// programLicences adds the licences of a program's modules, and the modules without one to missing. A package
// may have its own besides the module's.
func (r Release) programLicences(ctx context.Context, p Program, all map[string]packed,
	missing map[string]bool) error {
	list, err := goCommand(ctx, filepath.Join(r.Root, p.Module), "list", "-deps", "-tags", p.Tags, "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}\t{{$.Dir}}{{end}}{{end}}",
		p.Package)
	if err != nil {
		return err
	}
	found := map[string]int{}
	for line := range strings.Lines(list) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 4 {
			continue // a package of the program or of Go
		}
		module, dir := fields[0]+"@"+fields[1], fields[2]
		for folder := fields[3]; ; folder = filepath.Dir(folder) {
			below, err := filepath.Rel(dir, folder)
			if err != nil || strings.HasPrefix(below, "..") {
				break
			}
			found[module] += collectLicences(all, folder, path.Join(module, filepath.ToSlash(below)))
		}
	}
	for module, files := range found {
		if files == 0 {
			missing[module] = true
		}
	}
	return nil
}

// collectLicences adds the licence files of a folder and returns their number.
func collectLicences(all map[string]packed, dir, name string) (found int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() && licenceFile.MatchString(entry.Name()) &&
			!strings.HasSuffix(entry.Name(), ".go") {
			to := path.Join("licences", name, entry.Name())
			all[to] = packed{name: to, source: filepath.Join(dir, entry.Name()), mode: 0o644}
			found++
		}
	}
	return found
}

func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOOS=linux", "CGO_ENABLED=0")
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("failed to run go %s: %w", strings.Join(args, " "), err)
	}
	return string(output), nil
}
