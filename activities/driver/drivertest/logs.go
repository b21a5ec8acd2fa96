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
