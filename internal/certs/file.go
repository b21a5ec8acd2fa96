package certs

import (
	"fmt"
	"log/slog"
)

// File is a value that is parsed from a file, and again when the file changes. If the new content can't be
// used, the value of before stays in use. It is safe for concurrent use.
type File[T any] struct{ files *reloaded[T] }

// LoadFile reads a file. what names it in the log and in errors. Later changes are logged. The errors of
// parse must not repeat secrets.
func LoadFile[T any](what, path string, parse func(content []byte) (T, error), logger *slog.Logger,
) (*File[T], error) {
	f := &File[T]{&reloaded[T]{what: what, paths: []string{path}, every: checkEvery, logger: logger,
		parse: func(contents [][]byte) (T, error) {
			value, err := parse(contents[0])
			if err != nil {
				return value, fmt.Errorf("%s: %w", path, err)
			}
			return value, nil
		}}}
	if err := f.files.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Get returns the current value.
func (f *File[T]) Get() T {
	value, _ := f.files.get()
	return value
}
