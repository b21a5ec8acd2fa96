package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// dribble sends a byte now and then until the connection ends. It returns the server's answer and its time.
func dribble(t *testing.T, c net.Conn, begin string) (*reply, time.Duration) {
	t.Helper()
	began := time.Now()
	_, err := io.WriteString(c, begin)
	require.NoError(t, err)
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
			}
		}
	})
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	took := time.Since(began)
	close(stop)
	sender.Wait()
	if err != nil {
		return nil, took // the connection ended
	}
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	r := &reply{t: t, Status: resp.StatusCode, Header: resp.Header, Body: body}
	envelope(t, r)
	return r, took
}

// A slow client gets a 408, or its connection is closed, in time. It leaves nothing behind and delays no
// other client.
func TestSlowClients(t *testing.T) {
	const patience = 1500 * time.Millisecond
	p := newParty(t, func(c *Config) { c.ClientTimeout = patience })
	post := func(path, header string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n" + header + "\r\n\r\n"
	}
	multipart := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nid,x\n"
	t.Run("all", func(t *testing.T) {
		for name, begin := range map[string]string{
			"nothing sent": "",
			"header":       "POST " + bfia.PathStart + " HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
			"body":         post(bfia.PathStart, "Content-Length: 100000"),
			"body behind 8 KiB": post(bfia.PathPlatformCreateAll, "Content-Length: 100000") +
				strings.Repeat(" ", 10_000),
			"chunks": post(bfia.PathStart, "Transfer-Encoding: chunked") + "ffff\r\n",
			"a GET's body": "GET " + bfia.PathPlatformStatusAll +
				" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat(" ", 10_000),
			"form": post(bfia.PathComponentFile,
				"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000") +
				multipart + strings.Repeat("y", 10_000),
			"form in chunks": post(bfia.PathComponentFile,
				"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked") +
				fmt.Sprintf("ffff\r\n%s", multipart),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r, took := dribble(t, dial(t, p.address), begin)
				// Ten thousand bytes allow 2.5 s at the least rate; the rest is slack for a machine that is
				// busy.
				require.Less(t, took, 20*time.Second)
				if r != nil {
					require.Equal(t, 408, r.Status, "%s", r.Body)
					require.Equal(t, bfia.CodeTimeout, r.Code)
				}
			})
		}
		t.Run("others", func(t *testing.T) {
			t.Parallel()
			for range 20 {
				p.good(get(bfia.PathHealth))
			}
		})
	})
	p.empty()
}

// A client that does not read its answer is disconnected in time.
func TestSlowReader(t *testing.T) {
	p := newParty(t, func(c *Config) { c.ClientTimeout = 300 * time.Millisecond })
	require.NoError(t, p.blobs.Put(t.Context(), "n/d/data_0",
		io.MultiReader(strings.NewReader("id\n"), &counted{limit: 64 << 20})))
	require.NoError(t, p.blobs.Put(t.Context(), "n/d/metadata", strings.NewReader(`{"partitions":1}`)))
	c := dial(t, p.address)
	// so that the network buffers little of the answer
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(64<<10))
	_, err := io.WriteString(c,
		"GET "+bfia.PathDataDownload+"?namespace=n&name=d HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	first := make([]byte, 1)
	_, err = io.ReadFull(c, first)
	require.NoError(t, err, "the answer has begun")
	require.Eventually(t, func() bool { return p.server.clients.Server().GetOpenConnectionsCount() == 0 },
		50*time.Second, 20*time.Millisecond,
		"the server has let go of the connection while nobody reads")
	n, _ := io.Copy(io.Discard, c)
	require.Less(t, n, int64(64<<20))
}
