package blob

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func openDir(t *testing.T) *File {
	t.Helper()
	s, err := Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "storage"))
	require.NoError(t, err)
	return s.(*File)
}

// A container that may write in its output's folder can't make us read, list or write anywhere else.
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
	for _, key := range []string{"out/link", "out/dir/secret", "out/inner", "out/pipe", "out", "out/data_0/x"} {
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
	require.Error(t, f.Replace(ctx, "out/dir/new", func(dir string) error { return nil }))
	require.NoError(t, f.Delete(ctx, "out/dir/secret"))
	require.NoError(t, f.DeletePrefix(ctx, "out/dir"))
	require.NoError(t, f.DeletePrefix(ctx, "out"))
	left, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NoDirExists(t, out)
}

// A container that has a dataset mounted reads on in what it has, until Sweep.
func TestReplacedStaysReadable(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), openDir(t)
	write := func(v string) {
		require.NoError(t, f.Replace(ctx, "ns/d", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "data_0"), []byte(v), 0o600)
		}))
	}
	write("old")
	dir, err := f.Path("ns/d")
	require.NoError(t, err)
	mount, err := os.OpenRoot(dir) // holds the folder as a bind mount does
	require.NoError(t, err)
	defer mount.Close()
	write("new")
	require.NoError(t, f.Sweep(ctx, time.Hour))
	old, err := mount.ReadFile("data_0")
	require.NoError(t, err)
	require.Equal(t, "old", string(old))
	info, err := os.Stat(filepath.Join(dir, "data_0"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "readable for a container's user")
	require.NoError(t, f.Sweep(ctx, 0))
	_, err = mount.ReadFile("data_0")
	require.ErrorIs(t, err, os.ErrNotExist)
	stages, err := os.ReadDir(filepath.Join(f.root, tmp))
	require.NoError(t, err)
	require.Empty(t, stages)
}

func TestSweepLeavesTheLiving(t *testing.T) {
	t.Parallel()
	ctx, f := t.Context(), openDir(t)
	require.NoError(t, f.Replace(ctx, "ns/d", func(dir string) error {
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

// Where folders can't be exchanged there are two renames; a process that died between them is completed.
func TestSweepCompletesTwoRenames(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		ctx, f := t.Context(), openDir(t)
		require.NoError(t, f.Put(ctx, "ns/d/data_0", strings.NewReader("old")))
		s, err := f.stage()
		require.NoError(t, err)
		require.NoError(t, os.Mkdir(s.data(), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(s.data(), "data_0"), []byte("new"), 0o600))
		require.NoError(t, s.commit("ns/d"))
		place, err := f.Path("ns/d")
		require.NoError(t, err)
		require.NoError(t, os.Rename(place, s.old()))
		require.NoError(t, s.lock.Close()) // dead

		want := "new"
		if later {
			want = "later"
			require.NoError(t, f.Put(ctx, "ns/d/data_0", strings.NewReader(want)))
		}
		require.NoError(t, f.Sweep(ctx, 0))
		got, err := os.ReadFile(filepath.Join(place, "data_0"))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.NoDirExists(t, s.dir)
	}
}
