package transport

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hutong/transport/status"
	"hutong/transport/wire"
)

// The services of API_SPECS part 4, 5.1 and 5.2.2, as ptp/ptp.proto defines them. gRPC is HTTP/2 with
// messages in frames, so the same handlers serve it on the same port. A gRPC library would hold every message
// whole in memory, several times.
const (
	grpcContainer = "/org.ppc.ptp.PrivateTransferTransport/"
	grpcPartner   = "/org.ppc.ptp.PrivateTransferProtocol/"

	grpcStatus   = "Grpc-Status"
	grpcMessage  = "Grpc-Message"
	grpcTimeout  = "Grpc-Timeout"
	grpcAccepted = "Grpc-Accept-Encoding"
	// grpcPushTimeout is how long a push may take if its caller sets no deadline.
	grpcPushTimeout = 10 * time.Minute
)

// Status codes of gRPC.
const (
	grpcAborted       = 10
	grpcUnimplemented = 12
	grpcInternal      = 13
	grpcUnavailable   = 14
)

func isGRPCPath(path string) bool {
	return strings.HasPrefix(path, grpcContainer) || strings.HasPrefix(path, grpcPartner)
}

// nextFrame makes the message of r's next frame the body. io.EOF is the end.
func (x *exchange) nextFrame(r io.Reader) (err error) {
	body, length, err := wire.ReadGRPCFrame(r)
	if err == nil {
		x.body, x.length = body, length
	}
	return err
}

// readOnlyFrame makes the only message of a unary call the body. If there is none, it answers and returns
// false.
func (x *exchange) readOnlyFrame() bool {
	x.setReadTimeout(x.minRate.grace)
	switch err := x.nextFrame(x.r.Body); err {
	case nil:
		x.setReadTimeout(0)
		return true
	case wire.ErrCompressed:
		x.w.Header().Set(grpcAccepted, "identity")
		x.failGRPC(grpcUnimplemented, wire.ErrCompressed.Message)
	default:
		x.failGRPC(grpcInternal, "the call holds no message")
	}
	return false
}

// failGRPC ends a call with a gRPC status in place of an answer.
func (x *exchange) failGRPC(code int, message string) {
	x.answered = true
	h := x.w.Header()
	prefix := ""
	if x.headersWritten {
		prefix = http.TrailerPrefix
	} else {
		h.Set("Content-Type", wire.GRPCType)
	}

	h.Set(prefix+grpcStatus, strconv.Itoa(code))
	h.Set(prefix+grpcMessage, wire.EncodeGRPCMessage(message))
	if !x.headersWritten {
		x.w.WriteHeader(http.StatusOK)
	}
}

// refuseGRPC answers with a refusal: in an answer's code, as the protocol says. FATE's containers check no
// code but that of a pop's timeout and would continue as if a refused push had been accepted, so their calls
// fail with a gRPC status.
func (x *exchange) refuseGRPC(e *status.Error) {
	path := x.r.URL.Path
	fate := strings.HasPrefix(path, grpcContainer) &&
		strings.EqualFold(x.headers[wire.HeaderProvider], "FATE")
	switch {
	case !fate, e.Code == status.Timeout && path == grpcContainer+"pop":
		_ = x.answer(http.StatusOK, wire.Answer{Code: e.Code, Message: e.Message})
	case e.Code == status.NoInstance:
		x.failGRPC(grpcUnavailable, e.Error())
	default:
		x.failGRPC(grpcAborted, e.Error())
	}
}
