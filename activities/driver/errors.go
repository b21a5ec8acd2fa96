package driver

import (
	"errors"
	"fmt"
)

// ErrNotFound is wrapped by errors about a container that does not exist or was removed.
var ErrNotFound = errors.New("no such container")

// ErrNoImage is wrapped by errors about an image that the runner does not have.
var ErrNoImage = errors.New("no such image")

// ErrCreateAgain is wrapped by an error of Start after which the container had to be removed. It never ran,
// so the caller may create it again.
var ErrCreateAgain = errors.New("to be created again")

// Error reports which operation failed on which container.
type Error struct {
	Op           string // "create", "start", ...
	Container    string // the container's name, "" if the operation concerns none
	Err          error
	nonRetryable bool
}

// Error returns the operation, the container and the cause.
func (e *Error) Error() string {
	if e.Container == "" {
		return fmt.Sprintf("failed to %s: %v", e.Op, e.Err)
	}

	return fmt.Sprintf("failed to %s container %s: %v", e.Op, e.Container, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// NonRetryable reports whether the same call fails again however often it is repeated, for example because an
// image is missing, the spec is invalid or the command is not allowed.
func (e *Error) NonRetryable() bool { return e.nonRetryable }

// IsNonRetryable reports whether err, or an error that it wraps, is non-retryable.
func IsNonRetryable(err error) bool {
	var n interface{ NonRetryable() bool }

	return errors.As(err, &n) && n.NonRetryable()
}

// nonRetryableError marks a cause as non-retryable until WrapError wraps it.
type nonRetryableError struct{ error }

func (e nonRetryableError) NonRetryable() bool { return true }
func (e nonRetryableError) Unwrap() error      { return e.error }

// NonRetryable marks err, which must not be nil, as non-retryable.
func NonRetryable(err error) error { return nonRetryableError{err} }

// NonRetryablef formats a non-retryable error.
func NonRetryablef(format string, args ...any) error {
	return NonRetryable(fmt.Errorf(format, args...))
}

// WrapError returns err as an [*Error] of one operation on one container, or nil if err is nil.
func WrapError(op, container string, err error) error {
	if err == nil {
		return nil
	}

	return &Error{Op: op, Container: container, Err: err, nonRetryable: IsNonRetryable(err)}
}
