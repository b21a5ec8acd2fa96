package conformance

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocument checks that docs/bfia.md names every path of both protocols and every check.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "bfia.md"))
	require.NoError(t, err)
	document := string(text)
	for _, file := range []string{filepath.Join("..", "route.go"), filepath.Join("..", "..", "fateflow", "path.go")} {
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

// TestDocumentsNameTests checks that every test named in docs exists.
func TestDocumentsNameTests(t *testing.T) {
	tests := map[string]bool{}
	require.NoError(
		t,
		filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(source), -1) {
				tests[m[1]] = true
			}
			return err
		}),
	)
	documents, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	require.NoError(t, err)
	for _, file := range documents {
		document, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(string(document), -1) {
			require.True(t, tests[name], "%s names %s, which does not exist", file, name)
		}
	}
}
