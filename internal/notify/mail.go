package notify

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
)

// Encryption chooses how a connection to the mail server is encrypted.
type Encryption string

// The kinds of encryption.
const (
	StartTLS Encryption = "starttls" // required: without it nothing is sent
	TLS      Encryption = "tls"      // from the first byte
	Plain    Encryption = "none"
)

// Mailer sends e-mail by one server.
type Mailer struct {
	// Address is the host:port of the server.
	Address    string
	Encryption Encryption
	// User and Password authenticate if User is not empty.
	User, Password string
	From           string
	// TLS verifies the server; nil trusts the authorities of the system.
	TLS *tls.Config
	// Dial opens connections to host:port.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// client returns a client for one connection.
func (m *Mailer) client() (*mail.Client, error) {
	host, text, err := net.SplitHostPort(m.Address)
	if err != nil {
		return nil, fmt.Errorf("failed to read the address of the mail server: %w", err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("failed to read the port of the mail server: %w", err)
	}
	verify := &tls.Config{MinVersion: tls.VersionTLS12}
	if m.TLS != nil {
		verify = m.TLS.Clone()
	}
	verify.ServerName = host
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(sendTimeout), mail.WithTLSConfig(verify),
		mail.WithDialContextFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := m.Dial(ctx, m.Address)
			if err != nil || m.Encryption != TLS {
				return conn, err
			}
			secure := tls.Client(conn, verify)
			if err := secure.HandshakeContext(ctx); err != nil {
				_ = conn.Close()
				return nil, err
			}
			return secure, nil
		})}
	policy := mail.NoTLS
	switch m.Encryption {
	case StartTLS:
		policy = mail.TLSMandatory
	case TLS:
		policy = mail.TLSOpportunistic // it makes the library look whether the connection is encrypted
	}
	options = append(options, mail.WithTLSPolicy(policy))
	if m.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.User),
			mail.WithPassword(m.Password))
	}
	c, err := mail.NewClient(host, options...)
	if err != nil {
		return nil, fmt.Errorf("failed to use the mail server %s: %w", m.Address, err)
	}
	return c, nil
}

// Check connects to the server and authenticates. It sends no message.
func (m *Mailer) Check(ctx context.Context) error {
	c, err := m.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := c.DialWithContext(ctx); err != nil {
		return fmt.Errorf("failed to connect to the mail server %s: %w", m.Address, err)
	}
	return c.Close()
}

// send sends one message. Its id is the Message-ID, so that a message that arrives twice can be recognised.
func (m *Mailer) send(ctx context.Context, to []string, id string, at time.Time, text Message,
) (string, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(m.From); err != nil {
		return "", fmt.Errorf("failed to use the sender %s: %w", m.From, err)
	}
	if err := msg.To(to...); err != nil {
		return "", fmt.Errorf("failed to use the addresses: %w", err)
	}
	msg.SetMessageIDWithValue(id + "@hutong")
	msg.SetDateWithValue(at)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // nobody's absence is answered
	msg.SetGenHeader("Hutong-Notification", id)
	msg.Subject(text.Subject)
	msg.SetBodyString(mail.TypeTextPlain, text.Text)

	c, err := m.client()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	// A connection that the server closes badly after it has taken the message is no failure.
	if err := c.DialAndSendWithContext(ctx, msg); err != nil && !msg.IsDelivered() {
		return "", fmt.Errorf("failed to send by the mail server %s: %w", m.Address, err)
	}
	answer := "accepted by " + m.Address
	if said := clip(msg.ServerResponse()); said != "" {
		answer += ": " + said
	}
	return answer, nil
}
