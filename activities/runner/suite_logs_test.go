package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/runner"
)

// A finder calls found when it was written the text.
type finder struct {
	text  string
	found func()

	mu sync.Mutex
	b  bytes.Buffer
}

func (f *finder) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.b.Write(b)
	if strings.Contains(f.b.String(), f.text) {
		f.found()
	}
	return len(b), nil
}

func (f *finder) seen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Contains(f.b.String(), f.text)
}

func TestFollow(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		dir := tempDir(t)
		spec := d.spec()
		file := d.share(d.runner, &spec, dir) + "/go"
		spec.Command = append(spec.Command, "print", "first", "print", "", "wait", file, "unended", "last")
		begin(t, ctx, d.runner, spec)
		// The run goes on only when its first line came through.
		once := sync.OnceFunc(func() { touch(t, dir+"/go") })
		f := &finder{text: "first", found: once}
		require.NoError(t, d.runner.Logs(ctx, spec.Name, true, f))
		require.Equal(t, []string{"first", "", "last"}, texts(t, f.b.String()))
		require.Equal(t, 0, end(t, ctx, d.runner, spec.Name).Code)
		for _, follow := range []bool{true, false} {
			require.Equal(t, []string{"first", "", "last"}, logs(t, ctx, d.again(t), spec.Name, follow))
		}
	})
}

// TestFollowShortRuns looks for lines lost when a run ends at once.
func TestFollowShortRuns(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		for i := range 10 {
			spec := d.spec("lines", "50", "print", fmt.Sprint(i))
			begin(t, ctx, d.runner, spec)
			lines := logs(t, ctx, d.runner, spec.Name, true)
			require.Len(t, lines, 51)
			require.Equal(t, fmt.Sprint(i), lines[50])
			require.NoError(t, d.runner.Remove(ctx, spec.Name))
		}
	})
}

func TestLargeOutput(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		const count = 100_000
		spec := d.spec("lines", fmt.Sprint(count))
		begin(t, ctx, d.runner, spec)
		for _, follow := range []bool{true, false} {
			var b bytes.Buffer
			require.NoError(t, d.runner.Logs(ctx, spec.Name, follow, &b))
			n := 0
			for line := range strings.Lines(b.String()) {
				if want := fmt.Sprintf("line %d of many, to be seen in this order\n", n); line[31:] != want {
					t.Fatalf("line %d is %q", n, line)
				}
				n++
			}
			require.Equal(t, count, n)
		}
		require.Equal(t, 0, end(t, ctx, d.runner, spec.Name).Code)
	})
}

func TestLongLines(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context, d device) {
		long := runner.MaxLogLine + 100_000
		spec := d.spec("long", "70000", "long", fmt.Sprint(long), "print", "end")
		begin(t, ctx, d.runner, spec)
		require.Equal(t, 0, end(t, ctx, d.runner, spec.Name).Code)
		lines := logs(t, ctx, d.runner, spec.Name, true)
		require.Equal(t, strings.Repeat("x", 70000), lines[0], "in one piece")
		require.Equal(t, strings.Repeat("x", long), strings.Join(lines[1:len(lines)-1], ""), "nothing lost")
		require.Len(t, lines, 4)
		require.Equal(t, "end", lines[3])
	})
}
