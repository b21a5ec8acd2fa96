// Package zipfile opens zip archives that anybody may have made. The directory of an archive, which
// [zip.NewReader] reads into memory before it returns, can name millions of entries in a small file.
package zipfile

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// perEntry is what the directory of an honest archive takes for an entry, on average: 46 bytes and the
	// name.
	perEntry = 512
	// around is what else is read to open an archive: the search for the end of its directory, twice, and
	// buffers.
	around = 256 << 10
)

var errDirectory = errors.New("its directory is larger")

// Open opens an archive. It refuses one with more entries than most, and reads no more of its directory than
// so many take.
func Open(r io.ReaderAt, size int64, most int) (*zip.Reader, error) {
	b := &bounded{r: r, left: around + int64(most)*perEntry}
	archive, err := zip.NewReader(b, size)
	switch {
	case errors.Is(err, errDirectory), err == nil && len(archive.File) > most:
		return nil, fmt.Errorf("has more than %d entries", most)
	case err != nil:
		return nil, fmt.Errorf("is not a zip file: %w", err)
	}
	b.left = math.MaxInt64 // the content is for the caller to bound
	return archive, nil
}

// bounded reads a number of bytes at most. It is used by one goroutine while the archive is opened.
type bounded struct {
	r    io.ReaderAt
	left int64
}

func (b *bounded) ReadAt(p []byte, at int64) (int, error) {
	if b.left == math.MaxInt64 {
		return b.r.ReadAt(p, at)
	}
	n, err := b.r.ReadAt(p, at)
	if b.left -= int64(n); b.left < 0 {
		return 0, errDirectory
	}
	return n, err
}
