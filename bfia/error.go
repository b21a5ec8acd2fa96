package bfia

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is the outcome of a request in its envelope: 0 is success (part 2, 2.3). The specification defines no
// other codes; these are Hutong's own, and a partner can only rely on 0.
type Code int

// The codes of Hutong's answers.
const (
	CodeOK Code = 0
	// CodeBadRequest: the request is not readable or its content is wrong; a retry does not help.
	CodeBadRequest Code = 4000
	// CodeUnauthenticated: the request lacks credentials, or they are not valid.
	CodeUnauthenticated Code = 4010
	// CodeForbidden: the sender is not authorised.
	CodeForbidden Code = 4030
	// CodeNotFound: the route, job, task, provider or dataset does not exist here.
	CodeNotFound Code = 4040
	// CodeMethod: the route exists, but not with this method.
	CodeMethod Code = 4050
	// CodeTimeout: the body did not arrive in time.
	CodeTimeout Code = 4080
	// CodeConflict: the request contradicts the current state, such as a job id that another job has.
	CodeConflict Code = 4090
	// CodeTooLarge: the body, or a value in it, is over its limit.
	CodeTooLarge Code = 4130
	// CodeTooMany: the caller has exceeded a limit; a retry after the time in the header Retry-After helps.
	CodeTooMany Code = 4290
	// CodeRefused: a partner refused the request; the message quotes its reason.
	CodeRefused Code = 6001
	// CodePartnerDown: a required partner was not reachable, so the request was not executed.
	CodePartnerDown Code = 6002
	// CodeInternal: an internal error; the details are in the log, not in the answer.
	CodeInternal Code = 5000
	// CodeUnavailable: a required service (a partner, Temporal, the database) does not answer now; a retry
	// can help.
	CodeUnavailable Code = 5030
)

// HTTPStatus returns the HTTP status of a code.
func (c Code) HTTPStatus() int {
	switch c {
	case CodeOK:
		return http.StatusOK
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeUnauthenticated:
		return http.StatusUnauthorized
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
	case CodeTooMany:
		return http.StatusTooManyRequests
	case CodeRefused:
		return http.StatusUnprocessableEntity
	case CodePartnerDown:
		return http.StatusBadGateway
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Error is Hutong's error type: a code for programs and a message for people.
//
// The message names the field or thing and the problem, and can be shown to the other side. The cause is for
// this party's log only.
type Error struct {
	Code    Code
	Message string
	Cause   error
	// Service is what does not answer, if a service of this party caused a [CodeUnavailable]. It classifies
	// the wait until another try.
	Service WaitingKind
}

// Error returns the message followed by the cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf returns an [Error] without a cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an [Error] that shows message to the caller and keeps cause for the log.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// Unavailable returns a [CodeUnavailable] that is caused by a service which does not answer.
func Unavailable(service WaitingKind, cause error, format string, args ...any) *Error {
	e := Wrap(CodeUnavailable, cause, format, args...)
	e.Service = service
	return e
}

// ServiceOf returns the service whose absence caused err, or "" if err names none.
func ServiceOf(err error) WaitingKind {
	var e *Error
	for errors.As(err, &e) {
		if e.Service != "" {
			return e.Service
		}
		err = e.Cause
	}
	return ""
}

// CodeOf returns the code of the first [Error] in err: CodeInternal if there is none, CodeOK for nil.
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

// MessageOf returns what the caller may see of err: the message of the first [Error] in it, or a general
// sentence.
func MessageOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Message
	}
	return "internal error; see this party's log for the details"
}
