package blob_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store/blob"
)

// each runs f against a folder, and against a new bucket of the S3 server at HUTONG_TEST_S3, if that is set.
func each(t *testing.T, f func(t *testing.T, s blob.Store)) {
	t.Helper()
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		s, err := blob.Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "storage"))
		require.NoError(t, err)
		f(t, s)
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		s, err := blob.Open(t.Context(), s3Address(t))
		require.NoError(t, err)
		f(t, s)
	})
}

func s3Address(t *testing.T) string {
	t.Helper()
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	q.Set("bucket", "hutong-test-"+strings.ToLower(rand.Text()))
	u.RawQuery = q.Encode()
	return u.String()
}

func requireCode(t *testing.T, code bfia.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, bfia.CodeOf(err), "%v", err)
}

func get(t *testing.T, s blob.Store, key string) string {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func keys(t *testing.T, s blob.Store, prefix string) []string {
	t.Helper()
	infos, err := s.List(t.Context(), prefix)
	require.NoError(t, err)
	out := []string{}
	for _, i := range infos {
		out = append(out, i.Key)
	}
	return out
}

func TestObjects(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s blob.Store) {
		ctx := t.Context()
		require.Empty(t, keys(t, s, ""))
		require.Empty(t, keys(t, s, "no"))
		_, err := s.Get(ctx, "a/b")
		requireCode(t, bfia.CodeNotFound, err)
		_, err = s.Stat(ctx, "a/b")
		requireCode(t, bfia.CodeNotFound, err)
		require.NoError(t, s.Delete(ctx, "a/b"))
		require.NoError(t, s.DeletePrefix(ctx, "a"))

		for _, key := range []string{"a/b/1", "a/b/2", "a/bc", "a/实验 ?#%+.csv", "z"} {
			require.NoError(t, s.Put(ctx, key, strings.NewReader("1 "+key)))
			require.Equal(t, "1 "+key, get(t, s, key))
		}
		require.NoError(t, s.Put(ctx, "a/b/1", strings.NewReader("again")))
		require.Equal(t, "again", get(t, s, "a/b/1"))
		require.NoError(t, s.Put(ctx, "empty", strings.NewReader("")))
		require.Equal(t, "", get(t, s, "empty"))
		info, err := s.Stat(ctx, "a/b/1")
		require.NoError(t, err)
		require.Equal(t, int64(5), info.Size)
		require.Equal(t, "a/b/1", info.Key)
		require.WithinDuration(t, time.Now(), info.ModTime, time.Minute)

		require.Equal(t, []string{"a/b/1", "a/b/2", "a/bc", "a/实验 ?#%+.csv", "empty", "z"}, keys(t, s, ""))
		require.Equal(t, []string{"a/b/1", "a/b/2"}, keys(t, s, "a/b"))
		require.Empty(t, keys(t, s, "a/b/1"))
		_, err = s.Get(ctx, "a/b")
		requireCode(t, bfia.CodeNotFound, err)

		require.NoError(t, s.Delete(ctx, "z"))
		require.NoError(t, s.Delete(ctx, "z"))
		require.NoError(t, s.DeletePrefix(ctx, "a/bc"), "an object is not under its own key")
		require.NoError(t, s.DeletePrefix(ctx, "a/b"))
		require.Equal(t, []string{"a/bc", "a/实验 ?#%+.csv", "empty"}, keys(t, s, ""))
	})
}

func TestPutIsWholeOrNot(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s blob.Store) {
		ctx := t.Context()
		require.NoError(t, s.Put(ctx, "a/b", strings.NewReader("old")))
		broken := errors.New("broken")
		for _, n := range []int{0, 10, 20 << 20} { // within the first part of an upload, and in the second
			err := s.Put(ctx, "a/b",
				io.MultiReader(io.LimitReader(rand.Reader, int64(n)), iotest.ErrReader(broken)))
			require.ErrorIs(t, err, broken)
			require.Equal(t, "old", get(t, s, "a/b"))
			require.Error(
				t,
				s.Put(ctx, "a/new",
					io.MultiReader(io.LimitReader(rand.Reader, int64(n)), iotest.ErrReader(broken))),
			)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, s.Put(gone, "a/b", strings.NewReader("new")), context.Canceled)
		require.Equal(t, []string{"a/b"}, keys(t, s, ""))
		require.NoError(t, s.Sweep(ctx, 0))

		big := make([]byte, 40<<20)
		_, err := rand.Read(big)
		require.NoError(t, err)
		require.NoError(t, s.Put(ctx, "big", io.MultiReader(bytes.NewReader(big))))
		require.True(t, string(big) == get(t, s, "big"))
	})
}

func fill(files map[string]string) func(dir string) error {
	return func(dir string) error {
		for name, content := range files {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s blob.Store) {
		ctx := t.Context()
		require.NoError(t, s.Put(ctx, "ns/other/data_0", strings.NewReader("other")))
		require.NoError(
			t,
			s.Create(ctx, "ns/d",
				fill(map[string]string{"data_0": "1", "data_1": "1", "sub/x": "1", "metadata": "1"})),
		)
		all := []string{"ns/d/data_0", "ns/d/data_1", "ns/d/metadata", "ns/d/sub/x", "ns/other/data_0"}
		require.Equal(t, all, keys(t, s, ""))
		require.Equal(t, "1", get(t, s, "ns/d/data_0"))
		requireCode(t, bfia.CodeConflict,
			s.Create(ctx, "ns/d", fill(map[string]string{"data_0": "2", "metadata": "2"})))
		require.Equal(t, all, keys(t, s, ""))
		require.Equal(t, "1", get(t, s, "ns/d/data_0"))
		require.Equal(t, "1", get(t, s, "ns/d/metadata"))

		broken := errors.New("broken")
		require.ErrorIs(t, s.Create(ctx, "ns/e", func(dir string) error {
			return errors.Join(fill(map[string]string{"data_0": "3"})(dir), broken)
		}), broken)
		gone, cancel := context.WithCancel(ctx)
		require.ErrorIs(t, s.Create(gone, "ns/e", func(dir string) error {
			cancel()
			return fill(map[string]string{"data_0": "3"})(dir)
		}), context.Canceled)
		require.NoError(t, s.Sweep(ctx, 0))
		require.Equal(t, all, keys(t, s, ""))
	})
}

func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	bad := []string{
		"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "a/./b", ".tmp/x", "a/.b", "a\x00b",
		"a\nb",
		"a\\..\\b", "a\xffb", strings.Repeat("a", 256), strings.Repeat("a/", 500) + "a",
	}
	each(t, func(t *testing.T, s blob.Store) {
		ctx := t.Context()
		for _, key := range bad {
			_, err := s.Get(ctx, key)
			requireCode(t, bfia.CodeBadRequest, err)
			_, err = s.Stat(ctx, key)
			requireCode(t, bfia.CodeBadRequest, err)
			requireCode(t, bfia.CodeBadRequest, s.Put(ctx, key, strings.NewReader("x")))
			requireCode(t, bfia.CodeBadRequest, s.Delete(ctx, key))
			requireCode(t, bfia.CodeBadRequest, s.DeletePrefix(ctx, key))
			requireCode(t, bfia.CodeBadRequest, s.Create(ctx, key, fill(nil)))
			if key != "" {
				_, err = s.List(ctx, key)
				requireCode(t, bfia.CodeBadRequest, err)
			}
			if f, ok := s.(*blob.File); ok {
				_, err = f.Path(key)
				requireCode(t, bfia.CodeBadRequest, err)
			}
		}
		require.Empty(t, keys(t, s, ""))
	})
	require.NoError(t, blob.CheckKey("experiment/breast_hetero_guest/data_0"))
	require.NoError(t, blob.CheckKey("a..b/c d/e."))
}

func TestOpenRefusesAndKeepsThePassword(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "/dir", "file://host/dir", "file:dir", "file:///dir?x=1", "s3://", "s3://host:1",
		"ftp://host?password=sEcret",
		"s3://host:1?username=u", "s3://host:1?password=sEcret",
		"s3://127.0.0.1:1?username=u&password=sEcret&secure=maybe",
		"s3://127.0.0.1:x?username=u&password=sEcret",
		"s3://127.0.0.1:1?username=u&password=sEcret&bucket=A/b", "s3://%zz?password=sEcret",
	} {
		_, err := blob.Open(t.Context(), address)
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), "sEcret")
	}
}
