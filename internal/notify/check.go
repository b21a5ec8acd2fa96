package notify

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// Check connects to the receiver and verifies its certificate, or that of the mail server. It sends no
// message. dial opens connections to host:port.
func (n *Notifier) Check(ctx context.Context, r *Receiver,
	dial func(ctx context.Context, address string) (net.Conn, error)) error {
	if r.Webhook == nil {
		if n.Mailer == nil {
			return fmt.Errorf("failed to reach %s: no mail server is configured", r.Name)
		}
		return n.Mailer.Check(ctx)
	}
	return r.Webhook.check(ctx, dial)
}

func (w *Webhook) check(ctx context.Context,
	dial func(ctx context.Context, address string) (net.Conn, error)) error {
	u, err := url.Parse(w.URL)
	if err != nil {
		return fmt.Errorf("failed to read the URL of a webhook")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := dial(ctx, net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("failed to connect to %s: %w", u.Host, err)
	}
	defer func() { _ = conn.Close() }()
	if u.Scheme != "https" {
		return nil
	}
	verify := &tls.Config{MinVersion: tls.VersionTLS12}
	if t, ok := w.Client.Transport.(*http.Transport); ok && t.TLSClientConfig != nil {
		verify = t.TLSClientConfig.Clone()
	}
	verify.ServerName, verify.NextProtos = u.Hostname(), nil
	if err := tls.Client(conn, verify).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("failed to verify %s: %w", u.Host, err)
	}
	return nil
}
