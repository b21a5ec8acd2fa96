// Package status holds the state codes of the transport layer and the error that carries one to a caller.
package status

import (
	"errors"
	"fmt"
)

// Code is a state code of the transport layer. Every answer has one in its field `code` (API_SPECS part 4,
// appendix "错误码表").
type Code string

// The codes that this transport returns or passes on.
const (
	// OK reports success. Every other code reports a failure.
	OK Code = "E0000000000"
	// BadRequest reports a request that can't be parsed or lacks a required field.
	BadRequest Code = "E0000000400"
	// Forbidden reports a caller without permission for the call.
	Forbidden Code = "E0000000403"
	// NotFound reports a route or an x-ptp-uri that does not exist.
	NotFound Code = "E0000000404"
	// TooLarge reports a message above the limit of this transport.
	TooLarge Code = "E0000000413"
	// Internal reports a failure inside the transport. The transport's log has the reason.
	Internal Code = "E0000000500"
	// Timeout reports a pop that got no message in time, or a push that waited too long for earlier pushes.
	Timeout Code = "E0000000601"
	// NoInstance reports a transport that shuts down.
	NoInstance Code = "E0000000602"
	// Network reports a partner that could not be reached in time or whose answer is not the protocol's.
	Network Code = "E0000000607"
	// SessionReleased reports a session, or a topic with waiting readers, that was released.
	SessionReleased Code = "E0000000608"
	// NodeUnknown reports a target node without a route, or one that is not this node.
	NodeUnknown Code = "E0000000618"
	// BufferFull reports a push whose message did not fit into the queue in time.
	BufferFull Code = "E0000000700"
)

// Error is a refusal with its protocol code. Message is sent to the caller: it names the thing and what to
// do, and holds no internals.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf returns an Error with a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// From returns the Error in err's chain. Any other error becomes Internal without its text, which belongs in
// the log only.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: Internal, Message: "internal error"}
}
