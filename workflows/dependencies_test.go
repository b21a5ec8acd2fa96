package workflows_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependencies checks that the workflows and the API know of no driver: they link neither Kubernetes nor
// the client of Docker Engine.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "hutong/workflows/...", "hutong/api").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "hutong/activities/runner")

	for pkg := range strings.Lines(string(out)) {
		pkg = strings.TrimSpace(pkg)
		require.False(t,
			strings.HasPrefix(pkg, "k8s.io/") || strings.HasPrefix(pkg, "github.com/docker/docker"), pkg)
	}
}
