package queue

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"hutong/transport/status"
)

// InlineBytes is the largest body that is held in memory during a call and stored in a queue's log. Larger
// bodies are files.
const InlineBytes = 64 << 10

// Body is a body in transit, into a queue or to a partner. Its owner must Discard it or Push it.
type Body struct {
	sp    *spool
	limit int64
	size  int64
	mem   []byte
	file  *os.File
	err   error
}

// NewBody returns an empty body of at most limit bytes.
func (b *Broker) NewBody(limit int64) *Body { return &Body{sp: b.spool, limit: limit} }

// Size returns the number of bytes written.
func (c *Body) Size() int64 { return c.size }

// Err returns the failure of the last Write. It distinguishes a full disk from a reader that failed while it
// was copied.
func (c *Body) Err() error { return c.err }

func (c *Body) Write(p []byte) (int, error) {
	if c.size+int64(len(p)) > c.limit {
		c.err = status.Errorf(status.TooLarge, "the message is larger than %d bytes; send smaller messages",
			c.limit)
		return 0, c.err
	}

	if c.file == nil && len(c.mem)+len(p) <= InlineBytes {
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
	n, err := c.file.Write(p)
	c.size += int64(n)
	if err != nil {
		c.err = spoolError(err)
	}
	return n, c.err
}

// moveToFile moves what is in memory to a temporary file.
func (c *Body) moveToFile() error {
	name := filepath.Join(c.sp.tmp(), strconv.FormatInt(c.sp.nextNumber(), 10))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}

	c.file = f
	if _, err := f.Write(c.mem); err != nil {
		return err
	}
	c.mem = nil
	return nil
}

// Reset drops what was written.
func (c *Body) Reset() {
	c.Discard()
	c.size, c.mem, c.file, c.err = 0, nil, nil, nil
}

// Discard frees the memory and the file of the body.
func (c *Body) Discard() {
	if c.file != nil {
		_ = c.file.Close()
		_ = os.Remove(c.file.Name())
		c.file = nil
	}
	c.mem = nil
}

// Reader returns a reader of the whole body. It may be called several times, for one read after the other.
func (c *Body) Reader() io.Reader {
	if c.file != nil {
		return io.NewSectionReader(c.file, 0, c.size)
	}
	return bytes.NewReader(c.mem)
}

// rename moves the body's file to path.
func (c *Body) rename(path string) error {
	if err := os.Rename(c.file.Name(), path); err != nil {
		return err
	}
	_ = c.file.Close()
	c.file = nil
	return nil
}
