package transport

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is a state code of the transport layer, as it stands in `code` of every
// answer (API_SPECS part 4, appendix "错误码表").
type Code string

// The codes that this transport gives or passes on.
const (
	// CodeOK is success; every other code is a failure.
	CodeOK Code = "E0000000000"
	// CodeBadRequest is a request that can't be read or lacks something required.
	CodeBadRequest Code = "E0000000400"
	// CodeForbidden is a caller that is not permitted to do this.
	CodeForbidden Code = "E0000000403"
	// CodeNotFound is a route or an x-ptp-uri that does not exist.
	CodeNotFound Code = "E0000000404"
	// CodeTooLarge is a message above the limit of this transport.
	CodeTooLarge Code = "E0000000413"
	// CodeInternal is a failure inside the transport; its log has the reason.
	CodeInternal Code = "E0000000500"
	// CodeTimeout is a pop that found nothing in its time, or a push whose time
	// ended before its turn came.
	CodeTimeout Code = "E0000000601"
	// CodeNoInstance is a transport that shuts down.
	CodeNoInstance Code = "E0000000602"
	// CodeNetwork is a partner that could not be reached in time, or that
	// answered something that is not the protocol.
	CodeNetwork Code = "E0000000607"
	// CodeSessionReleased is a session, or a topic a reader waited for, that was released.
	CodeSessionReleased Code = "E0000000608"
	// CodeNodeUnknown is a target node that has no route, or is not this one.
	CodeNodeUnknown Code = "E0000000618"
	// CodeBufferFull is a push that found no room for its message in its time.
	CodeBufferFull Code = "E0000000700"
)

// Error is a refusal with its protocol code. Message is fit for the caller's
// eyes: it names the thing and what to do, and holds no internals.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError finds the refusal in err; anything else is an internal error whose
// detail belongs in the log only.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeInternal, Message: "internal error"}
}

// httpStatus is 200 for what the protocol decided, and a proper status for what
// never reached it.
func httpStatus(code Code) int {
	switch code {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeForbidden:
		return http.StatusForbidden
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeInternal:
		return http.StatusInternalServerError
	case CodeNoInstance:
		return http.StatusServiceUnavailable
	default:
		return http.StatusOK
	}
}
