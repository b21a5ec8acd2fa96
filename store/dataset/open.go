package dataset

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"hutong/bfia"
)

// Open reads a dataset as one CSV file with one header, partition after partition; the caller closes it. CodeNotFound
// when there is none. Reading fails with CodeConflict when the dataset is replaced meanwhile, so that what has been read
// to the end is of one upload.
func (d *Datasets) Open(ctx context.Context, namespace, name string) (io.ReadCloser, error) {
	m, raw, err := d.metadata(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if m.FileType != "" && m.FileType != "csv" { // FATE's own tables don't say
		return nil, bfia.Errorf(bfia.CodeBadRequest, "dataset %q in namespace %q is not CSV: its file_type is %q", name, namespace, m.FileType)
	}
	key, err := Key(namespace, name)
	if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, d: d, namespace: namespace, name: name, key: key, metadata: raw, partitions: m.Partitions}
	// The first partition is opened now, so that a missing one is told here.
	if err := r.nextPartition(); err != nil {
		return nil, err
	}
	return r, nil
}

type reader struct {
	ctx                  context.Context
	d                    *Datasets
	namespace, name, key string
	metadata             []byte
	partitions           int

	next   int // the partition that comes next
	open   io.ReadCloser
	buf    *bufio.Reader
	header []byte
	ended  byte // the last byte that was read
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.buf.Read(p)
		if n > 0 {
			r.ended = p[n-1]
			return n, nil
		}
		if err != io.EOF {
			return 0, err
		}
		if r.next == r.partitions {
			return 0, io.EOF
		}
		if r.ended != '\n' && r.ended != 0 && len(p) > 0 {
			// A container need not end its last line, and the next partition's first row is another one.
			p[0], r.ended = '\n', '\n'
			return 1, nil
		}
		if err := r.nextPartition(); err != nil {
			return 0, err
		}
	}
}

func (r *reader) nextPartition() error {
	if r.open != nil {
		if err := r.open.Close(); err != nil {
			return err
		}
		r.open = nil
	}
	key := fmt.Sprintf("%s/data_%d", r.key, r.next)
	open, err := r.d.blobs.Get(r.ctx, key)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		if changed := r.unchanged(); changed != nil {
			return changed
		}
	}
	if err != nil {
		return err
	}
	r.open = open
	// What is open stays what it is; it is of this upload if the metadata, which changes before anything else or in the
	// same step, still is.
	if err := r.unchanged(); err != nil {
		return err
	}
	r.buf = bufio.NewReaderSize(open, 64<<10)
	r.next++
	if r.partitions == 1 {
		return nil // as it is, whatever its first line
	}
	header, err := readLine(r.buf)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if r.next == 1 {
		r.header = bytes.TrimRight(header, "\r\n")
		r.buf = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(header), r.buf), 64<<10)
		return nil
	}
	if !bytes.Equal(bytes.TrimRight(header, "\r\n"), r.header) {
		return fmt.Errorf("read %s: its header is not that of data_0", key)
	}
	return nil
}

// unchanged fails when the dataset is no longer the one that was opened.
func (r *reader) unchanged() error {
	_, now, err := r.d.metadata(r.ctx, r.namespace, r.name)
	if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
		return err
	}
	if err != nil || !bytes.Equal(now, r.metadata) {
		return bfia.Errorf(bfia.CodeConflict, "dataset %q in namespace %q was replaced while it was read: read it again", r.name, r.namespace)
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
	if r.open == nil {
		return nil
	}
	open := r.open
	r.open = nil
	return open.Close()
}
