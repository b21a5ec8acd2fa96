package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/logline"
)

func testFollow(t *testing.T, ctx context.Context, d Fixture) {
	dir := TempDir(t)
	spec := d.Spec()
	file := d.Share(d.Driver, &spec, dir) + "/go"
	spec.Command = append(spec.Command, "print", "first", "print", "", "wait", file, "unended", "last")
	Launch(t, ctx, d.Driver, spec)
	// The program continues only after its first line was received.
	once := sync.OnceFunc(func() { Touch(t, dir+"/go") })
	f := &Finder{Text: "first", Found: once}
	require.NoError(t, d.Driver.Logs(ctx, spec.Name, true, f))
	require.Equal(t, []string{"first", "", "last"}, Lines(t, f.String()))
	require.Equal(t, 0, Await(t, ctx, d.Driver, spec.Name).Code)
	for _, follow := range []bool{true, false} {
		require.Equal(t, []string{"first", "", "last"}, Logs(t, ctx, d.Another(t), spec.Name, follow))
	}
}

// testFollowShortContainers checks that no line is lost when a container ends at once.
func testFollowShortContainers(t *testing.T, ctx context.Context, d Fixture) {
	for i := range 10 {
		spec := d.Spec("lines", "50", "print", fmt.Sprint(i))
		Launch(t, ctx, d.Driver, spec)
		lines := Logs(t, ctx, d.Driver, spec.Name, true)
		require.Len(t, lines, 51)
		require.Equal(t, fmt.Sprint(i), lines[50])
		require.NoError(t, d.Driver.Remove(ctx, spec.Name))
	}
}

func testLargeOutput(t *testing.T, ctx context.Context, d Fixture) {
	const count = 100_000
	spec := d.Spec("lines", fmt.Sprint(count))
	Launch(t, ctx, d.Driver, spec)
	for _, follow := range []bool{true, false} {
		var b bytes.Buffer
		require.NoError(t, d.Driver.Logs(ctx, spec.Name, follow, &b))
		n := 0
		for line := range strings.Lines(b.String()) {
			if want := fmt.Sprintf("line %d of many, to be seen in this order\n", n); line[31:] != want {
				t.Fatalf("line %d is %q", n, line)
			}
			n++
		}
		require.Equal(t, count, n)
	}
	require.Equal(t, 0, Await(t, ctx, d.Driver, spec.Name).Code)
}

func testLongLines(t *testing.T, ctx context.Context, d Fixture) {
	long := driver.MaxLogLine + 100_000
	spec := d.Spec("long", "70000", "long", fmt.Sprint(long), "print", "end")
	Launch(t, ctx, d.Driver, spec)
	require.Equal(t, 0, Await(t, ctx, d.Driver, spec.Name).Code)
	lines := Logs(t, ctx, d.Driver, spec.Name, true)
	require.Equal(t, strings.Repeat("x", 70000), lines[0], "not split")
	require.Equal(t, strings.Repeat("x", long), strings.Join(lines[1:len(lines)-1], ""), "no text is lost")
	require.Len(t, lines, 4)
	require.Equal(t, "end", lines[3])
}

// testUnfinished sees the states of a progress bar while it is drawn. The log has the last one only.
func testUnfinished(t *testing.T, ctx context.Context, d Fixture) {
	if d.Kubernetes {
		t.Skip("Kubernetes returns whole lines only")
	}
	dir := TempDir(t)
	spec := d.Spec()
	file := d.Share(d.Driver, &spec, dir) + "/go"
	spec.Command = append(spec.Command, "print", "first", "bar", file, "print", "last")
	Launch(t, ctx, d.Driver, spec)
	seen := map[string]bool{}
	var cleared bool
	require.NoError(t, d.Driver.Unfinished(ctx, spec.Name, func(line []byte) {
		if cleared = len(line) == 0; cleared {
			return
		}
		text := Lines(t, string(line)+"\n")[0]
		require.Regexp(t, `^ \d+%\|█+$`, text)
		if seen[text] = true; len(seen) == 3 {
			Touch(t, dir+"/go")
		}
	}))
	require.GreaterOrEqual(t, len(seen), 3)
	require.Equal(t, 0, Await(t, ctx, d.Driver, spec.Name).Code)
	for _, follow := range []bool{true, false} {
		lines := Logs(t, ctx, d.Driver, spec.Name, follow)
		require.Len(t, lines, 3)
		require.Equal(t, []string{"first", "last"}, []string{lines[0], lines[2]})
		require.Equal(t, " 100%|██", string(logline.Resolve([]byte(lines[1]))))
	}
	require.ErrorIs(t, d.Driver.Unfinished(ctx, "no-such-container", func([]byte) {}), driver.ErrNotFound)
}

// testLogFiles reads the files that a container writes below its LogPath, while it runs and after its death.
func testLogFiles(t *testing.T, ctx context.Context, d Fixture) {
	if d.Kubernetes {
		t.Skip("a pod's folder can't be read from outside")
	}
	dir := TempDir(t)
	spec := d.Spec()
	file := d.Share(d.Driver, &spec, dir) + "/go"
	own := d.Driver.LogPath(spec.Name) + "/own.log"
	spec.Command = append(spec.Command, "append", own, "one\n", "print", "written", "wait", file, "append",
		own, "two\n",
		"exit", "3")
	scan := func() map[string]string {
		files := map[string]string{}
		require.NoError(t, d.Driver.ScanLogFiles(ctx, spec.Name, func(f driver.LogFile) error {
			var text bytes.Buffer
			if err := f.Copy(&text, 0); err != nil {
				return err
			}
			require.EqualValues(t, f.Size, text.Len())
			files[f.Name] = text.String()
			return nil
		}))
		return files
	}
	_, err := d.Driver.Create(ctx, spec)
	require.NoError(t, err)
	require.Empty(t, scan())
	require.NoError(t, d.Driver.Start(ctx, spec.Name))
	once := sync.OnceFunc(func() {
		require.Equal(t, map[string]string{"own.log": "one\n"}, scan())
		require.NoError(t, d.Driver.ScanLogFiles(ctx, spec.Name, func(f driver.LogFile) error {
			var rest bytes.Buffer
			require.NoError(t, f.Copy(&rest, 2))
			require.Equal(t, "e\n", rest.String(), "from an offset")
			return nil
		}))
		Touch(t, dir+"/go")
	})
	require.NoError(t, d.Driver.Logs(ctx, spec.Name, true, &Finder{Text: "written", Found: once}))
	require.Equal(t, 3, Await(t, ctx, d.Driver, spec.Name).Code)
	require.Equal(t, map[string]string{"own.log": "one\ntwo\n"}, scan())
	require.NoError(t, d.Driver.Remove(ctx, spec.Name))
	require.ErrorIs(t, d.Driver.ScanLogFiles(ctx, spec.Name, func(driver.LogFile) error { return nil }),
		driver.ErrNotFound)
}
