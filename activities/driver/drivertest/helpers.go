package drivertest

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
)

// ShareMount shares a directory by a mount.
func ShareMount(d driver.Driver, spec *driver.Spec, dir string) string {
	spec.Mounts = []driver.Mount{{Source: dir, Target: "out"}}

	return d.StorageRoot(spec.Name) + "/out"
}

// RemoveAllAfter removes all of the driver's containers after the test, and fails if any is left. It returns
// the driver.
func RemoveAllAfter[D driver.Driver](t *testing.T, d D) D {
	t.Cleanup(func() {
		ctx := context.Background()
		containers, err := d.List(ctx)
		require.NoError(t, err)
		for _, c := range containers {
			require.NoError(t, d.Remove(ctx, c.Name))
		}

		containers, err = d.List(ctx)
		require.NoError(t, err)
		require.Empty(t, containers)
	})

	return d
}

// Launch creates and starts a container.
func Launch(t *testing.T, ctx context.Context, d driver.Driver, spec driver.Spec) {
	t.Helper()
	id, err := d.Create(ctx, spec)
	require.NoError(t, err)
	require.NotEmpty(t, id)
	require.NoError(t, d.Start(ctx, spec.Name))
}

// Await waits for the end of a container.
func Await(t *testing.T, ctx context.Context, d driver.Driver, name string) driver.Exit {
	t.Helper()
	exit, err := d.Wait(ctx, name)
	require.NoError(t, err)
	return exit
}

// Lines splits a log into lines without their times, which it checks.
func Lines(t *testing.T, log string) []string {
	t.Helper()
	if log == "" {
		return nil
	}
	require.True(t, strings.HasSuffix(log, "\n"), "the log ends in a newline")
	var list []string
	for line := range strings.Lines(log) {
		stamp, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		require.True(t, ok, "no time in %.100q", line)
		at, err := time.Parse(driver.LogTimeFormat, stamp)
		require.NoError(t, err)
		require.Len(t, stamp, 30)
		require.WithinDuration(t, time.Now(), at, 5*time.Minute)
		list = append(list, text)
	}
	return list
}

// Logs returns the lines of a container's log without their times.
func Logs(t *testing.T, ctx context.Context, d driver.Driver, name string, follow bool) []string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, d.Logs(ctx, name, follow, &b))
	return Lines(t, b.String())
}

// TempDir returns a temporary directory that a container's root can also use.
func TempDir(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// AwaitLine waits until the container has printed a line.
func AwaitLine(t *testing.T, ctx context.Context, d driver.Driver, name, line string) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := &Finder{Text: line, Found: cancel}
	_ = d.Logs(ctx, name, true, found)
	require.True(t, found.Seen(), "%q was not printed", line)
}

// Finder is a writer that calls Found when Text was written to it.
type Finder struct {
	Text  string
	Found func()

	mu sync.Mutex
	b  bytes.Buffer
}

// Write records b.
func (f *Finder) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.b.Write(b)
	if strings.Contains(f.b.String(), f.Text) {
		f.Found()
	}
	return len(b), nil
}

// String returns all that was written.
func (f *Finder) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.b.String()
}

// Seen reports whether the text was written.
func (f *Finder) Seen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Contains(f.b.String(), f.Text)
}

// Touch creates an empty file.
func Touch(t *testing.T, file string) {
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Error(err)
	}
}
