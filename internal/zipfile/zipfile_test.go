package zipfile

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// archive returns an archive with n entries without content, and a last one.
func archive(t *testing.T, n int) *bytes.Reader {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := range n {
		_, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i), Method: zip.Store})
		require.NoError(t, err)
	}
	last, err := w.Create("last")
	require.NoError(t, err)
	_, err = last.Write([]byte("content"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return bytes.NewReader(out.Bytes())
}

func TestOpen(t *testing.T) {
	r := archive(t, 9)
	z, err := Open(r, r.Size(), 10)
	require.NoError(t, err)
	file, err := z.Open("last")
	require.NoError(t, err)
	content, err := io.ReadAll(file)
	require.NoError(t, err)
	require.Equal(t, "content", string(content))

	_, err = Open(r, r.Size(), 9)
	require.EqualError(t, err, "has more than 9 entries")
	_, err = Open(bytes.NewReader([]byte("no archive")), 10, 9)
	require.EqualError(t, err, "is not a zip file: zip: not a valid zip file")
}

// TestDirectoryOfMillions opens an archive of which the directory alone would fill the memory. It takes no
// more of it than an honest archive would.
func TestDirectoryOfMillions(t *testing.T) {
	r := archive(t, 200_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Open(r, r.Size(), 100)
	runtime.ReadMemStats(&after)
	require.EqualError(t, err, "has more than 100 entries")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "bytes allocated")
}
