package vocabulary

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVocabulary checks every file of the project, or one folder: HUTONG_VOCABULARY=transport.
func TestVocabulary(t *testing.T) {
	only := cmp.Or(os.Getenv("HUTONG_VOCABULARY"), ".")
	root := filepath.Join("..", "..")
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", only)
	list.Dir = root
	out, err := list.Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("no git, which lists the files to check")
	}
	require.NoError(t, err)
	for name := range strings.SplitSeq(string(out), "\x00") {
		if name == "" || exempt(name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		var found []Finding
		switch filepath.Ext(name) {
		case ".go":
			found, err = CheckGo(name, text)
			require.NoError(t, err)
		case ".md", ".yaml", ".sh", ".sql", ".json", "":
			found = CheckText(name, text)
		}
		for _, f := range found {
			t.Error(f)
		}
	}
}

// exempt reports files that name the replaced words in order to replace them, that are generated, or that others wrote.
func exempt(name string) bool {
	return strings.HasPrefix(name, "internal/vocabulary/") || name == "docs/glossary.md" ||
		strings.HasSuffix(name, ".pb.go") || strings.Contains(name, "testdata/") || name == "go.mod" ||
		name == "go.sum" || filepath.Base(name) == "package-lock.json"
}

func TestCheck(t *testing.T) {
	found, err := CheckGo("x.go", []byte(`package x

// seatOf tells the seat, and goes on.
func seatOf(n int) string { return "the engine said no" }
`))
	require.NoError(t, err)
	var got []string
	for _, f := range found {
		got = append(got, f.String())
	}
	for _, want := range []string{`x.go:3: "tells"`, `x.go:3: "seat"`, `x.go:3: "goes on"`,
		`x.go:4: "the engine"`, `x.go:4: "seatO"`} {
		require.Contains(t, strings.Join(got, "\n"), want)
	}
}
