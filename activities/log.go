package activities

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"

	"hutong/store/blob"
)

// LogPrefix is where the chunks of a run's watchers lie.
func LogPrefix(run string) string { return "_log/" + run }

// ReadLog reads the whole log of a run from the storage, its chunks in order, one open at a time.
func ReadLog(ctx context.Context, blobs blob.Store, run string) (io.ReadCloser, error) {
	objects, err := blobs.List(ctx, LogPrefix(run))
	if err != nil {
		return nil, fmt.Errorf("listing the log of %s: %w", run, err)
	}
	kept := map[string]int64{}
	var most string
	for _, o := range objects {
		watcher := path.Dir(o.Key)
		kept[watcher] += o.Size
		if most == "" || kept[watcher] > kept[most] {
			most = watcher
		}
	}
	objects = slices.DeleteFunc(objects, func(o blob.Info) bool { return path.Dir(o.Key) != most })
	return &chunkReader{ctx: ctx, blobs: blobs, left: objects}, nil
}

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
				return 0, fmt.Errorf("reading %s: %w", c.left[0].Key, err)
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
