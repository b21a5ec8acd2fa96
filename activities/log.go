package activities

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"hutong/bfia"
	"hutong/store/blob"
)

// LogPrefix returns the storage prefix of a container's log. Below it, each watcher has a folder of chunks,
// and of one object for the line that the container has not ended yet.
func LogPrefix(container string) string { return "_log/" + container }

// UnfinishedLine is the name of the object that holds a line which its container has not ended yet, such as a
// progress bar.
const UnfinishedLine = "unfinished"

// Log is the log of a container as the storage has it.
type Log struct {
	// Chunks are the parts of the log, in order. Each consists of whole lines. All but the last are final.
	Chunks []blob.Info

	blobs      blob.Store
	unfinished string // the key of the line that is not ended
}

// OpenLog looks up a container's log: the chunks of the watcher that stored most.
func OpenLog(ctx context.Context, blobs blob.Store, container string) (*Log, error) {
	objects, err := blobs.List(ctx, LogPrefix(container))
	if err != nil {
		return nil, fmt.Errorf("failed to list the log of %s: %w", container, err)
	}

	size := map[string]int64{} // by watcher
	var largest string
	for _, o := range objects {
		watcher := path.Dir(o.Key)
		size[watcher] += o.Size
		if largest == "" || size[watcher] > size[largest] {
			largest = watcher
		}
	}

	log := &Log{blobs: blobs}
	for _, o := range objects {
		switch {
		case path.Dir(o.Key) != largest:
		case path.Base(o.Key) == UnfinishedLine:
			log.unfinished = o.Key
		default:
			log.Chunks = append(log.Chunks, o)
		}
	}
	return log, nil
}

// Chunk opens one of Chunks.
func (l *Log) Chunk(ctx context.Context, i int) (io.ReadCloser, error) {
	chunk, err := l.blobs.Get(ctx, l.Chunks[i].Key)
	if err != nil {
		return nil, fmt.Errorf("failed to read %s: %w", l.Chunks[i].Key, err)
	}
	return chunk, nil
}

// Unfinished returns the line that the container has not ended yet, with its time, or "".
func (l *Log) Unfinished(ctx context.Context) (string, error) {
	if l.unfinished == "" {
		return "", nil
	}
	object, err := l.blobs.Get(ctx, l.unfinished)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return "", nil // it was ended meanwhile
	}
	if err != nil {
		return "", fmt.Errorf("failed to read %s: %w", l.unfinished, err)
	}
	defer func() { _ = object.Close() }()
	text, err := io.ReadAll(io.LimitReader(object, 64<<10))
	if err != nil {
		return "", fmt.Errorf("failed to read %s: %w", l.unfinished, err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// ReadLog opens the whole log of a container.
func ReadLog(ctx context.Context, blobs blob.Store, container string) (io.ReadCloser, error) {
	log, err := OpenLog(ctx, blobs, container)
	if err != nil {
		return nil, err
	}
	return &chunkReader{ctx: ctx, blobs: blobs, left: log.Chunks}, nil
}

// chunkReader reads chunks one after the other.
type chunkReader struct {
	ctx   context.Context
	blobs blob.Store
	left  []blob.Info
	open  io.ReadCloser
}

// Read implements [io.Reader].
func (c *chunkReader) Read(p []byte) (int, error) {
	for {
		if c.open == nil {
			if len(c.left) == 0 {
				return 0, io.EOF
			}
			rc, err := c.blobs.Get(c.ctx, c.left[0].Key)
			if err != nil {
				return 0, fmt.Errorf("failed to read %s: %w", c.left[0].Key, err)
			}
			c.open, c.left = rc, c.left[1:]
		}
		n, err := c.open.Read(p)
		if err == nil || n > 0 {
			return n, nil
		}
		if err != io.EOF {
			return 0, err
		}
		if err := c.Close(); err != nil {
			return 0, err
		}
	}
}

// Close implements [io.Closer].
func (c *chunkReader) Close() error {
	if c.open == nil {
		return nil
	}
	err := c.open.Close()
	c.open = nil
	return err
}
