package dataset

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// All partitions together buffer this much.
const partitionBuffers = 16 << 20

// partitions writes rows to the files data_0, data_1, ... They are opened for each buffer that is full and not held
// open: a thousand of them may be more than the process may have.
type partitions struct {
	dir   string
	limit int // bytes that one buffers
	parts []partition
	bytes int64 // written
}

type partition struct {
	path string
	buf  bytes.Buffer
	csv  *csv.Writer
}

func newPartitions(dir string, n int) *partitions {
	p := &partitions{dir: dir, limit: min(256<<10, partitionBuffers/n), parts: make([]partition, n)}
	for i := range p.parts {
		p.parts[i].path = filepath.Join(dir, fmt.Sprintf("data_%d", i))
		p.parts[i].csv = csv.NewWriter(&p.parts[i].buf)
	}
	return p
}

// begin writes the header of each partition, so that also one without rows is there.
func (p *partitions) begin(header []string) error {
	for i := range p.parts {
		if err := p.parts[i].csv.Write(header); err != nil {
			return err
		}
		// Wide headers of many partitions are more than the buffers may hold.
		if err := p.flushPart(&p.parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// write writes a row to the partition of its id.
func (p *partitions) write(id string, row []string) error {
	part := &p.parts[partitionOf(id, len(p.parts))]
	if err := part.csv.Write(row); err != nil {
		return err
	}
	if part.buf.Len() < p.limit {
		return nil
	}
	return p.flushPart(part)
}

// partitionOf is fnv1a64(id) mod n.
func partitionOf(id string, n int) int {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return int(h % uint64(n))
}

func (p *partitions) flush() error {
	for i := range p.parts {
		if err := p.flushPart(&p.parts[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p *partitions) flushPart(part *partition) error {
	part.csv.Flush()
	if err := part.csv.Error(); err != nil {
		return err
	}
	file, err := os.OpenFile(part.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	n, err := file.Write(part.buf.Bytes())
	p.bytes += int64(n)
	if part.buf.Cap() > 4*p.limit {
		part.buf = bytes.Buffer{} // a long row's; the writer has its address, which stays
	}
	part.buf.Reset()
	return errors.Join(err, file.Close())
}
