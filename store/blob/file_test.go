package blob

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"hutong/bfia"
)

func openDir(t *testing.T) *File {
	t.Helper()
	s, err := Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "storage"))
	require.NoError(t, err)
	return s.(*File)
}

// A container that can write to its output's folder can't make the store read, list or write anywhere else.
func TestLinksAndPipesAreNotFollowed(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), openDir(t)
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	require.NoError(t, f.Put(ctx, "out/data_0", strings.NewReader("fine")))
	out, err := f.Path("out")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(out, "link")))
	require.NoError(t, os.Symlink(outside, filepath.Join(out, "dir")))
	require.NoError(t, os.Symlink("data_0", filepath.Join(out, "inner")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(out, "pipe"), 0o666))
	for _, key := range []string{"out/link", "out/dir/secret", "out/inner", "out/pipe", "out",
		"out/data_0/x"} {
		_, err := f.Get(ctx, key)
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err), "%s: %v", key, err)
		_, err = f.Stat(ctx, key)
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err), "%s: %v", key, err)
	}
	infos, err := f.List(ctx, "")
	require.NoError(t, err)
	require.Len(t, infos, 1)
	infos, err = f.List(ctx, "out/dir")
	require.NoError(t, err)
	require.Empty(t, infos)
	require.Error(t, f.Put(ctx, "out/dir/new", strings.NewReader("x")))
	require.Error(t, f.Create(ctx, "out/dir/new", func(dir string) error { return nil }))
	require.NoError(t, f.Delete(ctx, "out/dir/secret"))
	require.NoError(t, f.DeletePrefix(ctx, "out/dir"))
	require.NoError(t, f.DeletePrefix(ctx, "out"))
	left, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NoDirExists(t, out)
}

// If several create one prefix at the same moment, one succeeds; the others are refused.
func TestCreateAtOnce(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), openDir(t)
	var created atomic.Int32
	var all errgroup.Group
	for n := range 8 {
		all.Go(func() error {
			err := f.Create(ctx, "ns/d", func(dir string) error {
				for _, name := range []string{"data_0", "data_1"} {
					if err := os.WriteFile(filepath.Join(dir, name), fmt.Append(nil, n), 0o600); err != nil {
						return err
					}
				}
				return nil
			})
			if bfia.CodeOf(err) == bfia.CodeConflict {
				return nil
			}
			created.Add(1)
			return err
		})
	}
	require.NoError(t, all.Wait())
	require.EqualValues(t, 1, created.Load())
	dir, err := f.Path("ns/d")
	require.NoError(t, err)
	a, err := os.ReadFile(filepath.Join(dir, "data_0"))
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "data_1"))
	require.NoError(t, err)
	require.Equal(t, a, b)
	info, err := os.Stat(filepath.Join(dir, "data_0"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "readable for a container's user")
	stages, err := os.ReadDir(filepath.Join(f.root, tmp))
	require.NoError(t, err)
	require.Empty(t, stages)
}

func TestSweepLeavesTheLiving(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), openDir(t)
	require.NoError(t, f.Create(ctx, "ns/d", func(dir string) error {
		long := time.Now().Add(-1000 * time.Hour)
		require.NoError(t, os.Chtimes(filepath.Dir(dir), long, long))
		require.NoError(t, f.Sweep(context.WithoutCancel(ctx), 0))
		return os.WriteFile(filepath.Join(dir, "data_0"), []byte("x"), 0o600)
	}))
	require.NoError(t, f.Put(ctx, "a", readerFunc(func([]byte) (int, error) {
		require.NoError(t, f.Sweep(ctx, 0))
		return 0, io.EOF
	})))
	infos, err := f.List(ctx, "")
	require.NoError(t, err)
	require.Len(t, infos, 2)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The stage of a dead process is removed once it is old enough.
func TestSweepRemovesTheDead(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), openDir(t)
	s, err := f.newStage()
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(s.data(), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.data(), "data_0"), []byte("new"), 0o600))
	require.NoError(t, f.Sweep(ctx, 0))
	require.DirExists(t, s.dir, "its process is alive")
	require.NoError(t, s.lock.Close())
	require.NoError(t, f.Sweep(ctx, time.Hour))
	require.DirExists(t, s.dir, "it is younger than an hour")
	require.NoError(t, f.Sweep(ctx, 0))
	require.NoDirExists(t, s.dir)
}
