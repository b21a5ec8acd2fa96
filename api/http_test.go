package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// dial opens a connection that is closed when the test ends.
func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// raw sends bytes and reads answers until the connection ends, or until it has want of them.
func raw(t testing.TB, address, request string, want int) []*reply {
	t.Helper()
	c := dial(t, address)
	go func() { _, _ = io.WriteString(c, request) }() // the server may close before it has taken all
	r := bufio.NewReader(c)
	var list []*reply
	for want == 0 || len(list) < want {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			break // the end of the connection
		}
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		a := &reply{t: t, Status: resp.StatusCode, Header: resp.Header, Body: body, Close: resp.Close}
		if a.Status != http.StatusContinue {
			envelope(t, a)
			list = append(list, a)
		}
	}
	return list
}

// exchange sends a request, closes its side and checks every answer.
func exchange(t testing.TB, c net.Conn, request string) {
	t.Helper()
	go func() {
		_, _ = io.WriteString(c, request)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	r := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if resp.StatusCode == http.StatusContinue || len(body) == 0 && resp.ContentLength != 0 {
			continue // nothing yet, or the answer to a HEAD
		}
		if resp.StatusCode == 200 && (resp.Header.Get("Content-Type") != "application/json" ||
			bytes.Equal(body, openAPIDocument)) {
			continue // a file
		}
		envelope(t, &reply{t: t, Status: resp.StatusCode, Header: resp.Header, Body: body})
	}
}

// envelope requires that an answer is the JSON envelope, and neither a 5xx nor a stack trace.
func envelope(t testing.TB, r *reply) {
	t.Helper()
	require.Less(t, r.Status, 500, "%s", r.Body)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"), "%s", r.Body)
	require.NoError(t, json.Unmarshal(r.Body, &r.Fields), "%s", r.Body)
	require.NoError(t, json.Unmarshal(r.Body, &r.Envelope), "%s", r.Body)
	require.Contains(t, r.Fields, "code")
	if r.Code != bfia.CodeOK {
		require.NotEmpty(t, r.Text())
	}
	require.NotContains(t, r.Text(), "goroutine")
	require.NotContains(t, r.Text(), ".go:")
	require.Less(t, len(r.Text()), maxMessage+16)
}

func TestBodiesThatAreNoJSON(t *testing.T) {
	p := newParty(t)
	deep := strings.Repeat("[", 20_000)
	for name, c := range map[string]struct {
		body  string
		words string
	}{
		"empty": {"", "body: the JSON is incomplete"},
		"space": {" \n", "body: the JSON is incomplete"},
		"half":  {`{"job_id": "a`, "body: the JSON is incomplete"},
		"words": {"hello", "body: is not valid JSON"},
		"trailing": {`{"job_id": "a"} x`,
			"body: the JSON value ends at byte 15, but more text follows"},
		"two":              {`{"job_id": "a"}{"job_id": "b"}`, "but more text follows"},
		"deep":             {deep, "body:"},
		"deep object":      {strings.Repeat(`{"job_id":`, 20_000), "body:"},
		"deep and whole":   {strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "body:"},
		"invalid UTF-8":    {"{\"job_id\": \"\xff\"}", "body: is not UTF-8"},
		"NUL":              {"{\"job_id\": \"a\x00\"}", "body: is not valid JSON"},
		"escaped NUL":      {`{"job_id": "a\u0000"}`, "job_id:"},
		"lone surrogate":   {`{"job_id": "\ud800"}`, "job_id:"},
		"byte order mark":  {"\uFEFF{}", "job_id: is required"}, // it is dropped
		"list":             {`[1]`, "body:"},
		"string":           {`"a"`, "body:"},
		"number":           {`1e999`, "body:"},
		"wrong type":       {`{"job_id": 7}`, "job_id: is a JSON number, must be a string"},
		"null":             {`{"job_id": null}`, "job_id: is required"},
		"UTF-16":           {"\xff\xfe{\x00}\x00", "body: is not UTF-8"},
		"form":             {"job_id=a", "body: is not valid JSON"},
		"huge number":      {`{"job_id": ` + strings.Repeat("9", 100_000) + `}`, "job_id"},
		"long string":      {`{"job_id": "` + strings.Repeat("é", 100_000) + `"}`, "job_id"},
		"markup, verbatim": {`{"job_id": "<script>"}`, "job_id"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{bfia.PathPlatformStopAll, bfia.PathStart, bfia.PathCreateAll,
				bfia.PathPlatformCreateAll, bfia.PathV2CreateAll} {
				r := p.send(post(path, c.body))
				require.Less(t, r.Status, 500)
				envelope(t, r)
				require.NotEqual(t, bfia.CodeOK, r.Code)
				if !strings.Contains(path, "create_all") {
					require.Contains(t, r.Text(), c.words, path)
				}
				require.Equal(t, isV2(path), r.Msg == "", "%s", r.Body)
			}
		})
	}
	require.Empty(t, p.engine.started())
	require.Empty(t, p.engine.takeSignals())
}

func TestRoutes(t *testing.T) {
	p := newParty(t)
	for _, path := range []string{"/v1", "/v2/nothing", "/v1/interconn/schedule/job/nothing",
		"/v2/provider/register/", "/V2/provider/register",
		"//v2/provider/register", "/v2/provider/register/../query", "/%76%32/provider/query",
		"/v2/provider%2fquery",
		"/healthz%00", "/../../etc/passwd"} {
		for _, method := range []string{"GET", "POST", "PUT", "OPTIONS"} {
			r := raw(t, p.address, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
			require.Len(t, r, 1)
			require.Equal(t, 404, r[0].Status, "%s %s", method, path)
			require.Equal(t, bfia.CodeNotFound, r[0].Code)
			require.Contains(t, r[0].Text(), "no such endpoint")
		}
	}
	root := raw(t, p.address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
	require.Len(t, root, 1)
	require.Equal(t, 404, root[0].Status)
	require.Contains(t, root[0].Text(), "this path sends browsers to /console/")
	for _, c := range []struct{ method, path, allowed, words string }{
		{"POST", "/", "GET", "this path accepts GET"},
		{"GET", bfia.PathProviderRegister, "POST", "this path accepts POST"},
		{"DELETE", bfia.PathProviderQuery, "GET", "this path accepts GET"},
		{"PUT", bfia.PathStatusAll, "GET, POST", "this path accepts GET and POST"},
		{"OPTIONS", bfia.PathStatusAll, "GET, POST", "this path accepts GET and POST"},
		{"PATCH", bfia.PathCreate, "POST", "this path accepts POST"},
		{"TRACE", bfia.PathHealth, "GET", "this path accepts GET"},
		{"CONNECT", bfia.PathHealth, "GET", "this path accepts GET"},
		{"PROPFIND", bfia.PathHealth, "GET", "PROPFIND /healthz: this path accepts GET"},
		{"get", bfia.PathHealth, "GET", "this path accepts GET"},
	} {
		r := raw(t, p.address,
			c.method+" "+c.path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 1)
		require.Len(t, r, 1, "%s", c.method)
		require.Equal(t, 405, r[0].Status)
		require.Equal(t, bfia.CodeMethod, r[0].Code)
		require.Equal(t, c.allowed, r[0].Header.Get("Allow"))
		require.Contains(t, r[0].Text(), c.words)
		require.Equal(t, isV2(c.path), r[0].Msg == "", "%s", r[0].Body)
	}
	r := p.send(call{method: http.MethodHead, path: bfia.PathProviderRegister})
	require.Equal(t, 405, r.Status)
}

// Malformed HTTP is answered with the envelope, or the connection is closed.
func TestBrokenHTTP(t *testing.T) {
	p := newParty(t)
	const good = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"words": {"hello\r\n\r\n", 400},
		"TLS": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 64) +
			"\r\n\r\n", 400},
		"HTTP/2":    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
		"HTTP/0.9":  {"GET /healthz\r\n\r\n", 0},
		"long line": {"GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\n\r\n", 413},
		"huge header": {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("y", 1<<20) +
			"\r\n\r\n", 413},
		"many headers": {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n",
			100_000) +
			"\r\n", 413},
		"bad length": {"POST " + bfia.PathStart +
			" HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n{}", 400},
		"negative length": {"POST " + bfia.PathStart +
			" HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{}", 400},
		"overflowing length": {"POST " + bfia.PathStart +
			" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}", 400},
		"bad chunk": {"POST " + bfia.PathStart +
			" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400},
		"huge chunk": {"POST " + bfia.PathStart +
			" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n",
			400},
		"chunk without end": {"POST " + bfia.PathStart +
			" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}x", 400},
		"NUL in the path":   {"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		"NUL in a header":   {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx-node-id: \x00\r\n\r\n", 0},
		"UTF-8 in the path": {"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
		"garbage behind it": {good + "garbage\r\n\r\n", 0},
		"POST, no length":   {"POST " + bfia.PathStart + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		"empty lines":       {"\r\n\r\n\r\n" + good, 0},
	} {
		t.Run(name, func(t *testing.T) {
			list := raw(t, p.address, c.request, 1)
			if c.status != 0 {
				require.Len(t, list, 1)
				require.Equal(t, c.status, list[0].Status, "%s", list[0].Body)
			}
		})
	}
	p.good(get(bfia.PathHealth))
	require.NotContains(t, p.log.String(), "level=ERROR")
	require.NotContains(t, p.log.String(), "yyyyyyyy",
		"a request's headers, which may be secret, are not logged")
}

// TestForbiddenHTTP checks that requests that HTTP forbids are answered with 400, and the connection closed.
func TestForbiddenHTTP(t *testing.T) {
	p := newParty(t)
	const good = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	post := "POST " + bfia.PathProviderDelete + " HTTP/1.1\r\n"
	for name, c := range map[string]struct{ request, words string }{
		"length and chunks": {post +
			"Host: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"both given"},
		"two lengths": {post + "Host: localhost\r\nContent-Length: 4\r\nContent-Length: 2\r\n\r\n{}  ",
			"header Content-Length: is given twice, as 4 and 2"},
		"other coding": {post + "Host: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
			"the last coding must be chunked"},
		"no host": {post + "Content-Length: 2\r\n\r\n{}", "header Host: is required"},
		"two hosts": {post + "Host: localhost\r\nHost: y\r\nContent-Length: 2\r\n\r\n{}",
			"header Host: is given"},
		"folded line": {post + "Host: localhost\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
			"continues on the next"},
		"space before the colon": {post + "Host: localhost\r\nContent-Length : 2\r\n\r\n{}",
			"is not a name of a header"},
		"LF alone": {strings.ReplaceAll(good, "\r\n", "\n"), "ends with LF alone"},
		"bad chunk": {post + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
			"body: "},
		"long chunk": {post + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
			"body: "},
		"bad trailer": {post +
			"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\na b\r\n\r\n",
			"body: "},
	} {
		t.Run(name, func(t *testing.T) {
			list := raw(t, p.address, good+c.request+good, 0)
			require.Len(t, list, 2, "the connection ends")
			require.Equal(t, 400, list[1].Status)
			require.True(t, list[1].Close)
			require.Contains(t, list[1].Text(), c.words)
		})
	}
}

// The rest of a body is never parsed as the next request.
func TestPipelining(t *testing.T) {
	p := newParty(t)
	const good = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	hidden := "POST " + bfia.PathProviderDelete +
		" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{\"name\": \"pp\"}"

	list := raw(t, p.address, good+good+good, 3)
	require.Len(t, list, 3)
	for _, r := range list {
		require.Equal(t, 200, r.Status)
	}
	// A short body that nobody reads is skipped, and the connection stays open.
	short := fmt.Sprintf("POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
		len(hidden),
		hidden)
	list = raw(t, p.address, short+good, 2)
	require.Len(t, list, 2)
	require.Equal(t, 404, list[0].Status)
	require.Equal(t, 200, list[1].Status)
	// A long one, or one in chunks, ends the connection.
	padded := strings.Repeat(" ", 100_000) + hidden
	for _, request := range []string{
		fmt.Sprintf("POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(padded),
			padded),
		fmt.Sprintf(
			"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden),
		fmt.Sprintf("GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(padded),
			padded),
	} {
		list = raw(t, p.address, request+good, 0)
		require.Len(t, list, 1)
		require.True(t, list[0].Close)
	}
	// Chunks that a handler has read to their end leave the connection as it was.
	list = raw(
		t,
		p.address,
		"POST "+bfia.PathStart+" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"+good,
		2,
	)
	require.Len(t, list, 2)
	require.Equal(t, 200, list[1].Status)
	// Garbage behind a good request: the good one is answered, and the rest is not.
	list = raw(t, p.address, good+"garbage\r\n\r\n"+good, 0)
	require.NotEmpty(t, list)
	require.Equal(t, 200, list[0].Status)
	require.LessOrEqual(t, len(list), 2)
}

// counted is a body of spaces that counts how much of it was read.
type counted struct {
	n     atomic.Int64
	limit int64
}

func (c *counted) Read(b []byte) (int, error) {
	left := c.limit - c.n.Load()
	if left <= 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), left))
	for i := range b[:n] {
		b[i] = ' '
	}
	c.n.Add(int64(n))
	return n, nil
}

// An oversized body is refused without reading all of it, whether its length was given or not.
func TestOversizedBodies(t *testing.T) {
	p := newParty(t)
	const size = 1 << 30
	for _, path := range []string{bfia.PathPlatformCreateAll, bfia.PathCreateAll, bfia.PathProviderRegister,
		bfia.PathStart, bfia.PathTaskPoll, bfia.PathComponentUpload} {
		for _, length := range []int64{size, -1} {
			body := &counted{limit: size}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.address+path,
				body)
			require.NoError(t, err)
			req.ContentLength = length
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err, "%s: the answer must arrive though the body was not read", path)
			r := p.read(req, resp)
			require.Equal(t, 413, r.Status, "%s", r.Body)
			require.Equal(t, bfia.CodeTooLarge, r.Code)
			require.Contains(t, r.Text(),
				"body: is longer than 1048576 bytes, the limit jobs.max_document_bytes of this party")
			require.Less(t, body.n.Load(), int64(size/2))
		}
	}
	// With an Expect header, as curl sends it.
	list := raw(
		t,
		p.address,
		"POST "+bfia.PathPlatformCreateAll+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n"+strings.Repeat(
			" ",
			10_000,
		),
		1,
	)
	require.Len(t, list, 1)
	require.Equal(t, 413, list[0].Status)
	// A body of just the limit is read.
	r := p.send(post(bfia.PathPlatformStopAll, `{"job_id":"x"}`+strings.Repeat(" ", 1<<20-14)))
	require.Equal(t, 404, r.Status, "%s", r.Body)
	r = p.send(post(bfia.PathPlatformStopAll, `{"job_id":"x"}`+strings.Repeat(" ", 1<<20-13)))
	require.Equal(t, 413, r.Status, "%s", r.Body)
}
