package process

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"hutong/activities/driver"
	"hutong/activities/logline"
)

const (
	// unfinishedName is the file that holds the output after the last newline.
	unfinishedName = "unfinished.log"
	// unfinishedEvery is how often it is written, and read.
	unfinishedEvery = 250 * time.Millisecond
	// maxUnfinished bounds it.
	maxUnfinished = 16 << 10
)

// unfinishedFile is what a logWriter knows of the file with the output after the last newline.
type unfinishedFile struct {
	exists    bool
	scheduled bool // it will be written soon
	closed    bool
}

// showUnfinished has the incomplete line written soon. Most output ends in a newline, and costs nothing here.
func (l *logWriter) showUnfinished() {
	u := &l.unfinished
	if u.scheduled || u.closed || len(l.text) == 0 && !u.exists {
		return
	}
	u.scheduled = true
	time.AfterFunc(unfinishedEvery, l.writeUnfinished)
}

func (l *logWriter) writeUnfinished() {
	l.mu.Lock()
	defer l.mu.Unlock()

	u := &l.unfinished
	u.scheduled = false
	if u.closed {
		return
	}
	if len(l.text) == 0 {
		_ = os.Remove(l.f.path(unfinishedName))
		u.exists = false
		return
	}
	text := logline.Resolve(bytes.Clone(l.text))
	line := append(bytes.Clone(l.stamp), text[max(len(text)-maxUnfinished, 0):]...)
	tmp := l.f.path(unfinishedName + ".tmp")
	if os.WriteFile(tmp, line, 0o600) == nil && os.Rename(tmp, l.f.path(unfinishedName)) == nil {
		u.exists = true
	}
}

// removeUnfinished removes the file at the end of the output.
func (l *logWriter) removeUnfinished() {
	l.unfinished.closed = true
	_ = os.Remove(l.f.path(unfinishedName))
}

// Unfinished follows the output after the last newline, which the supervisor keeps in a file of its own.
func (p *Driver) Unfinished(ctx context.Context, name string, show func(line []byte)) error {
	return driver.WrapError("follow the output of", name, p.followUnfinished(ctx, name, show))
}

func (p *Driver) followUnfinished(ctx context.Context, name string, show func(line []byte)) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	f := p.folder(name)
	var shown []byte
	for {
		complete, err := p.logComplete(f)
		if complete || err != nil {
			return err
		}
		line, err := os.ReadFile(f.path(unfinishedName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !bytes.Equal(line, shown) {
			show(line)
			shown = line
		}
		if err := driver.Sleep(ctx, unfinishedEvery); err != nil {
			return err
		}
	}
}

// ScanLogFiles visits the files that the program wrote to its own folder.
func (p *Driver) ScanLogFiles(_ context.Context, name string, visit func(driver.LogFile) error) error {
	if err := driver.CheckName(name); err != nil {
		return driver.WrapError("read the log files of", name, err)
	}

	_, err := p.folder(name).spec()
	if err == nil {
		err = driver.ScanFolder(p.LogPath(name), visit)
	}

	return driver.WrapError("read the log files of", name, err)
}
