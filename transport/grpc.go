package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The services of API_SPECS part 4, 5.1 and 5.2.2, in file ptp/ptp.proto. gRPC is
// HTTP/2 with messages in frames, so the same handlers serve it, on the same
// port; a gRPC library would hold every message whole in memory, several times.
const (
	grpcContainer = "/org.ppc.ptp.PrivateTransferTransport/"
	grpcPartner   = "/org.ppc.ptp.PrivateTransferProtocol/"

	grpcType     = "application/grpc"
	grpcStatus   = "Grpc-Status"
	grpcMessage  = "Grpc-Message"
	grpcTimeout  = "Grpc-Timeout"
	grpcEncoded  = "Grpc-Encoding"
	grpcAccepted = "Grpc-Accept-Encoding"
	// grpcPatience is how long a push may take whose caller sets no deadline.
	grpcPatience = 10 * time.Minute
)

// Status codes of gRPC.
const (
	statusAborted       = 10
	statusUnimplemented = 12
	statusInternal      = 13
	statusUnavailable   = 14
)

func isGRPC(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(contentType), grpcType)
}

func isGRPCPath(path string) bool {
	return strings.HasPrefix(path, grpcContainer) || strings.HasPrefix(path, grpcPartner)
}

// framing is how messages stand in bodies.
type framing int

const (
	// 0 is one message, which is all of the body.
	_ framing = iota
	// framedGRPC has before each message: 0 for not compressed, its length in 4 bytes, big endian.
	framedGRPC
	// framedStream is the stream over HTTP; see stream.go.
	framedStream
)

// around gives what stands around a message whose own head and tail stand around n bytes.
func (f framing) around(enc encoding, head, tail []byte, n int64) (_, _ []byte) {
	length := uint64(len(head)) + uint64(n) + uint64(len(tail))
	switch {
	case f == framedGRPC:
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(length)), head...), tail
	case f == framedStream && enc == inProto:
		return append(protowire.AppendVarint(nil, length), head...), tail
	case f == framedStream:
		return head, append(tail, '\n')
	}
	return head, tail
}

// frame makes the message of r's next frame the body. io.EOF is the end.
func (x *exchange) frame(r io.Reader) error {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if head[0] != 0 {
		return errCompressed
	}
	x.length = int64(binary.BigEndian.Uint32(head[1:]))
	x.in = whole(r, x.length)
	return nil
}

var errCompressed = refuse(CodeBadRequest, "compressed messages are not taken; send them as they are")

// whole reads n bytes; it is an error when there are fewer.
func whole(r io.Reader, n int64) io.Reader { return &exactly{r, n} }

type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// onlyFrame reads the head of a call's one message. It answers if there is none.
func (x *exchange) onlyFrame() bool {
	x.readDeadline(x.pace.patience)
	switch err := x.frame(x.r.Body); err {
	case nil:
		x.readDeadline(0)
		return true
	case errCompressed:
		x.w.Header().Set(grpcAccepted, "identity")
		x.failGRPC(statusUnimplemented, errCompressed.Message)
	default:
		x.failGRPC(statusInternal, "the call holds no message")
	}
	return false
}

// failGRPC ends a call with a status of gRPC in place of an answer.
func (x *exchange) failGRPC(status int, message string) {
	x.answered = true
	h := x.w.Header()
	prefix := ""
	if x.begun {
		prefix = http.TrailerPrefix
	} else {
		h.Set("Content-Type", grpcType)
	}
	h.Set(prefix+grpcStatus, strconv.Itoa(status))
	h.Set(prefix+grpcMessage, percentEncoded(message))
	if !x.begun {
		x.w.WriteHeader(http.StatusOK)
	}
}

// refuseGRPC answers a refusal: as the protocol has it, in an answer's code. FATE's
// containers look at no code but that of a pop's time-out, and would go on as if a push
// that was refused had been taken, so theirs end with a status of gRPC.
func (x *exchange) refuseGRPC(e *Error) {
	path := x.r.URL.Path
	fate := strings.HasPrefix(path, grpcContainer) && strings.EqualFold(x.headers[headerProvider], "FATE")
	switch {
	case !fate, e.Code == CodeTimeout && path == grpcContainer+"pop":
		_ = x.answer(http.StatusOK, outbound{code: e.Code, message: e.Message})
	case e.Code == CodeNoInstance:
		x.failGRPC(statusUnavailable, e.Error())
	default:
		x.failGRPC(statusAborted, e.Error())
	}
}

// percentEncoded is the form of a status message in a header.
func percentEncoded(s string) string {
	var out strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// grpcDeadline reads a call's own time limit, such as 10S or 250m.
func grpcDeadline(s string) (time.Duration, bool) {
	units := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	unit, ok := units[s[len(s)-1]]
	if err != nil || !ok || n > 1<<20 && unit >= time.Minute {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
