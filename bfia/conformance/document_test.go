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

// The document names every path of the protocol and of the checks.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "bfia.md"))
	require.NoError(t, err)
	document := string(text)
	paths, err := os.ReadFile(filepath.Join("..", "route.go"))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`= "(/[^"]+)"`).FindAllStringSubmatch(string(paths), -1) {
		require.Contains(t, document, m[1])
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

// The documents name no test that is not there.
func TestDocumentsNameTests(t *testing.T) {
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(source), -1) {
			tests[m[1]] = true
		}
		return err
	}))
	documents, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	require.NoError(t, err)
	for _, file := range documents {
		document, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(string(document), -1) {
			require.True(t, tests[name], "%s names %s, and there is no such test", file, name)
		}
	}
}
