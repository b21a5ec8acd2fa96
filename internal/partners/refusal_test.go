package partners

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
)

// TestHandshakesAreRecorded checks that each refused TLS handshake is recorded with the reason, and that
// nothing else is.
func TestHandshakesAreRecorded(t *testing.T) {
	var mu sync.Mutex
	var recorded []string
	ca, foreign := newAuthority(t), newAuthority(t)
	own, _ := ca.keyPair(t, certs.Leaf{Node: "A"})
	d := newDirectory(t, Config{Node: "A", KeyPair: own, OnRefusedConnection: func(a net.Addr, err error) {
		mu.Lock()
		defer mu.Unlock()
		host, _, _ := net.SplitHostPort(a.String())
		recorded = append(recorded, host+" "+err.Error())
	}}, Partner{Node: "B", URL: "https://b", Auth: MTLS, Peer: ca.peer("B")})
	url := serve(t, d, whoami)
	address := strings.TrimPrefix(url, "https://")
	expect := func(name, reason string) {
		t.Helper()
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(recorded) == 1
		}, time.Minute, time.Millisecond, name)
		require.True(t, strings.HasPrefix(recorded[0], "127.0.0.1 "), recorded[0])
		require.Contains(t, recorded[0], reason, name)
		recorded = nil
	}

	fails := func(pair *certs.KeyPair, change func(*tls.Config)) {
		t.Helper()
		_, _, err := get(t, clientWith(t, pair, change), url)
		require.Error(t, err)
	}
	fails(nil, nil)
	expect("no certificate", "certificate")
	b, _ := foreign.keyPair(t, certs.Leaf{Node: "B"})
	fails(b, nil)
	expect("foreign authority", "node B")
	c, _ := ca.keyPair(t, certs.Leaf{Node: "C"})
	fails(c, nil)
	expect("no partner", "C")
	b, _ = ca.keyPair(t, certs.Leaf{Node: "B"})
	fails(b, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 })
	expect("old version", "version")

	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	_, _ = io.ReadAll(conn)
	require.NoError(t, conn.Close())
	expect("no TLS", "does not look like a TLS handshake")

	// A probe that only connects, a peer that refuses this party, and a partner are no refusals.
	conn, err = net.Dial("tcp", address)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	fails(b, func(c *tls.Config) { c.InsecureSkipVerify = false })
	status, _, err := get(t, clientWith(t, b, nil), url)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Eventually(t, func() bool { // all handshakes have ended
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.servers) <= 1
	}, time.Minute, time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, recorded)
}
