// Package httpclient makes the transports of all HTTP and gRPC clients of Hutong, so that one rule decides
// which of their connections use a proxy. No other package makes a transport, or uses those of net/http,
// which follow the variables of the environment (internal/architecture checks this).
package httpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// Environment is the setting of a [Proxy] that follows HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
const Environment = "environment"

// Proxy decides which proxy a connection uses. The zero value is none.
type Proxy struct {
	choose func(*url.URL) (*url.URL, error)
}

// NewProxy returns the proxy of a setting: "" for none, [Environment], or the URL of a proxy. noProxy lists
// the hosts that a URL is not for, in the format of NO_PROXY. No error contains the URL, which may hold a
// password.
func NewProxy(setting string, noProxy []string) (Proxy, error) {
	switch setting {
	case "":
		return Proxy{}, nil
	case Environment:
		return FromEnvironment(), nil
	}
	u, err := url.Parse(setting)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return Proxy{}, errors.New(
			"must be empty, environment, http://host:port or https://host:port (not shown, because it may " +
				"contain a password)")
	}
	c := httpproxy.Config{HTTPProxy: setting, HTTPSProxy: setting, NoProxy: strings.Join(noProxy, ",")}
	return Proxy{c.ProxyFunc()}, nil
}

// FromEnvironment returns the proxy that the environment names, for the commands of a user.
func FromEnvironment() Proxy { return Proxy{httpproxy.FromEnvironment().ProxyFunc()} }

// For returns the proxy of a request, or nil for none, as [http.Transport.Proxy] does.
func (p Proxy) For(r *http.Request) (*url.URL, error) { return p.forURL(r.URL) }

func (p Proxy) forURL(u *url.URL) (*url.URL, error) {
	if p.choose == nil {
		return nil, nil
	}
	return p.choose(u)
}

// IsNone reports whether no connection uses a proxy.
func (p Proxy) IsNone() bool { return p.choose == nil }

// maxHeaderBytes bounds the headers of an answer.
const maxHeaderBytes = 256 << 10

// Transport returns a transport with connections of its own.
func (p Proxy) Transport() *http.Transport {
	return &http.Transport{
		Proxy:                 p.For,
		DialContext:           newDialer().DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       60 * time.Second,
		// Those of net/http, 10 MB, would let a partner or a webhook's server fill the memory.
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// Direct returns a transport that never uses a proxy, for a party's own processes and containers.
func Direct() *http.Transport { return Proxy{}.Transport() }

// newDialer returns a dialer that leaves time for another try after a dial that hangs, and detects a server
// that has vanished.
func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
}

// Dial connects to host:port, through the proxy if there is one for https://host:port. It serves clients that
// are not HTTP's, such as gRPC.
func (p Proxy) Dial(ctx context.Context, address string) (net.Conn, error) {
	proxy, err := p.forURL(&url.URL{Scheme: "https", Host: address})
	if err != nil {
		return nil, fmt.Errorf("failed to choose the proxy for %s: %w", address, err)
	}
	if proxy == nil {
		return newDialer().DialContext(ctx, "tcp", address)
	}
	conn, err := newDialer().DialContext(ctx, "tcp", hostPort(proxy))
	if err != nil {
		return nil, fmt.Errorf("failed to connect to the proxy %s: %w", proxy.Host, err)
	}
	tunnel, err := connect(ctx, conn, proxy, address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("failed to connect to %s through the proxy %s: %w", address,
			proxy.Host, err), conn.Close())
	}
	return tunnel, nil
}

// Address returns the host:port of the proxy with a URL.
func Address(proxy string) (string, error) {
	u, err := url.Parse(proxy)
	if err != nil {
		return "", errors.New("it is not a URL")
	}
	return hostPort(u), nil
}

// hostPort returns the address of a proxy.
func hostPort(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// connectTimeout limits a proxy's answer to CONNECT.
const connectTimeout = 10 * time.Second

// connect opens a tunnel through a proxy with the method CONNECT.
func connect(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	if proxy.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address,
		Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+
			base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", response.Status)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return &tunnel{Conn: conn, reader: reader}, nil
}

// tunnel is a connection whose first bytes may have arrived with the proxy's answer.
type tunnel struct {
	net.Conn
	reader *bufio.Reader
}

func (t *tunnel) Read(b []byte) (int, error) { return t.reader.Read(b) }
