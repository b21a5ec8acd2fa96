package partners

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"hutong/bfia"
)

// Bodies bounds the bodies that are read before the sender of a request is known.
type Bodies struct {
	// Control and Transport limit the body of a request to the control layer and to the transport, in bytes.
	Control, Transport int64
	// Dir is a folder for the parts of large bodies. Empty: the system's folder for temporary files.
	Dir string

	grace time.Duration // for tests; 0 is bodyGrace
}

const (
	// inMemory is the size up to which a body is in memory. Larger ones are in files.
	inMemory = 1 << 20
	// largeBodies limits the bodies in files, of all requests of this process that are being verified.
	largeBodies = 64
	// bodyGrace and bodyRate are the time in which a body must arrive: a constant, and bytes in a second.
	bodyGrace = 30 * time.Second
	bodyRate  = 64 << 10
)

var largeBodySlots = make(chan struct{}, largeBodies)

type controllerKey struct{}

// withController returns a request whose body can be given a deadline.
func withController(w http.ResponseWriter, r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), controllerKey{}, http.NewResponseController(w)))
}

func (b Bodies) limit(r *http.Request) int64 {
	if strings.HasPrefix(r.URL.Path, transportPaths) ||
		strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return b.Transport
	}
	return b.Control
}

// read reads the body of a request to its end, passes it through hashes, and replaces it by one with the same
// content. The error is a [bfia.Error] if the sender is to blame.
func (b Bodies) read(r *http.Request, hashes ...hash.Hash) (err error) {
	limit := b.limit(r)
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if controller, ok := r.Context().Value(controllerKey{}).(*http.ResponseController); ok {
		expected := limit
		if r.ContentLength >= 0 {
			expected = r.ContentLength
		}
		wait := cmp.Or(b.grace, bodyGrace) + time.Duration(expected/bodyRate)*time.Second
		_ = controller.SetReadDeadline(time.Now().Add(wait))
		defer func() {
			if err == nil { // else the server would wait for the rest of the body without a deadline
				_ = controller.SetReadDeadline(time.Time{})
			}
		}()
	}
	writers := make([]io.Writer, len(hashes))
	for i, h := range hashes {
		writers[i] = h
	}
	in := io.TeeReader(io.LimitReader(r.Body, limit+1), io.MultiWriter(writers...))
	var head bytes.Buffer
	if r.ContentLength > 0 {
		head.Grow(int(min(r.ContentLength, inMemory) + bytes.MinRead))
	}
	n, err := io.Copy(&head, io.LimitReader(in, inMemory))
	switch {
	case err != nil:
		return incomplete(err)
	case n > limit:
		return tooLarge(limit)
	case n < inMemory:
		_ = r.Body.Close()
		r.Body = io.NopCloser(&head)
		return nil
	}
	return b.readLarge(r, in, &head, limit)
}

// readLarge reads the rest of a body into a file without a name.
func (b Bodies) readLarge(r *http.Request, in io.Reader, head *bytes.Buffer, limit int64) error {
	select {
	case largeBodySlots <- struct{}{}:
		defer func() { <-largeBodySlots }()
	case <-r.Context().Done():
		return incomplete(r.Context().Err())
	}
	file, err := os.CreateTemp(b.Dir, "request-")
	if err != nil {
		return notStored(err)
	}
	keep := false
	defer func() {
		if !keep {
			_ = file.Close()
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return notStored(err)
	}
	n, err := io.Copy(fileWriter{file}, in)
	var stored *storeError
	switch {
	case errors.As(err, &stored):
		return notStored(err)
	case err != nil:
		return incomplete(err)
	case inMemory+n > limit:
		return tooLarge(limit)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return notStored(err)
	}
	_ = r.Body.Close()
	keep = true
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(head, file), file}
	// The server closes only the body that it has made.
	context.AfterFunc(r.Context(), func() { _ = file.Close() })
	return nil
}

// storeError is a fault of this party's disk.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

// fileWriter marks the errors of a file, which are not those of the sender.
type fileWriter struct{ f *os.File }

func (w fileWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = &storeError{err}
	}
	return n, err
}

func notStored(err error) error {
	return bfia.Wrap(bfia.CodeUnavailable, fmt.Errorf("failed to store the body of a request: %w", err),
		"this party can't store the body to verify it; retry later")
}

func incomplete(err error) error {
	return bfia.Wrap(bfia.CodeTimeout, err, "the body did not arrive whole, or not in time")
}

func tooLarge(limit int64) error {
	return bfia.Errorf(bfia.CodeTooLarge, "the body is larger than %d bytes", limit)
}

// digest returns the digest of the body of a request to a partner. It reads a copy of the body.
func digest(r *http.Request, h hash.Hash) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return h.Sum(nil), nil
	}
	if r.GetBody == nil {
		return nil, errors.New("the body of the request can be read only once")
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, fmt.Errorf("failed to read the body of the request: %w", err)
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(h, body); err != nil {
		return nil, fmt.Errorf("failed to read the body of the request: %w", err)
	}
	return h.Sum(nil), nil
}
