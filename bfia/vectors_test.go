package bfia

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vector reads a captured message.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", name))
	require.NoError(t, err)
	return b
}

// registered returns the [Describe] of one registration.
func registered(t testing.TB, body []byte) Describe {
	t.Helper()
	r, err := ParseRegistration(body)
	require.NoError(t, err)
	return func(provider, version, component string) (*Description, error) {
		if provider != r.Name || version != r.Version {
			return nil, Errorf(CodeNotFound, "provider %s:%s is not registered here", provider, version)
		}
		raw, ok := r.Description[component]
		if !ok {
			return nil, Errorf(CodeNotFound, "provider %s:%s has no component %s", provider, version,
				component)
		}
		return ParseDescription(component, raw)
	}
}

// edit changes one value of a JSON text by its path, such as "dag.components.0.name"; a nil value removes it.
// It keeps numbers as they are written.
func edit(t testing.TB, body []byte, path string, value any) []byte {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var root any
	require.NoError(t, dec.Decode(&root))
	root = editValue(t, root, strings.Split(path, "."), value)
	out, err := json.Marshal(root)
	require.NoError(t, err)
	return out
}

func editValue(t testing.TB, in any, path []string, value any) any {
	t.Helper()
	if len(path) == 0 {
		return value
	}
	switch v := in.(type) {
	case map[string]any:
		if len(path) == 1 && value == nil {
			require.Contains(t, v, path[0])
			delete(v, path[0])
			return v
		}
		v[path[0]] = editValue(t, v[path[0]], path[1:], value)
		return v
	case []any:
		var i int
		require.NoError(t, json.Unmarshal([]byte(path[0]), &i))
		require.Less(t, i, len(v))
		v[i] = editValue(t, v[i], path[1:], value)
		return v
	case nil:
		return map[string]any{path[0]: editValue(t, nil, path[1:], value)}
	}
	require.Failf(t, "no such path", "%v in %v", path, in)
	return nil
}

func parse(t testing.TB, body []byte) *Document {
	t.Helper()
	doc, err := ParseDocument(body)
	require.NoError(t, err)
	return doc
}

// requireRefusal checks the code and the whole message, since people read it.
func requireRefusal(t *testing.T, err error, code Code, message string) {
	t.Helper()
	require.Error(t, err)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, message, e.Message)
	require.Equal(t, code, e.Code)
}
