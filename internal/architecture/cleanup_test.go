package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCleanupsHaveAContext checks that no cleanup of a test uses the test's context. It is cancelled before
// the cleanups run: a container that such a cleanup should remove stays, and its name is in use afterwards.
func TestCleanupsHaveAContext(t *testing.T) {
	root := filepath.Join("..", "..")
	cleanups := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, d.Name()) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || method(call) != "Cleanup" || len(call.Args) != 1 {
				return true
			}
			cleanups++
			checkCleanup(t, set, call.Args[0])
			return true
		})
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, cleanups, 100)
}

func checkCleanup(t *testing.T, set *token.FileSet, cleanup ast.Expr) {
	t.Helper()
	ast.Inspect(cleanup, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		assert.False(t, method(call) == "Context" && len(call.Args) == 0,
			"%s: the test's context is cancelled here; use context.WithoutCancel", set.Position(call.Pos()))
		return method(call) != "WithoutCancel"
	})
}

// method returns the last name of the function that is called.
func method(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}
