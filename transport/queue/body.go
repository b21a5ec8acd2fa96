package queue

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"hutong/transport/status"
)

const (
	// InlineBytes is the largest body that is stored in a queue's log. Larger bodies are files there.
	InlineBytes = 64 << 10

	// maxMemoryBody is the largest body that is held in memory during a call. Files cost more than bytes of
	// that size, and sessions that send at once would wait for each other's files.
	maxMemoryBody = 2 << 20
	// memoryBodies bounds what all bodies above InlineBytes hold in memory together. Without space left, such
	// a body is a temporary file.
	memoryBodies = 64 << 20
	// filePiece is how much of a body is written to its file at once. Pieces of the size in which a
	// connection delivers cost half as much again.
	filePiece = 256 << 10
)

var filePieces = sync.Pool{New: func() any { return new([filePiece]byte) }}

// Body is a body in transit, into a queue or to a partner. Its owner writes it, calls Complete, and must
// Discard it or Push it.
type Body struct {
	b        *Broker
	limit    int64
	expected int64
	size     int64
	mem      []byte
	held     int64 // bytes of the memory for bodies
	file     *os.File
	piece    *[filePiece]byte // its first inPiece bytes are not in the file yet
	inPiece  int
	err      error
}

// NewBody returns an empty body of at most limit bytes. About expected bytes will be written, or an unknown
// number if it is negative.
func (b *Broker) NewBody(limit, expected int64) *Body {
	return &Body{b: b, limit: limit, expected: expected}
}

// Size returns the number of bytes written.
func (c *Body) Size() int64 { return c.size }

// Err returns the failure of the last Write or of Complete. It distinguishes a full disk from a reader that
// failed while it was copied.
func (c *Body) Err() error { return c.err }

func (c *Body) Write(p []byte) (int, error) {
	if c.size+int64(len(p)) > c.limit {
		c.err = status.Errorf(status.TooLarge, "the message is larger than %d bytes; send smaller messages",
			c.limit)
		return 0, c.err
	}

	if c.file == nil && c.holdInMemory(int64(len(c.mem)+len(p))) {
		c.mem = append(c.mem, p...)
		c.size += int64(len(p))
		return len(p), nil
	}

	if c.file == nil {
		if err := c.moveToFile(); err != nil {
			c.err = spoolError(err)
			return 0, c.err
		}
	}
	return c.writeToFile(p)
}

// writeToFile adds p to the piece that is written next.
func (c *Body) writeToFile(p []byte) (n int, err error) {
	if c.piece == nil {
		c.piece = filePieces.Get().(*[filePiece]byte)
	}
	for n < len(p) {
		copied := copy(c.piece[c.inPiece:], p[n:])
		c.inPiece += copied
		if c.inPiece == filePiece {
			if err := c.writePiece(); err != nil {
				return n, err
			}
		}
		n += copied
		c.size += int64(copied)
	}
	return n, nil
}

func (c *Body) writePiece() error {
	if _, err := c.file.Write(c.piece[:c.inPiece]); err != nil {
		c.err = spoolError(err)
		return c.err
	}
	c.inPiece = 0
	return nil
}

// Complete must be called after the last Write. It may be repeated.
func (c *Body) Complete() error {
	if c.inPiece > 0 {
		if err := c.writePiece(); err != nil {
			return err
		}
	}
	c.freePiece()
	return nil
}

func (c *Body) freePiece() {
	if c.piece != nil {
		filePieces.Put(c.piece)
		c.piece, c.inPiece = nil, 0
	}
}

// holdInMemory reports whether the body's first n bytes may be in memory. It takes the space for them.
func (c *Body) holdInMemory(n int64) bool {
	if n <= InlineBytes || n <= c.held {
		return true
	}
	if max(n, c.expected) > maxMemoryBody {
		return false
	}
	want := max(n, c.expected)
	if c.expected < 0 {
		want = min(2*n, maxMemoryBody)
	}
	more := want - c.held
	if c.b.inMemory.Add(more) > memoryBodies {
		c.b.inMemory.Add(-more)
		return false
	}
	c.held = want
	c.mem = slices.Grow(c.mem, int(want)-len(c.mem))
	return true
}

// freeMemory frees the body's memory.
func (c *Body) freeMemory() {
	c.b.inMemory.Add(-c.held)
	c.mem, c.held = nil, 0
}

// moveToFile moves what is in memory to a temporary file.
func (c *Body) moveToFile() error {
	name := filepath.Join(c.b.spool.tmp(), strconv.FormatInt(c.b.spool.nextNumber(), 10))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}

	c.file = f
	if _, err := f.Write(c.mem); err != nil {
		return err
	}
	c.freeMemory()
	return nil
}

// Reset drops what was written.
func (c *Body) Reset() {
	c.Discard()
	c.size, c.err = 0, nil
}

// Discard frees the memory and the file of the body.
func (c *Body) Discard() {
	if c.file != nil {
		_ = c.file.Close()
		_ = os.Remove(c.file.Name())
		c.file = nil
	}
	c.freePiece()
	c.freeMemory()
}

// Reader returns a reader of the whole body, once it is complete. It may be called several times, for one
// read after the other.
func (c *Body) Reader() io.Reader {
	if c.file != nil {
		return io.NewSectionReader(c.file, 0, c.size)
	}
	return bytes.NewReader(c.mem)
}

// saveAs makes the body the file path.
func (c *Body) saveAs(path string) error {
	if err := c.Complete(); err != nil {
		return err
	}
	if c.file == nil {
		return writeAt(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, c.mem, 0)
	}
	if err := os.Rename(c.file.Name(), path); err != nil {
		return err
	}
	_ = c.file.Close()
	c.file = nil
	return nil
}
