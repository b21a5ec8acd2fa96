package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"hutong/transport/status"
)

// Framing is the way in which messages are delimited in a body.
type Framing int

const (
	// Unframed bodies hold one message and nothing else.
	Unframed Framing = iota
	// GRPC has 5 bytes before each message: 0 for not compressed, and its length, big endian.
	GRPC
	// Stream is the stream over HTTP. A protobuf message has its length before it, as a varint. JSON objects
	// follow one another without a length.
	Stream
)

// Content types of framed bodies.
const (
	GRPCType   = "application/grpc"
	NDJSONType = "application/x-ndjson"
)

// IsGRPC reports whether a Content-Type is one of gRPC's.
func IsGRPC(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(contentType), GRPCType)
}

// ErrCompressed refuses a gRPC message that is compressed.
var ErrCompressed = status.Errorf(status.BadRequest,
	"compressed messages are not supported; send them uncompressed")

// ReadGRPCFrame reads the head of the next gRPC frame and returns its message's bytes and length. io.EOF is
// the end of the stream.
func ReadGRPCFrame(r io.Reader) (message io.Reader, length int64, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, err
	}
	if head[0] != 0 {
		return nil, 0, ErrCompressed
	}
	length = int64(binary.BigEndian.Uint32(head[1:]))
	return &fixedReader{r, length}, length, nil
}

// ReadDelimited reads the length before the next protobuf message and returns its bytes and length. io.EOF is
// the end of the stream.
func ReadDelimited(r *bufio.Reader) (message io.Reader, length int64, err error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, 0, err
	}
	if n > math.MaxUint32 {
		return nil, 0, status.Errorf(status.TooLarge, "a message claims %d bytes", n)
	}
	return &fixedReader{r, int64(n)}, int64(n), nil
}

// SkipSpace advances to the next byte that is not white space. The end of r is io.ErrUnexpectedEOF.
func SkipSpace(r *bufio.Reader) error {
	_, err := nextByte(r)
	if err == nil {
		err = r.UnreadByte()
	}
	return err
}

// fixedReader reads as many bytes of r as it has left. Fewer are io.ErrUnexpectedEOF.
type fixedReader struct {
	r    io.Reader
	left int64
}

func (f *fixedReader) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	if err == io.EOF && f.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// EncodeGRPCMessage percent-encodes the text of a gRPC status for its header.
func EncodeGRPCMessage(s string) string {
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

// ParseGRPCTimeout parses the header in which a gRPC caller limits its call, such as 10S or 250m.
func ParseGRPCTimeout(s string) (time.Duration, bool) {
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

// FormatGRPCTimeout returns the header that limits a call to a time, of at least a millisecond.
func FormatGRPCTimeout(d time.Duration) string {
	const longest = 99_999_999 // 8 digits
	return strconv.FormatInt(min(max(d.Milliseconds(), 1), longest), 10) + "m"
}
