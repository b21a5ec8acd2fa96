package dataset

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"hutong/bfia"
)

// reader reads the partitions of one generation as one CSV file.
type reader struct {
	ctx             context.Context
	d               *Datasets
	namespace, name string
	key             string // the prefix of the objects
	metadata        []byte
	partitions      int

	next    int // the partition to open next
	current io.ReadCloser
	buf     *bufio.Reader
	header  []byte
	last    byte // the last byte that was read
}

// Open opens a dataset as one CSV file with one header, partition after partition. It returns CodeNotFound if
// there is none. The caller closes it. A reader of an uploaded dataset reads one generation to its end. A
// dataset of another platform may change meanwhile: then reading fails with CodeConflict.
func (d *Datasets) Open(ctx context.Context, namespace, name string) (io.ReadCloser, error) {
	key, err := d.locateKey(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	m, raw, err := d.metadata(ctx, namespace, name, key)
	if err != nil {
		return nil, err
	}
	if m.FileType != "" && m.FileType != "csv" { // FATE's own tables leave it empty
		return nil, bfia.Errorf(bfia.CodeBadRequest,
			"dataset %q in namespace %q is not CSV: its file_type is %q", name, namespace, m.FileType)
	}

	partitions, err := d.countPartitions(ctx, key, m)
	if err != nil {
		return nil, err
	}
	r := &reader{
		ctx:        ctx,
		d:          d,
		namespace:  namespace,
		name:       name,
		key:        key,
		metadata:   raw,
		partitions: partitions,
	}
	// The first partition is opened here, so that the caller sees the error if it is missing.
	if err := r.nextPartition(); err != nil {
		return nil, err
	}
	return r, nil
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.buf.Read(p)
		if n > 0 {
			r.last = p[n-1]
			return n, nil
		}
		if err != io.EOF {
			return 0, err
		}
		if r.next == r.partitions {
			return 0, io.EOF
		}
		if r.last != '\n' && r.last != 0 && len(p) > 0 {
			// A container need not end its last line. The next partition starts a new row.
			p[0], r.last = '\n', '\n'
			return 1, nil
		}
		if err := r.nextPartition(); err != nil {
			return 0, err
		}
	}
}

// nextPartition opens the next partition. It drops the partition's header, unless it is the first.
func (r *reader) nextPartition() error {
	if err := r.Close(); err != nil {
		return err
	}
	key := partitionKey(r.key, r.next)
	open, err := r.d.blobs.Get(r.ctx, key)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		if changed := r.checkUnchanged(); changed != nil {
			return changed
		}
	}
	if err != nil {
		return err
	}
	r.current = open

	// An open object does not change, and a dataset's metadata changes before its objects do. So if the
	// metadata is unchanged now, the object belongs to it.
	if err := r.checkUnchanged(); err != nil {
		return err
	}
	r.buf = bufio.NewReaderSize(open, 64<<10)
	r.next++
	if r.partitions == 1 {
		return nil // byte for byte; there is no header to drop
	}

	header, err := readLine(r.buf)
	if err != nil {
		return fmt.Errorf("failed to read %s: %w", key, err)
	}
	if r.next == 1 {
		r.header = bytes.TrimRight(header, "\r\n")
		r.buf = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(header), r.buf), 64<<10)
		return nil
	}
	if !bytes.Equal(bytes.TrimRight(header, "\r\n"), r.header) {
		return fmt.Errorf("failed to read %s: its header is not that of data_0", key)
	}
	return nil
}

// checkUnchanged fails when the dataset no longer has the metadata with which it was opened.
func (r *reader) checkUnchanged() error {
	_, now, err := r.d.metadata(r.ctx, r.namespace, r.name, r.key)
	if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
		return err
	}
	if err != nil || !bytes.Equal(now, r.metadata) {
		return bfia.Errorf(bfia.CodeConflict,
			"dataset %q in namespace %q was replaced while it was read: read it again", r.name, r.namespace)
	}
	return nil
}

// readLine reads a line of at most MaxRow bytes, with its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil || err == io.EOF:
			return line, nil
		case err != bufio.ErrBufferFull:
			return nil, err
		case len(line) > MaxRow:
			return nil, fmt.Errorf("the header is longer than %d MiB", MaxRow>>20)
		}
	}
}

// Close implements [io.Closer].
func (r *reader) Close() error {
	if r.current == nil {
		return nil
	}
	current := r.current
	r.current = nil
	return current.Close()
}
