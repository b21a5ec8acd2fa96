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

// environmentClients are the names of net/http that follow the proxy variables of the environment, or make
// transports with rules of their own.
var environmentClients = []string{"DefaultClient", "DefaultTransport", "Transport", "ProxyFromEnvironment",
	"ProxyURL", "Get", "Head", "Post", "PostForm"}

// TestOneHTTPClient checks that only internal/httpclient makes HTTP transports, and that each HTTP client and
// each client of S3 names its transport. So one rule decides which connections use a proxy.
func TestOneHTTPClient(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "test", "providers", "internal/httpclient"}, name) ||
				d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			files++
			checkClients(t, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 100)
}

func checkClients(t *testing.T, path string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	types := map[ast.Expr]bool{} // of variables and literals that get their transport from elsewhere
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StarExpr: // *http.Transport names the type
			types[n.X] = true
		case *ast.CompositeLit:
			for literal, field := range map[string]string{"http.Client": "Transport",
				"minio.Options": "Transport"} {
				if selector(n.Type) == literal && !setsField(n, field) {
					assert.Fail(t, "a client has no transport of internal/httpclient", "%s: %s",
						set.Position(n.Pos()), literal)
				}
			}
		case *ast.SelectorExpr:
			pkg, member, _ := strings.Cut(selector(n), ".")
			if pkg == "http" && slices.Contains(environmentClients, member) && !types[n] {
				assert.Fail(t, "only internal/httpclient makes transports", "%s: %s", set.Position(n.Pos()),
					selector(n))
			}
		}
		return true
	})
}

// selector returns "pkg.Name" for an expression of that form.
func selector(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	pkg, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return pkg.Name + "." + s.Sel.Name
}

// setsField reports whether a composite literal sets a field.
func setsField(literal *ast.CompositeLit, field string) bool {
	return slices.ContainsFunc(literal.Elts, func(e ast.Expr) bool {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		key, ok := pair.Key.(*ast.Ident)
		return ok && key.Name == field
	})
}
