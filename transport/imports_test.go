package transport

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLayers checks the imports of the packages below this one, tests included: neither the queues nor the
// parsers know HTTP, and the parsers do not know the queues.
func TestLayers(t *testing.T) {
	allowed := map[string][]string{
		"queue":  {"hutong/transport/status"},
		"wire":   {"hutong/transport/status", "hutong/transport/ptp"}, // ptp in tests only
		"status": {},
	}
	for folder, own := range allowed {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, spec := range file.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				require.NoError(t, err)
				require.NotEqual(t, "net", path, name)
				require.False(t, strings.HasPrefix(path, "net/"), "%s imports %s", name, path)
				require.False(t, strings.HasPrefix(path, "google.golang.org/grpc"), "%s imports %s", name,
					path)
				if strings.HasPrefix(path, "hutong/") {
					require.Contains(t, own, path, name)
				}
			}
		}
	}
}
