package blob

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
)

// A process that dies before the commit has changed nothing; one that dies after it is completed, by Sweep or by the
// next who replaces.
func TestS3Commit(t *testing.T) {
	t.Parallel()
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	q.Set("bucket", "hutong-test-"+strings.ToLower(rand.Text()))
	u.RawQuery = q.Encode()
	ctx := t.Context()
	opened, err := Open(ctx, u.String())
	require.NoError(t, err)
	s := opened.(*S3)
	files := func(v string, names ...string) string {
		dir := t.TempDir()
		for _, name := range names {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(v), 0o600))
		}
		return dir
	}
	read := func(key string) string {
		r, err := s.Get(ctx, key)
		require.NoError(t, err)
		defer r.Close()
		var b bytes.Buffer
		_, err = b.ReadFrom(r)
		require.NoError(t, err)
		return b.String()
	}
	for _, completedBy := range []string{"nobody", "sweep", "replace"} {
		require.NoError(t, s.DeletePrefix(ctx, "ns"))
		for _, key := range []string{"ns/d/data_0", "ns/d/data_1", "ns/d/metadata"} {
			require.NoError(t, s.Put(ctx, key, strings.NewReader("old")))
		}
		c := commit{ID: "dead-" + completedBy, Prefix: "ns/d"}
		require.NoError(t, s.upload(ctx, files("new", "data_0", "metadata"), "ns/d", &c))
		want := "new"
		if completedBy == "nobody" {
			want = "old"
		} else {
			record, err := json.Marshal(c)
			require.NoError(t, err)
			require.NoError(t, s.put(ctx, commitKey("ns/d"), bytes.NewReader(record), minio.PutObjectOptions{}))
			require.NoError(t, s.delete(ctx, "ns/d/metadata")) // how far it came
			var only minio.PutObjectOptions
			only.SetMatchETagExcept("*")
			var refused minio.ErrorResponse
			require.ErrorAs(t, s.put(ctx, commitKey("ns/d"), strings.NewReader("{}"), only), &refused, "there is one commit at a time")
			require.Equal(t, minio.PreconditionFailed, refused.Code)
		}
		if completedBy == "replace" {
			want = "newest"
			require.NoError(t, s.Replace(ctx, "ns/d", func(dir string) error {
				return os.CopyFS(dir, os.DirFS(files("newest", "data_0", "metadata")))
			}))
		}
		require.NoError(t, s.Sweep(ctx, 0))
		require.Equal(t, want, read("ns/d/data_0"))
		require.Equal(t, want, read("ns/d/metadata"))
		left, err := s.list(ctx, tmp+"/")
		require.NoError(t, err)
		require.Empty(t, left)
		n, err := s.List(ctx, "ns/d")
		require.NoError(t, err)
		if want == "old" {
			require.Len(t, n, 3)
		} else {
			require.Len(t, n, 2)
		}
	}
}
