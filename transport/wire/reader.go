package wire

import (
	"bufio"
	"errors"
	"io"
	"sync"

	"hutong/transport/status"
)

var buffers = sync.Pool{New: func() any { return NewReader(nil) }}

// NewReader returns a buffered reader of the size that this package uses.
func NewReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, bufferSize) }

// Buffered calls read with a pooled buffered reader of r.
func Buffered(r io.Reader, read func(*bufio.Reader) error) error {
	br := buffers.Get().(*bufio.Reader)
	br.Reset(r)
	defer func() {
		br.Reset(nil)
		buffers.Put(br)
	}()
	return read(br)
}

// TooLarge returns the refusal of a body above a limit.
func TooLarge(limit int64) *status.Error {
	return status.Errorf(status.TooLarge, "the body is larger than %d bytes; send smaller messages", limit)
}

// BodyReader reads a body up to a limit. It records failures of the underlying reader, which differ from a
// body that can't be parsed.
type BodyReader struct {
	r           io.Reader
	left, limit int64
	err         error
}

// NewBodyReader returns a reader of at most limit bytes of r. More is refused with status.TooLarge.
func NewBodyReader(r io.Reader, limit int64) *BodyReader {
	return &BodyReader{r: r, left: limit, limit: limit}
}

// Err returns the failure of the underlying reader, if there was one. The end of the body is none.
func (b *BodyReader) Err() error { return b.err }

// Count returns the number of bytes that were read.
func (b *BodyReader) Count() int64 { return b.limit - b.left }

func (b *BodyReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, expectEOF(b.r, b.limit)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// expectEOF returns io.EOF at the end of r, and otherwise the refusal of a body above limit.
func expectEOF(r io.Reader, limit int64) error {
	var one [1]byte
	if n, err := io.ReadFull(r, one[:]); n == 0 && err == io.EOF {
		return io.EOF
	}
	return TooLarge(limit)
}

// ReadAll reads a body of unknown length up to limit into memory, with a buffer that doubles.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	buf := make([]byte, 0, min(limit, 4<<10))
	for {
		if len(buf) == cap(buf) {
			if int64(len(buf)) == limit {
				if err := expectEOF(r, limit); err != io.EOF {
					return nil, err
				}
				return buf, nil
			}
			larger := make([]byte, len(buf), min(int64(cap(buf))*2, limit))
			copy(larger, buf)
			buf = larger
		}

		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// ParseError returns the refusal of a body that can't be parsed. A refusal stays as it is.
func ParseError(err error) error {
	if _, ok := errors.AsType[*status.Error](err); ok {
		return err
	}
	return status.Errorf(status.BadRequest, "failed to parse the body: %.200v", err)
}
