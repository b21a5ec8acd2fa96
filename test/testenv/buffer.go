package testenv

import (
	"bytes"
	"sync"
)

// Buffer collects what a process or a logger writes, also while a test reads it.
type Buffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}
