package activities

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"

	"hutong/store/blob"
)

// LogPrefix returns the storage prefix of a container's log. Below it, each watcher has a folder of chunks.
func LogPrefix(container string) string { return "_log/" + container }

// ReadLog opens the whole log of a container in the storage. It reads the chunks of the watcher that stored
// most, in order, one at a time.
func ReadLog(ctx context.Context, blobs blob.Store, container string) (io.ReadCloser, error) {
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
	objects = slices.DeleteFunc(objects, func(o blob.Info) bool { return path.Dir(o.Key) != largest })
	return &chunkReader{ctx: ctx, blobs: blobs, left: objects}, nil
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
