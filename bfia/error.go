package bfia

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is the outcome of a request as its envelope tells it: 0 is success (part 2, 2.3). The specification gives
// no other numbers; these are Hutong's, and a peer may only rely on 0.
type Code int

// The codes that Hutong answers with.
const (
	CodeOK Code = 0
	// CodeBadRequest: the request can't be understood or its content is wrong; sending it again changes nothing.
	CodeBadRequest Code = 4000
	// CodeForbidden: the sender may not ask this.
	CodeForbidden Code = 4030
	// CodeNotFound: a route, job, task, provider or dataset that is not known here.
	CodeNotFound Code = 4040
	// CodeMethod: the route exists, the method doesn't.
	CodeMethod Code = 4050
	// CodeTimeout: the body did not arrive in time.
	CodeTimeout Code = 4080
	// CodeConflict: the request contradicts what is known, such as a job id that another job has.
	CodeConflict Code = 4090
	// CodeTooLarge: the body, or a value in it, is over its limit.
	CodeTooLarge Code = 4130
	// CodeRefused: a partner answered and said no; its words are in the message.
	CodeRefused Code = 6001
	// CodePartnerDown: a partner that is needed could not be reached, so it was not done.
	CodePartnerDown Code = 6002
	// CodeInternal: something broke at our side; the details are in the log, not in the answer.
	CodeInternal Code = 5000
	// CodeUnavailable: something that is needed doesn't answer now (a partner, the engine, the database): try again.
	CodeUnavailable Code = 5030
)

// HTTPStatus is the status that goes with a code. The one table of it.
func (c Code) HTTPStatus() int {
	switch c {
	case CodeOK:
		return http.StatusOK
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeMethod:
		return http.StatusMethodNotAllowed
	case CodeTimeout:
		return http.StatusRequestTimeout
	case CodeConflict:
		return http.StatusConflict
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeRefused:
		return http.StatusUnprocessableEntity
	case CodePartnerDown:
		return http.StatusBadGateway
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Error is the one error type of Hutong's: a code for machines and a message for people. The message names the field
// or thing and what is wrong with it, and may be shown to the other side; what it wraps is for our log only.
type Error struct {
	Code    Code
	Message string
	Cause   error
}

// Error is the message, and the cause behind it.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an [Error] without a cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an [Error] that says message to the caller and keeps cause for the log.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// CodeOf is the code of err: that of the first [Error] in it, CodeInternal for any other, CodeOK for nil.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// MessageOf is what the caller may read of err: the message of the first [Error] in it, and a bare phrase for any other.
func MessageOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Message
	}
	return "internal error; the details are in this party's log"
}
