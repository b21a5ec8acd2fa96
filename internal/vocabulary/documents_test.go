package vocabulary

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	declaredTest = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	namedTest    = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+\b`)
	link         = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// Documents promise by the names of tests. Every test that a document names exists, and every relative link leads to a file.
func TestDocumentsNameTestsAndFiles(t *testing.T) {
	root := filepath.Join("..", "..")
	declared := map[string]bool{}
	var documents []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules"):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range declaredTest.FindAllSubmatch(text, -1) {
				declared[string(m[1])] = true
			}
		case strings.HasSuffix(path, ".md"):
			documents = append(documents, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, documents)

	for _, path := range documents {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, name := range namedTest.FindAllString(string(text), -1) {
			assert.True(t, declared[name], "%s names %s, which does not exist", path, name)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(path), m[1]))
			assert.NoError(t, err, "%s links to %s", path, m[1])
		}
	}
}
