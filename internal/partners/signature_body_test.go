package partners

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	testControlLimit   = 4 << 10
	testTransportLimit = 3 << 20
	startPath          = "/v1/interconn/schedule/job/start"
	invokePath         = "/v1/interconn/chan/invoke"
)

func TestSignedBodiesAreBounded(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), &MemoryNonces{})
	for path, limit := range map[string]int{startPath: testControlLimit, invokePath: testTransportLimit} {
		httpStatus, answer, _ := do(t, p.client, p.request(t, "POST", p.url+path, strings.Repeat("x", limit)))
		require.Equal(t, http.StatusOK, httpStatus, answer)

		for _, chunked := range []bool{false, true} {
			req := p.signed(t, "POST", p.url+path, strings.Repeat("x", limit+1))
			if chunked {
				req.ContentLength = -1
			}
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode, path)
		}
	}
	assert.Zero(t, len(largeBodySlots))
	left, err := os.ReadDir(p.b.Bodies.Dir)
	require.NoError(t, err)
	require.Empty(t, left, "stored bodies have no names")
}

// TestLostAnswer loses the answer to the first request. A read is repeated with a new proof; a command is
// not, since its sender decides.
func TestLostAnswer(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), &MemoryNonces{})
	target, err := url.Parse(p.url)
	require.NoError(t, err)
	var lose atomic.Bool
	forward := httputil.NewSingleHostReverseProxy(target)
	gateway := httptest.NewServer(http.StripPrefix("/bank-b", http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if lose.Swap(false) {
				forward.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
			forward.ServeHTTP(w, r)
		})))
	t.Cleanup(gateway.Close)
	p.toB.URL = gateway.URL + "/bank-b/" // signatures leave out the prefix of the gateway
	d := newDirectory(t, Config{Node: "A", Methods: map[Auth]Method{Sign: p.a}}, p.toB)
	p.client = &http.Client{Transport: d.Transport(nil), Timeout: 10 * time.Second}

	for _, method := range []string{"GET", "POST", "GET"} {
		httpStatus, answer, _ := do(t, p.client, p.request(t, method, p.toB.URL+startPath[1:], "{}"))
		require.Equal(t, http.StatusOK, httpStatus, answer)
	}
	lose.Store(true)
	httpStatus, answer, _ := do(t, p.client, p.request(t, "GET", p.toB.URL+startPath[1:], "{}"))
	require.Equal(t, http.StatusOK, httpStatus, answer)
	lose.Store(true)
	_, err = p.client.Do(p.request(t, "POST", p.toB.URL+startPath[1:], "{}"))
	require.Error(t, err)
	httpStatus, answer, _ = do(t, p.client, p.request(t, "POST", p.toB.URL+startPath[1:], "{}"))
	require.Equal(t, http.StatusOK, httpStatus, answer, "the retry is no replay")
}

// TestBrokenSignedBody ends the connection in the middle of a signed body.
func TestBrokenSignedBody(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), &MemoryNonces{})
	req := p.signed(t, "POST", p.url+startPath, "{}")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	var head bytes.Buffer
	require.NoError(t, req.Write(&head))
	text := strings.Replace(head.String(), "Content-Length: 2", "Content-Length: 20", 1)
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.NotContains(t, string(answer), "200 OK")
	require.NotContains(t, string(answer), `"node":"A"`)
}

// TestSlowSignedBody sends less than is announced and keeps the connection open.
func TestSlowSignedBody(t *testing.T) {
	p := newSignedParties(t, newKeyFiles(t), &MemoryNonces{})
	p.b.Bodies.grace = 100 * time.Millisecond
	reader, writer := io.Pipe()
	defer func() { _ = writer.Close() }()
	req := p.signed(t, "POST", p.url+startPath, "{}")
	req.Body, req.ContentLength, req.GetBody = reader, 2, nil
	began := time.Now()
	httpStatus, answer, _ := do(t, http.DefaultClient, req)
	require.Equal(t, http.StatusRequestTimeout, httpStatus, answer)
	require.Less(t, time.Since(began), bodyGrace)
}
