package transport

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// inlineBytes is the largest body that is held in memory while a call is in
// progress, and that lies in a queue's log; larger ones are files.
const inlineBytes = 64 << 10

// content is a body on its way into the spool or to a partner. Its owner must
// discard it, or have it kept by a queue.
type content struct {
	sp    *spool
	limit int64
	size  int64
	mem   []byte
	file  *os.File
	// err is what the disk said; a writer's error alone could as well be the reader's.
	err error
}

// newContent takes up to limit bytes.
func (sp *spool) newContent(limit int64) *content { return &content{sp: sp, limit: limit} }

func (c *content) Write(p []byte) (int, error) {
	if c.size+int64(len(p)) > c.limit {
		c.err = refuse(CodeTooLarge, "the message is larger than %d bytes; send smaller messages", c.limit)
		return 0, c.err
	}
	if c.file == nil && len(c.mem)+len(p) <= inlineBytes {
		c.mem = append(c.mem, p...)
		c.size += int64(len(p))
		return len(p), nil
	}
	if c.file == nil {
		name := filepath.Join(c.sp.tmp(), strconv.FormatInt(c.sp.number(), 10))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			c.err = spoolError(err)
			return 0, c.err
		}
		c.file = f
		if _, err := f.Write(c.mem); err != nil {
			c.err = spoolError(err)
			return 0, c.err
		}
		c.mem = nil
	}
	n, err := c.file.Write(p)
	c.size += int64(n)
	if err != nil {
		c.err = spoolError(err)
	}
	return n, c.err
}

// reset forgets what was written: the last of several payloads counts.
func (c *content) reset() {
	c.discard()
	c.size, c.mem, c.file, c.err = 0, nil, nil, nil
}

// discard frees what the content holds.
func (c *content) discard() {
	if c.file != nil {
		_ = c.file.Close()
		_ = os.Remove(c.file.Name())
		c.file = nil
	}
	c.mem = nil
}

// reader reads all from the beginning. Several may read one after the other.
func (c *content) reader() io.Reader {
	if c.file != nil {
		return io.NewSectionReader(c.file, 0, c.size)
	}
	return bytes.NewReader(c.mem)
}

// moveTo makes the content's file the one at path.
func (c *content) moveTo(path string) error {
	if err := os.Rename(c.file.Name(), path); err != nil {
		return err
	}
	_ = c.file.Close()
	c.file = nil
	return nil
}
