package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRunTests runs the tests of a small module: one passes, one is skipped, one fails.
func TestRunTests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module small\n\ngo 1.24\n",
		"a_test.go": `package small

import "testing"

func TestPass(t *testing.T) { t.Log("silent") }
func TestSkip(t *testing.T) { println("time=1 a log"); t.Log("note"); t.Skip("no tool: install it") }
func TestSub(t *testing.T)  { t.Run("one", func(t *testing.T) { t.Skipf("no %s", "disk") }) }
`,
		"b/b_test.go": `package b

import "testing"

func TestFail(t *testing.T) { t.Fatal("the reason of the failure") }
`,
		"d/d_test.go": `package d

import "testing"

func TestHangs(t *testing.T) { go panic("in another goroutine"); select {} }
`,
		"c/c_test.go": "package c\n\nvar x int = \"not built\"\n",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	file := filepath.Join(dir, "left-out")
	var out bytes.Buffer
	code, err := run([]string{file, "go", "test", "-count", "1", "./..."}, &out)
	require.NoError(t, err)
	require.Equal(t, 1, code, out.String())
	require.Contains(t, out.String(), "the reason of the failure")
	require.Equal(t, 1, strings.Count(out.String(), "panic: in another goroutine"), out.String())
	require.Contains(t, out.String(), "ok  \tsmall")
	require.NotContains(t, out.String(), "silent")

	_, err = run([]string{"-note", file, "the race detector", "no C compiler"}, &out)
	require.NoError(t, err)
	out.Reset()
	code, err = run([]string{"-print", file}, &out)
	require.NoError(t, err)
	require.Zero(t, code)
	list := strings.Join(strings.Fields(out.String()), " ")
	require.Contains(t, list, "no tool: install it small TestSkip no disk small TestSub/one")
	require.Contains(t, list, "no C compiler the race detector")
	require.NotContains(t, list, "TestPass")
	_, failed, _ := strings.Cut(out.String(), "Failed (see above):")
	require.ElementsMatch(t, []string{"small/b", "TestFail", "small/c", "small/d"}, strings.Fields(failed))

	// What took long is listed.
	require.NotContains(t, out.String(), "Took longest")
	require.NoError(t, record(file, []leftOut{{What: "small TestA", Passed: true, Seconds: 12},
		{What: "small TestB", Passed: true, Seconds: 345},
		{What: "small TestB/sub", Passed: true, Seconds: 300}}))
	out.Reset()
	_, err = run([]string{"-print", file}, &out)
	require.NoError(t, err)
	require.Contains(t, strings.Join(strings.Fields(out.String()), " "),
		"Took longest: 345 s small TestB 12 s small TestA Left out:")

	// Another run passes a test that was skipped.
	require.NoError(t, record(file, []leftOut{{What: "small TestSkip", Passed: true}}))
	out.Reset()
	_, err = run([]string{"-print", file}, &out)
	require.NoError(t, err)
	require.NotContains(t, out.String(), "TestSkip")
	code, err = run([]string{"-print", filepath.Join(dir, "none")}, &out)
	require.NoError(t, err)
	require.Zero(t, code)
}
