package link

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"hutong/internal/httpguard"
)

// maxRefusal bounds what is read of the reason why an upgrade was refused.
const maxRefusal = 1 << 10

// IsUpgrade reports whether a request asks for a link, not for the states of links.
func IsUpgrade(r *http.Request) bool { return asksFor(r, upgradeLink) }

func asksFor(r *http.Request, protocol string) bool {
	return httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), protocol)
}

// askUpgrade sends a GET that upgrades its connection to a protocol, and returns the connection. It waits for
// the answer at most until the end of the context, which does not bound the connection.
func askUpgrade(ctx context.Context, over http.RoundTripper, url, protocol string, header http.Header) (
	net.Conn, error) {
	// The context of the request bounds its connection, too, until the answer is here. The values of ctx are
	// those of another request: its caller and its traces.
	asking, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	var under atomic.Pointer[net.Conn]
	asking = httptrace.WithClientTrace(asking, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { under.Store(&info.Conn) }})
	r, err := http.NewRequestWithContext(asking, http.MethodGet, url, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", protocol)
	resp, err := over.RoundTrip(r)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = refusal(resp)
	}
	if !stop() {
		if err == nil {
			_ = resp.Body.Close()
		}
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	stream, ok := resp.Body.(io.ReadWriteCloser)
	conn := under.Load()
	if !ok || conn == nil || !strings.EqualFold(resp.Header.Get("Upgrade"), protocol) {
		cancel()
		_ = resp.Body.Close()
		return nil, fmt.Errorf("the answer does not upgrade the connection to %s", protocol)
	}
	return &upgraded{Conn: *conn, stream: stream, cancel: cancel}, nil
}

// refusal returns the error of an answer that does not upgrade the connection. The page of a gateway is no
// reason of the other side.
func refusal(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "text/plain" && kind != "application/json" {
		return fmt.Errorf("answered by something that is not a party's transport: HTTP %s, %.100s", resp.Status,
			kind)
	}
	reason, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	return fmt.Errorf("HTTP %d: %s", resp.StatusCode, strings.TrimSpace(string(reason)))
}

// upgraded is the client's end of an upgraded connection.
type upgraded struct {
	net.Conn // for addresses and deadlines
	stream   io.ReadWriteCloser
	cancel   context.CancelFunc
}

// Read implements [net.Conn].
func (u *upgraded) Read(b []byte) (int, error) { return u.stream.Read(b) }

// Write implements [net.Conn].
func (u *upgraded) Write(b []byte) (int, error) { return u.stream.Write(b) }

// Close implements [net.Conn].
func (u *upgraded) Close() error {
	defer u.cancel()
	return u.stream.Close()
}

// acceptUpgrade upgrades the connection of a request to a protocol and returns it. After an error it has
// answered the request, if the connection still allows it.
func acceptUpgrade(w http.ResponseWriter, protocol string) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "a link needs a connection of its own, with HTTP/1.1",
			http.StatusHTTPVersionNotSupported)
		return nil, fmt.Errorf("failed to take over the connection: %w", err)
	}
	if guarded, ok := conn.(*httpguard.Conn); ok {
		guarded.EndHTTP()
	}
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	_, err = fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\n"+
		"Connection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("failed to upgrade the connection: %w", err)
	}
	if buffered.Reader.Buffered() > 0 {
		conn = &withBuffer{conn, buffered.Reader}
	}
	return conn, nil
}

// withBuffer is a connection of which the server has read some bytes too many.
type withBuffer struct {
	net.Conn
	buffer *bufio.Reader
}

// Read implements [net.Conn].
func (c *withBuffer) Read(b []byte) (int, error) {
	if c.buffer.Buffered() > 0 {
		return c.buffer.Read(b)
	}
	return c.Conn.Read(b)
}

// onClose is a connection that calls a function when it is closed first.
type onClose struct {
	net.Conn
	closed func()
}

// Close implements [net.Conn].
func (c *onClose) Close() error {
	err := c.Conn.Close()
	c.closed()
	return err
}

// splice copies the bytes of two connections to each other until one of them ends, and closes both.
func splice(a, b net.Conn) {
	ended := make(chan struct{}, 2)
	for _, direction := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(direction[0], direction[1])
			ended <- struct{}{}
		}()
	}
	<-ended
	_ = a.Close()
	_ = b.Close()
	<-ended
}
