package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"hutong/activities/driver"
)

// pollLog is the polling interval of a followed log.
const pollLog = 50 * time.Millisecond

// Logs writes the container's log.
func (p *Driver) Logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	return driver.WrapError("read the logs of", name, p.logs(ctx, name, follow, w))
}

func (p *Driver) logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	f := p.folder(name)
	reader := &logReader{f: f, w: w}
	defer reader.close()

	for {
		// The state is checked before reading: if the container has ended now, the file is complete.
		complete, err := p.logComplete(f)
		if err != nil {
			return err
		}
		if err := reader.read(); err != nil {
			return err
		}
		if complete || !follow {
			return nil
		}

		if err := driver.Sleep(ctx, pollLog); err != nil {
			return err
		}
	}
}

// logComplete reports whether no more output can be added to the log.
func (p *Driver) logComplete(f folder) (bool, error) {
	state, _, err := f.state()
	if err != nil || state != driver.Running {
		return state == driver.Exited, err
	}

	if _, alive := f.process(); alive || p.supervisor.tracks(f.name()) {
		return false, nil
	}

	// Without a supervisor nobody writes to the log. Wait records the end.
	state, _, err = f.state()

	return state != driver.Created, err
}

// logReader reads a log that is written to and occasionally renamed to olderFile.
type logReader struct {
	f    folder
	w    io.Writer
	file *os.File
}

// read writes what was added since the last call.
func (r *logReader) read() error {
	if r.file == nil {
		file, err := r.open(olderFile, outputFile)
		if err != nil || file == nil {
			return err
		}
		r.file = file
	}

	for {
		next, err := r.successor()
		if err != nil {
			return err
		}

		// Nothing is added to a file that has a successor.
		if _, err := io.Copy(r.w, r.file); err != nil {
			return fmt.Errorf("failed to copy the log: %w", err)
		}
		if next == nil {
			return nil
		}

		r.close()
		r.file = next
	}
}

// successor opens the file that follows the current one, or returns nil.
func (r *logReader) successor() (*os.File, error) {
	if r.is(outputFile) {
		return nil, nil
	}
	if r.is(olderFile) {
		return r.open(outputFile)
	}

	return r.open(olderFile, outputFile) // rotated more than once
}

func (r *logReader) is(name string) bool {
	current, err := r.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(r.f.path(name))

	return err == nil && os.SameFile(current, named)
}

// open opens the first file that exists, or returns nil.
func (r *logReader) open(names ...string) (*os.File, error) {
	for _, name := range names {
		file, err := os.Open(r.f.path(name))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}

	return nil, nil
}

func (r *logReader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}
