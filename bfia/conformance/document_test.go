package conformance

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocument checks that docs/developers/bfia.md names every path of both protocols and every check.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "developers", "bfia.md"))
	require.NoError(t, err)
	document := string(text)
	for _, file := range []string{filepath.Join("..", "route.go"),
		filepath.Join("..", "..", "fateflow", "path.go")} {
		paths, err := os.ReadFile(file)
		require.NoError(t, err)
		found := regexp.MustCompile(`= "(/[^"]+)"`).FindAllStringSubmatch(string(paths), -1)
		require.NotEmpty(t, found, file)
		for _, m := range found {
			require.Contains(t, document, m[1])
		}
	}
	for _, c := range Checks() {
		_, path, _ := strings.Cut(c.Endpoint, " ")
		if !strings.HasSuffix(path, "/nothing") {
			require.Contains(t, document, path)
		}
		for _, section := range strings.Split(c.Section, ", ") {
			require.Contains(t, document, section, "%s: %s", c.Endpoint, c.Aspect)
		}
	}
}
