package httpclient

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestProxy checks which proxy each setting chooses, while the environment names one.
func TestProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://environment.example:1")
	t.Setenv("HTTPS_PROXY", "http://environment.example:2")
	t.Setenv("NO_PROXY", "direct.example")
	for _, test := range []struct {
		setting string
		noProxy []string
		url     string
		proxy   string
	}{
		{"", nil, "http://partner.example:9380", ""},
		{"", nil, "https://partner.example", ""},
		{Environment, nil, "http://partner.example:9380", "http://environment.example:1"},
		{Environment, nil, "https://partner.example", "http://environment.example:2"},
		{Environment, nil, "http://direct.example:9380", ""},
		{"http://u:secret@proxy.example:3128", nil, "http://partner.example",
			"http://u:secret@proxy.example:3128"},
		{"https://proxy.example", nil, "https://partner.example", "https://proxy.example"},
		{"http://proxy.example", []string{".internal", "10.0.0.0/8"}, "http://s3.internal:9000", ""},
		{"http://proxy.example", []string{".internal", "10.0.0.0/8"}, "http://10.1.2.3", ""},
		{"http://proxy.example", []string{".internal", "10.0.0.0/8"}, "http://11.1.2.3",
			"http://proxy.example"},
		{"http://proxy.example", nil, "http://127.0.0.1:9380", ""},
	} {
		p, err := NewProxy(test.setting, test.noProxy)
		require.NoError(t, err)
		r, err := http.NewRequest(http.MethodGet, test.url, nil)
		require.NoError(t, err)
		proxy, err := p.Transport().Proxy(r)
		require.NoError(t, err)
		if test.proxy == "" {
			require.Nil(t, proxy, "%+v", test)
			continue
		}
		require.Equal(t, test.proxy, proxy.String(), "%+v", test)
	}
}

// TestInvalidProxy checks that the error of an invalid setting does not contain it.
func TestInvalidProxy(t *testing.T) {
	for _, setting := range []string{"proxy:3128", "socks5://u:secret@proxy:1080", "http://",
		"http://u:secret@%zz"} {
		_, err := NewProxy(setting, nil)
		require.ErrorContains(t, err, "http://host:port", setting)
		require.NotContains(t, err.Error(), "secret")
	}
}

// connectProxy is a proxy that serves CONNECT only. It leads every tunnel to one server.
func connectProxy(t *testing.T, server string, tunnels *atomic.Int32) *httptest.Server {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:secret"))
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != user {
			http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		tunnels.Add(1)
		target, err := net.Dial("tcp", server)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		client, rest, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(target, rest); _ = target.Close() }()
		_, _ = io.Copy(client, target)
		_ = client.Close()
	}))
	t.Cleanup(proxy.Close)
	return proxy
}

// TestDialThroughProxy checks that a connection that is not HTTP's goes through the proxy, with its password.
func TestDialThroughProxy(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = server.Close() }()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	var tunnels atomic.Int32
	address := strings.TrimPrefix(connectProxy(t, server.Addr().String(), &tunnels).URL, "http://")

	p, err := NewProxy("http://u:secret@"+address, []string{"direct.invalid"})
	require.NoError(t, err)
	conn, err := p.Dial(t.Context(), "temporal.invalid:7233") // which only the proxy can resolve
	require.NoError(t, err)
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "hello", string(text))
	require.EqualValues(t, 1, tunnels.Load())

	_, err = p.Dial(t.Context(), "direct.invalid:7233")
	require.Error(t, err, "the host is not for the proxy")
	require.EqualValues(t, 1, tunnels.Load())

	wrong, err := NewProxy("http://u:wrong@"+address, nil)
	require.NoError(t, err)
	_, err = wrong.Dial(t.Context(), "temporal.invalid:7233")
	require.ErrorContains(t, err, "407")
	require.NotContains(t, err.Error(), "wrong@")
}

// TestDialSilentProxy checks that a proxy that never answers does not hold a client longer than its context.
func TestDialSilentProxy(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	p, err := NewProxy("http://"+silent.Addr().String(), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = p.Dial(ctx, "temporal.invalid:7233")
	require.ErrorContains(t, err, "failed to connect to temporal.invalid:7233 through the proxy")
}

// TestLargeHeaders checks that a server can't make its clients hold large headers.
func TestLargeHeaders(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size := maxHeaderBytes / 2
		if r.URL.Path == "/large" {
			size = maxHeaderBytes
		}
		w.Header().Set("X-Padding", strings.Repeat("x", size))
	}))
	defer server.Close()
	client := &http.Client{Transport: Direct()}
	resp, err := client.Get(server.URL + "/small")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	_, err = client.Get(server.URL + "/large")
	require.ErrorContains(t, err, "header")
}
