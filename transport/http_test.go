package transport

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/transport/status"
)

// TestForbiddenHTTP checks that requests that HTTP forbids are answered with 400, and the connection closed.
func TestForbiddenHTTP(t *testing.T) {
	address := strings.TrimPrefix(serve(t, open(t, Config{NodeID: "A", Logger: quiet()})), "http://")
	const request = "POST " + pathPop +
		" HTTP/1.1\r\nContent-Type: application/json\r\nx-ptp-session-id: s\r\n"
	const good = request + "Host: x\r\nContent-Length: 26\r\n\r\n{\"topic\":\"t\",\"timeout\":50}"
	const chunks = request + "Host: x\r\nTransfer-Encoding: chunked\r\n"
	for name, text := range map[string]string{
		"length and chunks": chunks + "Content-Length: 4\r\n\r\n0\r\n\r\n",
		"two lengths":       request + "Host: x\r\nContent-Length: 4\r\nContent-Length: 2\r\n\r\n{}  ",
		"other coding":      request + "Host: x\r\nTransfer-Encoding: gzip\r\n\r\n",
		"no host":           request + "Content-Length: 2\r\n\r\n{}",
		"two hosts":         request + "Host: x\r\nHost: y\r\nContent-Length: 2\r\n\r\n{}",
		"folded line":       request + "Host: x\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
		"space":             request + "Host: x\r\nContent-Length : 2\r\n\r\n{}",
		"LF alone":          strings.ReplaceAll(good, "\r\n", "\n"),
		"bad chunk":         chunks + "\r\n+2\r\n{}\r\n0\r\n\r\n",
		"long chunk":        chunks + "\r\n2\r\n{}x\r\n0\r\n\r\n",
		"bad trailer":       chunks + "\r\n2\r\n{}\r\n0\r\na b\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			require.NoError(t, err)
			defer func() { _ = c.Close() }()
			require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
			_, err = io.WriteString(c, good+text+good)
			require.NoError(t, err)
			var statuses []int
			for r := bufio.NewReader(c); ; {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					require.NotContains(t, err.Error(), "timeout", "the connection ends")
					break
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				statuses = append(statuses, resp.StatusCode)
			}
			require.Equal(t, []int{200, 400}, statuses)
		})
	}
}

// TestContainerPaths checks that repeated and trailing slashes don't matter.
func TestContainerPaths(t *testing.T) {
	url := serve(t, open(t, Config{NodeID: "A", Logger: quiet()}))
	for _, path := range []string{"/" + pathPop, pathPop + "/", strings.ReplaceAll(pathPop, "/", "//")} {
		httpCode, answer := raw(t, "POST", url+path, map[string]string{"x-ptp-session-id": "s"},
			`{"topic":"t","timeout":20}`)
		require.Equal(t, http.StatusOK, httpCode)
		require.Equal(t, string(status.Timeout), answer["code"])
	}
}

// TestReleaseDerivedSessions checks that the sessions which containers derive from their job's are released
// with it, and no others.
func TestReleaseDerivedSessions(t *testing.T) {
	a := open(t, Config{NodeID: "A", Logger: quiet()})
	n := &node{a, serve(t, a)}
	all := []string{"session_1", "session_1_task", "session_1_task_2", "session_12", "session_2_session_1_"}
	for _, session := range all {
		n.container(t, session).mustPush("A", "x", []byte("hello"))
	}
	code, _ := raw(t, "POST", n.url+pathRelease, map[string]string{"x-ptp-session-id": "session_1",
		"x-ptp-final": "derived"}, `{}`)
	require.Equal(t, http.StatusOK, code)
	for i, session := range all {
		want := status.OK
		if i < 3 {
			want = status.SessionReleased
		}
		require.Equal(t, want, n.container(t, session).push("A", "x", []byte("more")).Code, session)
	}
}
