package certs

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkEvery is how often the files are examined for changes, at most. Each handshake may examine them.
const checkEvery = time.Second

// reloaded is a value that is parsed from files, and again when they change. If the new files can't be used,
// such as a certificate whose key has not been written yet, it keeps the value of before, logs why, and tries
// again at the next change.
type reloaded[T any] struct {
	what   string
	paths  []string
	parse  func(contents [][]byte) (T, error)
	every  time.Duration
	logger *slog.Logger

	mu         sync.Mutex
	value      T
	generation uint64
	checked    time.Time
	seen       []fs.FileInfo // of the last attempt to read
}

// load reads the files for the first time.
func (r *reloaded[T]) load() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, err := r.stat()
	if err != nil {
		return err
	}
	value, err := r.read()
	if err != nil {
		return err
	}
	r.value, r.seen, r.checked, r.generation = value, seen, time.Now(), 1
	return nil
}

// get returns the current value and its generation, which grows with each change. It reads the files again if
// they have changed.
func (r *reloaded[T]) get() (T, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.checked) < r.every {
		return r.value, r.generation
	}
	r.checked = time.Now()

	// The files are examined before they are read: a change in between is found at the next examination.
	seen, err := r.stat()
	if err != nil {
		if r.seen != nil {
			r.logger.Warn("failed to examine "+r.what+"; the one of before stays in use", "error", err)
		}
		r.seen = nil
		return r.value, r.generation
	}
	if r.unchanged(seen) {
		return r.value, r.generation
	}
	r.seen = seen
	value, err := r.read()
	if err != nil {
		r.logger.Warn(
			"failed to read "+r.what+" after a change; the one of before stays in use",
			"error",
			err,
		)
		return r.value, r.generation
	}
	r.value = value
	r.generation++
	r.logger.Info("read "+r.what+" again after a change", "file", r.paths[0])
	return r.value, r.generation
}

func (r *reloaded[T]) stat() ([]fs.FileInfo, error) {
	var infos []fs.FileInfo
	for _, path := range r.paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("failed to find %s: %w", r.what, err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (r *reloaded[T]) unchanged(now []fs.FileInfo) bool {
	if len(now) != len(r.seen) {
		return false
	}
	for i, info := range now {
		before := r.seen[i]
		if !os.SameFile(before, info) || !before.ModTime().Equal(info.ModTime()) ||
			before.Size() != info.Size() {
			return false
		}
	}
	return true
}

func (r *reloaded[T]) read() (T, error) {
	var none T
	var contents [][]byte
	for _, path := range r.paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return none, fmt.Errorf("failed to read %s: %w", r.what, err)
		}
		contents = append(contents, content)
	}
	return r.parse(contents)
}
