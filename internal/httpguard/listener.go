package httpguard

import (
	"errors"
	"io"
	"net"
	"strings"
)

// Listener wraps the connections that a listener accepts in a [Conn]. With http2, a connection may begin with
// HTTP/2's preface, and is not looked at any further.
func Listener(l net.Listener, http2 bool) net.Listener { return listener{l, http2} }

type listener struct {
	net.Listener
	http2 bool
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, parser: parser{http2: l.http2}}, nil
}

// Conn is a connection of a server. Its Read returns an [*Error] in place of the end of a forbidden head, or
// of a broken body, and io.EOF from then on.
type Conn struct {
	net.Conn
	parser   parser
	fault    *Error
	reported bool // the fault was returned
}

// Read reads from the connection. The server sees no byte after a fault.
func (c *Conn) Read(p []byte) (int, error) {
	if c.fault != nil {
		if c.reported {
			return 0, io.EOF
		}
		c.reported = true
		return 0, c.fault
	}

	n, err := c.Conn.Read(p)
	good, fault := c.parser.parse(p[:n])
	if fault == nil {
		return n, err
	}
	c.fault = fault
	if good == 0 {
		c.reported = true
		return 0, fault
	}
	return good, nil
}

// EndHTTP ends the examination of what the connection reads, because it speaks another protocol now. Call it
// after the server has given the connection away.
func (c *Conn) EndHTTP() { c.parser.state = opaque }

// Fault returns why the connection is refused, or nil.
func (c *Conn) Fault() *Error { return c.fault }

// ReadFrom lets a server send files without copying them through memory.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite ends the answers. A server that refuses a request does so before it closes the connection, for
// the client to read the answer.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// CleanPath returns a path without repeated and trailing slashes. It changes nothing else, such as dots. Some
// containers append a path to an address that ends with a slash.
func CleanPath(path string) string {
	if !strings.Contains(path, "//") && !strings.HasSuffix(path, "/") {
		return path
	}
	return "/" + strings.Join(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), "/")
}
