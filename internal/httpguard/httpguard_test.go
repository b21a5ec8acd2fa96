package httpguard

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const get = "GET / HTTP/1.1\r\nHost: x\r\n"

// forbidden maps requests that HTTP forbids to a part of the reason.
var forbidden = map[string]string{
	get + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "are both given",
	get + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n": "are both given",
	get + "Content-Length: 0\r\ntransfer-encoding: identity\r\n\r\n":         "are both given",
	get + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde":              "is given twice, as 4 and 5",
	get +
		"Content-Length: 4, 4\r\n\r\nabcd": `"4, 4" is not a number of bytes`,
	get + "Content-Length: +4\r\n\r\nabcd":              "is not a number of bytes",
	get + "Content-Length: -4\r\n\r\nabcd":              "is not a number of bytes",
	get + "Content-Length: 0x4\r\n\r\nabcd":             "is not a number of bytes",
	get + "Content-Length: 4 4\r\n\r\nabcd":             "is not a number of bytes",
	get + "Content-Length:\r\n\r\n":                     "is not a number of bytes",
	get + "Content-Length: 9223372036854775808\r\n\r\n": "is not a number of bytes",
	get +
		"Transfer-Encoding: identity\r\n\r\n": "the last coding must be chunked",
	get +
		"Transfer-Encoding: chunked, gzip\r\n\r\n": "the last coding must be chunked",
	get + "Transfer-Encoding: gzip, chunked\r\n\r\n": "no other coding",
	get +
		"Transfer-Encoding: xchunked\r\n\r\n": "the last coding must be chunked",
	get + "Transfer-Encoding: \x0bchunked\r\n\r\n":                           "control character",
	get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": "no other coding",
	"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":          "not a part of HTTP/1.0",

	"GET / HTTP/1.1\r\n\r\n":                          "header Host: is required",
	get + "Host: y\r\n\r\n":                           "header Host: is given 2 times",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n":             "is not a host",
	"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n":    "header Host: is given 2 times",
	get + "X: a\r\n b\r\n\r\n":                        "continues on the next line",
	get + "X: a\r\n\tContent-Length: 4\r\n\r\n":       "continues on the next line",
	"GET / HTTP/1.1\r\n Host: x\r\n\r\n":              "continues on the next line",
	get + "X : a\r\n\r\n":                             `"X " is not a name of a header`,
	get + "Content-Length : 4\r\n\r\nabcd":            "is not a name of a header",
	get + ": a\r\n\r\n":                               "is not a name of a header",
	get + "X\x00: a\r\n\r\n":                          "is not a name of a header",
	get + "X: a\x00b\r\n\r\n":                         "control character",
	get + "X\r\n\r\n":                                 "has no colon",
	get + "X: a\rContent-Length: 4\r\n\r\n":           "contains a CR",
	get + "X: a\n\r\n":                                "ends with LF alone",
	get + "\n":                                        "ends with LF alone",
	"GET / HTTP/1.1\nHost: x\n\n":                     "ends with LF alone",
	"GET  / HTTP/1.1\r\nHost: x\r\n\r\n":              "does not begin with",
	"GET /\r\n\r\n":                                   "does not begin with",
	"hello\r\n\r\n":                                   "does not begin with",
	"G(T / HTTP/1.1\r\nHost: x\r\n\r\n":               "does not begin with",
	"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n":           "control character",
	"GET / HTTP/2.0\r\nHost: x\r\n\r\n":               "is not supported",
	"GET / HTTQ/1.1\r\nHost: x\r\n\r\n":               "is not a version",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                "is not supported",
	strings.Repeat("\r\n", 5) + get + "\r\n":          "empty lines",
	get + "X: " + strings.Repeat("y", maxHead) + "\r": "are longer than",
}

// broken maps bodies in chunks to a part of the reason why they are refused.
var broken = map[string]string{
	"zz\r\n":                                 `"zz" is not the size of a chunk`,
	"\r\n":                                   `"" is not the size of a chunk`,
	"-1\r\n":                                 "is not the size of a chunk",
	"+1\r\na\r\n":                            "is not the size of a chunk",
	"0x1\r\na\r\n":                           "is not the size of a chunk",
	" 1\r\na\r\n":                            "is not the size of a chunk",
	"1 \r\na\r\n":                            "is not the size of a chunk",
	"1_0\r\n":                                "is not the size of a chunk",
	"ffffffffffffffff\r\n":                   "is not the size of a chunk",
	"00000000000000001\r\n":                  "is not the size of a chunk",
	"1\na\r\n0\r\n\r\n":                      "ends with LF alone",
	"1\r\na\n0\r\n\r\n":                      "ends with LF alone",
	"1\r\nab\r\n0\r\n\r\n":                   "is longer than its size says",
	"1;x=\x00\r\na\r\n":                      "control character",
	"1;x=\n1\r\na\r\n":                       "ends with LF alone",
	"1;" + strings.Repeat("x", 300) + "\r\n": "longer than 256 bytes",
	"0\r\nX: a\r\n b\r\n\r\n":                "continues on the next line",
	"0\r\nContent-Length: 4\r\n\r\n":         "can't be a trailer",
	"0\r\nnonsense\r\n\r\n":                  "has no colon",
	"0\r\n\n":                                "ends with LF alone",
	"0\r\n" + strings.Repeat("X: y\r\n", 4<<10) + "\r\n\r": "trailers are longer",
}

// fine lists requests that HTTP allows.
var fine = []string{
	get + "\r\n",
	"\r\n\r\n" + get + "\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
	"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
	get + "X:\r\nY: \t a b \t\r\nZ: \xff\r\n\r\n",
	get + "Content-Length: 4\r\n\r\nabcd",
	get + "Content-Length: 4\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
	get + "Content-Length: 004\r\n\r\n\n\n\n\n",
	get + "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
	get + "Transfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0A;x=\"y z\" ; z\r\n0123456789\r\n00\r\nX: y\r\n\r\n",
}

// parseBy parses a text in pieces of n bytes.
func parseBy(p *parser, text string, n int) (good int, fault *Error) {
	for good < len(text) {
		part := text[good:min(good+n, len(text))]
		m, fault := p.parse([]byte(part))
		good += m
		if fault != nil {
			return good, fault
		}
	}
	return good, nil
}

// TestParser checks every request in pieces of several sizes, and behind other requests on its connection.
func TestParser(t *testing.T) {
	all := map[string]string{}
	for text, reason := range forbidden {
		all[text] = reason
	}
	for body, reason := range broken {
		all[get+"Transfer-Encoding: chunked\r\n\r\n"+body] = reason
	}
	for _, size := range []int{1, 2, 7, 1 << 21} {
		for text, reason := range all {
			for _, before := range []string{"", fine[0], fine[6], fine[10]} {
				if strings.HasPrefix(text, "\r\n") && before != "" || len(text) > 1000 && size < 7 {
					continue
				}
				p := &parser{}
				good, fault := parseBy(p, before+text, size)
				require.NotNil(t, fault, "%.100q", text)
				require.Contains(t, fault.Message, reason, "%.100q", text)
				require.GreaterOrEqual(t, good, len(before))
				require.Less(t, good, len(before+text), "the server does not see its end")
			}
		}
		for _, text := range fine {
			p := &parser{}
			good, fault := parseBy(p, text+text+strings.Join(fine, ""), size)
			require.Nil(t, fault, "%q", text)
			require.Equal(t, 2*len(text)+len(strings.Join(fine, "")), good)
			require.Equal(t, inHead, p.state)
			require.Zero(t, len(p.lines)+len(p.line), "%q", text)
		}
	}
}

// TestParserHTTP2 checks that HTTP/2 is let through, where a server has it, as the first bytes only.
func TestParserHTTP2(t *testing.T) {
	p := &parser{http2: true}
	_, fault := parseBy(p, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\n\n", 3)
	require.Nil(t, fault)
	_, fault = parseBy(&parser{http2: true}, get+"\r\nPRI * HTTP/2.0\r\n\r\n", 3)
	require.NotNil(t, fault)
}

// TestNetHTTP checks that the server of the standard library answers 400 and closes the connection, after the
// answers to the requests before.
func TestNetHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusBadRequest)
		}
	})}
	go func() { _ = srv.Serve(Listener(l, true)) }()
	t.Cleanup(func() { _ = srv.Close() })

	statuses := func(text string) (list []int) {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		go func() { _, _ = io.WriteString(c, text) }()
		for r := bufio.NewReader(c); ; {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				require.NotContains(t, err.Error(), "timeout")
				return list
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			list = append(list, resp.StatusCode)
		}
	}
	const last = get + "Connection: close\r\n\r\n"
	require.Equal(t, []int{200, 200, 200}, statuses(fine[6]+fine[10]+last))
	for text := range forbidden {
		if len(text) < 1000 && !strings.HasPrefix(text, "PRI") && !strings.HasPrefix(text, "\r") {
			require.Equal(t, []int{200, 400}, statuses(fine[6]+text+last), "%q", text)
		}
	}
	for body := range broken {
		if len(body) < 1000 {
			text := get + "Transfer-Encoding: chunked\r\n\r\n" + body + last
			require.Equal(t, []int{200, 400}, statuses(fine[0]+text), "%q", text)
		}
	}
}

func TestCleanPath(t *testing.T) {
	for path, want := range map[string]string{"/a/b": "/a/b", "//a/b": "/a/b", "/a//b/": "/a/b", "/": "/",
		"": "", "///": "/", "/a/../b": "/a/../b", "/a/%2f/b/": "/a/%2f/b"} {
		require.Equal(t, want, CleanPath(path), path)
	}
}

func BenchmarkParser(b *testing.B) {
	head := []byte(get + strings.Repeat("X-Some-Header: with a usual value\r\n", 10) +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 1000, strings.Repeat("x", 1000)))
	p := &parser{}
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if _, fault := p.parse(head); fault != nil {
			b.Fatal(fault)
		}
	}
}
