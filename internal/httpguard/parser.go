package httpguard

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Error is why a request is refused.
type Error struct{ Message string }

// Error returns the message.
func (e *Error) Error() string { return e.Message }

func refuse(format string, args ...any) *Error {
	return &Error{fmt.Sprintf(format, args...)}
}

const (
	// maxHead bounds what is remembered of a head. Servers refuse earlier.
	maxHead = 1 << 20
	// maxChunkLine bounds the line of a chunk's size with its extensions, which nobody needs.
	maxChunkLine = 256
	// maxTrailers bounds the fields behind the last chunk.
	maxTrailers = 16 << 10
	// maxEmptyLines is the number of empty lines that may precede a request.
	maxEmptyLines = 4
	// maxSizeDigits bounds the digits of a chunk's size, so that it fits in 63 bits.
	maxSizeDigits = 15

	// tlsHandshake is the first byte of a TLS connection. Without the refusal, both sides would wait for the
	// other until a timeout.
	tlsHandshake = 0x16

	preface = "PRI * HTTP/2.0\r\n"
)

type state int

const (
	inHead state = iota
	inBody
	inChunkLine
	inChunk
	afterChunk // the line break behind a chunk's data
	inTrailers
	opaque // HTTP/2, or no HTTP any more
)

// parser follows the framing of the messages on a connection.
type parser struct {
	http2 bool
	state state
	left  int64  // bytes left of the body or chunk
	line  []byte // of the current line, what has arrived
	lines []string
	size  int // bytes of the lines of this head, or of these trailers
	empty int // empty lines before this request
	begun bool
}

// parse reads the next bytes of a connection. With a fault, it returns how many of them come before it.
func (p *parser) parse(b []byte) (good int, fault *Error) {
	for i := 0; i < len(b); {
		switch p.state {
		case opaque:
			return len(b), nil

		case inBody, inChunk:
			n := min(int64(len(b)-i), p.left)
			i += int(n)
			p.left -= n
			switch {
			case p.left > 0:
			case p.state == inBody:
				p.beginLines(inHead)
			default:
				p.beginLines(afterChunk)
			}

		default:
			if p.state == inHead && len(p.lines) == 0 && len(p.line) == 0 && b[i] == tlsHandshake {
				return i, refuse("this port speaks HTTP, not HTTPS")
			}
			end := bytes.IndexByte(b[i:], '\n')
			part := b[i:]
			if end >= 0 {
				part = part[:end+1]
			}
			p.line = append(p.line, part...)
			if fault := p.checkSize(); fault != nil {
				return i, fault
			}
			if end < 0 {
				return len(b), nil
			}
			if fault := p.endLine(); fault != nil {
				return i + end, fault // without the line break, so that the server can't act on it
			}
			i += end + 1
		}
	}
	return len(b), nil
}

// checkSize bounds the memory of a connection.
func (p *parser) checkSize() *Error {
	switch n := p.size + len(p.line); {
	case p.state == inHead && n > maxHead:
		return refuse("the headers are longer than %d bytes", maxHead)
	case p.state == inTrailers && n > maxTrailers:
		return refuse("the trailers are longer than %d bytes", maxTrailers)
	case (p.state == inChunkLine || p.state == afterChunk) && n > maxChunkLine:
		return refuse("the line with the size of a chunk is longer than %d bytes", maxChunkLine)
	}
	return nil
}

// endLine reads the line that has just ended.
func (p *parser) endLine() *Error {
	line, ok := bytes.CutSuffix(p.line, []byte("\r\n"))
	if !ok {
		return refuse("a line ends with LF alone; it must end with CR LF")
	}
	if bytes.IndexByte(line, '\r') >= 0 {
		return refuse("a line contains a CR")
	}
	text := string(line)
	p.size += len(p.line)
	p.line = p.line[:0]

	switch p.state {
	case inHead:
		return p.headLine(text)
	case inChunkLine:
		return p.chunkLine(text)
	case afterChunk:
		if text != "" {
			return refuse("a chunk is longer than its size says")
		}
		p.beginLines(inChunkLine)
	case inTrailers:
		if text != "" {
			p.lines = append(p.lines, text)
			return nil
		}
		if fault := checkTrailers(p.lines); fault != nil {
			return fault
		}
		p.beginLines(inHead)
	}
	return nil
}

// beginLines enters a state that reads lines.
func (p *parser) beginLines(s state) {
	p.state, p.lines, p.size, p.empty = s, p.lines[:0], 0, 0
}

func (p *parser) headLine(text string) *Error {
	if p.http2 && !p.begun && len(p.lines) == 0 && text+"\r\n" == preface {
		p.state = opaque
		return nil
	}
	if text == "" && len(p.lines) == 0 {
		if p.empty++; p.empty > maxEmptyLines {
			return refuse("more than %d empty lines precede the request", maxEmptyLines)
		}
		return nil
	}
	if text != "" {
		p.lines = append(p.lines, text)
		return nil
	}

	p.begun = true
	length, fault := checkHead(p.lines)
	if fault != nil {
		return fault
	}
	switch {
	case length == chunked:
		p.beginLines(inChunkLine)
	case length > 0:
		p.state, p.left = inBody, length
	default:
		p.beginLines(inHead)
	}
	return nil
}

func (p *parser) chunkLine(text string) *Error {
	size, extension, extended := strings.Cut(text, ";")
	if extended {
		size = strings.TrimRight(size, " \t")
	}
	for _, c := range []byte(extension) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return refuse("the extension of a chunk contains a control character")
		}
	}
	n, err := strconv.ParseUint(size, 16, 64)
	if err != nil || len(size) > maxSizeDigits {
		return refuse("%.40q is not the size of a chunk in hexadecimal digits", size)
	}

	if n == 0 {
		p.beginLines(inTrailers)
		return nil
	}
	p.state, p.left = inChunk, int64(n)
	return nil
}
