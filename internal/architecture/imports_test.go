package architecture

import (
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "hutong/"

// imports lists, for each package or tree of packages (bfia/...), the packages of ours that it may import.
// The most specific line counts. A package that no line names fails the test.
var imports = []struct {
	packages string
	allowed  []string
}{
	// The protocols and the admission algorithm: no I/O.
	{"bfia", nil},
	{"bfia/client", []string{"bfia", "internal/httpclient"}},
	{"bfia/conformance", []string{"bfia", "internal/httpclient"}},
	{"bfia/sign", nil},
	{"fateflow", []string{"bfia"}},
	{"fateflow/fateclient", []string{"bfia", "fateflow"}},
	{"admission", []string{"bfia"}},

	// Storage.
	{"store", []string{"bfia", "admission", "internal/audit", "internal/identity"}},
	{"store/blob", []string{"bfia", "internal/httpclient"}},
	{"store/dataset", []string{"bfia", "store", "store/blob"}},
	{"store/model", []string{"bfia", "internal/certs", "internal/zipfile", "store", "store/blob"}},
	{"store/storetest", []string{"store"}},

	// Execution.
	{"workflows/...", []string{"bfia", "fateflow", "activities/...", "workflows/..."}},
	{"workflows/periodic", []string{"bfia", "activities/...", "store", "workflows/...",
		"internal/calendar"}},
	{"activities/...",
		[]string{"bfia", "bfia/client", "fateflow", "admission", "store/...", "activities/...",
			"internal/httpclient"}},
	{"activities/housekeeping",
		[]string{"bfia", "bfia/sign", "store/...", "activities/..."}},
	{"activities/periodic", []string{"bfia", "store", "activities", "internal/calendar"}},
	{"activities/notification", []string{"bfia", "internal/notify", "store", "activities"}},
	{"activities/driver", []string{"bfia"}},
	{"activities/driver/...", []string{"activities/driver", "activities/logline", "bfia",
		"internal/httpclient"}},
	{"activities/logline", nil},
	{"worker", []string{"workflows/...", "activities/...", "admission", "bfia", "store/..."}},

	// Interfaces to the outside.
	{
		"api",
		[]string{"bfia", "bfia/client", "fateflow/...", "admission", "store/...", "activities/...",
			"workflows/...", "internal/audit", "internal/evidence", "internal/httpguard",
			"internal/certs", "internal/identity", "internal/limits", "internal/clients",
			"internal/calendar", "internal/notify", "console"},
	},
	{"gate", []string{"gate/storage", "bfia", "transport/wire", "transport/status", "internal/identity",
		"internal/httpguard", "internal/httpclient"}},
	{"gate/storage", []string{"store/blob", "internal/httpclient"}},
	{"transport",
		[]string{"transport/...", "internal/httpguard", "internal/httpclient", "internal/identity"}},
	{"transport/queue", []string{"transport/status"}},
	{"transport/wire", []string{"transport/status"}},
	{"transport/status", nil},
	{"transport/ptp", nil},
	{"console", nil},
	{"internal/placement", []string{"bfia", "store", "transport/status"}},

	// Assembly.
	{
		"internal/party",
		[]string{"bfia/...", "fateflow", "admission", "store/...", "workflows/...", "activities/...",
			"worker", "api", "gate/...", "transport/...", "console", "internal/httpclient",
			"internal/identity", "internal/clients", "internal/duration", "internal/codec",
			"internal/secretfile", "internal/certs", "internal/partners", "internal/limits",
			"internal/audit", "internal/evidence", "internal/imageref", "internal/notify",
			"internal/metrics", "internal/httpguard", "internal/tracing", "internal/restore",
			"internal/placement", "internal/link"},
	},
	{"internal/devserver", []string{"internal/party", "internal/temporalns", "internal/httpclient",
		"internal/certs"}},
	{"internal/doctor",
		[]string{"bfia", "activities/...", "store/...", "internal/party", "internal/temporalns",
			"internal/httpclient", "internal/certs", "internal/duration", "internal/audit",
			"internal/identity", "internal/notify", "internal/placement", "internal/link",
			"internal/partners"}},
	{"internal/support",
		[]string{"bfia", "store", "internal/party", "internal/doctor", "internal/httpclient"}},
	{"internal/restore", []string{"bfia", "store/...", "activities", "activities/housekeeping", "workflows",
		"internal/audit", "internal/identity", "internal/placement", "internal/httpclient"}},
	{"internal/httpclient", nil},
	{"internal/tracing", []string{"internal/httpclient"}},
	{"internal/metrics", []string{"bfia", "bfia/client", "store", "transport"}},
	{"internal/notify", []string{"bfia"}},
	{"internal/identity", nil},
	{"internal/clients", []string{"bfia", "fateflow", "store", "internal/identity"}},
	{"internal/login", nil},
	{"internal/secretfile", nil},
	{"internal/limits", []string{"internal/identity"}},
	{"internal/codec", []string{"internal/secretfile", "internal/identity", "internal/limits"}},
	{"internal/audit", []string{"internal/identity"}},
	{"internal/evidence", []string{"internal/audit", "internal/certs", "internal/zipfile"}},
	{"internal/zipfile", nil},
	{"internal/temporalns", []string{"workflows/..."}},
	{"internal/calendar", []string{"bfia"}},
	{"internal/capacity", nil},
	{"internal/duration", nil},
	{"internal/httpguard", nil},
	{"internal/image", nil},
	{"internal/imageref", nil},
	{"internal/certs", nil},
	{"internal/partners", []string{"bfia", "bfia/sign", "fateflow", "transport/status", "internal/certs",
		"internal/httpclient", "internal/httpguard", "internal/identity", "internal/link"}},
	{"internal/link", []string{"bfia", "internal/httpguard"}},
	{"internal/vocabulary", nil},
	{"internal/architecture", nil},
	{"internal/pack", nil},
	{"cmd/hutong", []string{"..."}},
	{"cmd/pack", []string{"internal/pack"}},

	// Programs that test Hutong.
	{"test/...", []string{"..."}},
}

// pure lists the packages that do no I/O.
var pure = []string{"bfia", "bfia/sign", "fateflow", "admission", "activities/logline"}

// ioPackages lists the packages of the standard library that do I/O. net/http is missing, since bfia uses its
// status codes and its header type.
var ioPackages = []string{"os", "os/exec", "io/fs", "net", "database/sql", "log", "log/slog", "syscall"}

// goPackage is a package as `go list -json` describes it.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// listPackages returns the packages of the module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", "slim",
		"-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	require.NoError(t, err)

	var packages []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if err == io.EOF {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// matches reports whether a pattern such as bfia or bfia/... names a package.
func matches(pattern, pkg string) bool {
	tree, isTree := strings.CutSuffix(pattern, "...")
	if !isTree {
		return pattern == pkg
	}
	return strings.HasPrefix(pkg+"/", tree)
}

// allowedImports returns the most specific line of the table for a package.
func allowedImports(pkg string) (allowed []string, found bool) {
	longest := -1
	for _, line := range imports {
		specificity := len(strings.TrimSuffix(line.packages, "...")) * 2
		if line.packages == pkg {
			specificity++
		}
		if matches(line.packages, pkg) && specificity > longest {
			longest, allowed, found = specificity, line.allowed, true
		}
	}
	return allowed, found
}

// TestImports checks the imports of every package against the table. Imports of tests are not restricted.
func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		allowed, found := allowedImports(pkg)
		if !assert.True(t, found, "the table has no line for %s", pkg) {
			continue
		}
		for _, imported := range p.Imports {
			name, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			fits := slices.ContainsFunc(
				allowed,
				func(pattern string) bool { return matches(pattern, name) },
			)
			assert.True(t, fits, "%s must not import %s; it may import %v", pkg, name, allowed)
		}
	}
}

// TestPurePackages checks that the protocols and the admission algorithm import no package that does I/O.
func TestPurePackages(t *testing.T) {
	for _, p := range listPackages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if !slices.Contains(pure, pkg) {
			continue
		}
		for _, imported := range p.Imports {
			assert.NotContains(t, ioPackages, imported, "%s does no I/O", pkg)
		}
	}
}

// TestProvidersAreNotImported checks that nothing imports the reference algorithms, not even a test.
func TestProvidersAreNotImported(t *testing.T) {
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.ImportPath, module+"providers/") {
			continue
		}
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			assert.False(
				t,
				strings.HasPrefix(imported, module+"providers"),
				"%s imports %s",
				p.ImportPath,
				imported,
			)
		}
	}
}

// TestContractsLinkNoDriver checks that the workflows and the API do not depend on the Docker and Kubernetes
// clients.
func TestContractsLinkNoDriver(t *testing.T) {
	for _, p := range listPackages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if !matches("workflows/...", pkg) && pkg != "api" {
			continue
		}
		for _, dep := range p.Deps {
			for _, client := range []string{"k8s.io/", "github.com/docker/", "github.com/moby/"} {
				assert.False(t, strings.HasPrefix(dep, client), "%s depends on %s", pkg, dep)
			}
		}
	}
}
