package runner

import (
	"errors"
	"fmt"
)

// ErrNotFound is wrapped by errors about a run that does not exist (any more).
var ErrNotFound = errors.New("no such run")

// ErrNoImage is wrapped by errors about an image that is not there.
var ErrNoImage = errors.New("no such image")

// ErrCreateAgain is wrapped by errors of a start for which what was created had to be removed: it never ran, and may be
// created once more.
var ErrCreateAgain = errors.New("to be created again")

type noImage struct{ error }

func (noImage) Is(target error) bool { return target == ErrNoImage }

// An Error tells which step failed for which run.
type Error struct {
	Op        string // "create", "start", ...
	Run       string // the run's name, or "" if it is about none
	Err       error
	permanent bool
}

// Error is the message: step, run, cause.
func (e *Error) Error() string {
	if e.Run == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s run %s: %v", e.Op, e.Run, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent says that the same call will fail again however often it is made:
// an image that is missing, a bad spec, a command that is not allowed.
func (e *Error) Permanent() bool { return e.permanent }

// IsPermanent says whether err, or what it wraps, is permanent.
func IsPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// permanentError marks a cause as permanent until opError wraps it.
type permanentError struct{ error }

func (e permanentError) Permanent() bool { return true }
func (e permanentError) Unwrap() error   { return e.error }

func permanentf(format string, args ...any) error {
	return permanentError{fmt.Errorf(format, args...)}
}

// opError wraps what a method returns; nil stays nil.
func opError(op, run string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Run: run, Err: err, permanent: IsPermanent(err)}
}
