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

const lookLog = 50 * time.Millisecond // how often a log that is followed is read on

// Logs writes the run's log.
func (p *Driver) Logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	return driver.WrapError("read the logs of", name, p.logs(ctx, name, follow, w))
}

func (p *Driver) logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}
	f := p.folder(name)
	tail := &tail{f: f, w: w}
	defer tail.close()
	for {
		// Looked at before reading: when it has ended now, all is in the file.
		ended, err := p.ended(f)
		if err != nil {
			return err
		}
		if err := tail.read(); err != nil {
			return err
		}
		if ended || !follow {
			return nil
		}
		if err := driver.Sleep(ctx, lookLog); err != nil {
			return err
		}
	}
}

// ended says whether nothing more can be printed.
func (p *Driver) ended(f folder) (bool, error) {
	state, _, err := f.look()
	if err != nil || state != driver.Running {
		return state == driver.Exited, err
	}
	if _, alive := f.process(); alive || p.supervisor.tracks(f.name()) {
		return false, nil
	}
	// Without a supervisor nobody writes the log; whoever waits writes the end.
	state, _, err = f.look()
	return state != driver.Created, err
}

// A tail reads a log that is written to and at times moved on to olderFile.
type tail struct {
	f    folder
	w    io.Writer
	file *os.File
}

// read writes what is there since the last call.
func (t *tail) read() error {
	if t.file == nil {
		file, err := t.open(olderFile, outputFile)
		if err != nil || file == nil {
			return err
		}
		t.file = file
	}
	for {
		next, err := t.successor()
		if err != nil {
			return err
		}
		// When there is a successor, nothing is added to this one any more.
		if _, err := io.Copy(t.w, t.file); err != nil {
			return fmt.Errorf("copy the log: %w", err)
		}
		if next == nil {
			return nil
		}
		t.close()
		t.file = next
	}
}

// successor opens the file that is next after the present one, if there is.
func (t *tail) successor() (*os.File, error) {
	if t.is(outputFile) {
		return nil, nil
	}
	if t.is(olderFile) {
		return t.open(outputFile)
	}
	return t.open(olderFile, outputFile) // moved on more than once
}

func (t *tail) is(name string) bool {
	here, err := t.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(t.f.path(name))
	return err == nil && os.SameFile(here, there)
}

// open opens the first that exists.
func (t *tail) open(names ...string) (*os.File, error) {
	for _, name := range names {
		file, err := os.Open(t.f.path(name))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}
	return nil, nil
}

func (t *tail) close() {
	if t.file != nil {
		_ = t.file.Close()
	}
}
