package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The size of the buffers of all partitions together.
const partitionBuffers = 16 << 20

// partitions writes rows to the files data_0, data_1, ...
type partitions struct {
	files []appender
	rows  []*csv.Writer
}

func newPartitions(dir string, n int) *partitions {
	p := &partitions{files: make([]appender, n), rows: make([]*csv.Writer, n)}
	for i := range n {
		p.files[i].path = filepath.Join(dir, fmt.Sprintf("data_%d", i))
		// The CSV writer uses this buffer and has none of its own.
		p.rows[i] = csv.NewWriter(bufio.NewWriterSize(&p.files[i], min(256<<10, partitionBuffers/n)))
	}
	return p
}

// begin writes the header of each partition, also of those that will have no rows.
func (p *partitions) begin(header []string) error {
	for _, w := range p.rows {
		if err := w.Write(header); err != nil {
			return err
		}
	}
	return nil
}

// write writes a row to the partition of its id.
func (p *partitions) write(id string, row []string) error {
	return p.rows[partitionOf(id, len(p.rows))].Write(row)
}

// partitionOf returns fnv1a64(id) mod n.
func partitionOf(id string, n int) int {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return int(h % uint64(n))
}

// flush writes all buffered rows, and returns the total size of the files.
func (p *partitions) flush() (int64, error) {
	var size int64
	for i, w := range p.rows {
		if w.Flush(); w.Error() != nil {
			return 0, w.Error()
		}
		size += p.files[i].size
	}
	return size, nil
}

// appender opens its file for each write and does not keep it open: a process may not have a thousand open
// files.
type appender struct {
	path string
	size int64
}

func (a *appender) Write(p []byte) (int, error) {
	file, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := file.Write(p)
	a.size += int64(n)
	return n, errors.Join(err, file.Close())
}
