package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mailServer is an SMTP server that requires a password if it has TLS.
type mailServer struct {
	mu       sync.Mutex
	received []string
	refuse   bool
	users    []string
}

func (s *mailServer) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{s}, nil }

type mailSession struct{ *mailServer }

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "p4ss" {
			return errors.New("wrong password")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.users = append(s.users, user)
		return nil
	}), nil
}

func (s *mailSession) Mail(string, *smtp.MailOptions) error {
	if s.refuse {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "try later"}
	}
	return nil
}
func (s *mailSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, string(text))
	return err
}
func (s *mailSession) Reset()        {}
func (s *mailSession) Logout() error { return nil }

// startMail starts the server and returns a mailer for it.
func startMail(t *testing.T, encryption Encryption) (*mailServer, *Mailer) {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS() // for its certificate
	t.Cleanup(certified.Close)
	backend := &mailServer{}
	server := smtp.NewServer(backend)
	server.Domain, server.AllowInsecureAuth = "localhost", false
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	config := &tls.Config{Certificates: certified.TLS.Certificates}
	address := l.Addr().String()
	switch encryption {
	case StartTLS:
		server.TLSConfig = config
	case TLS:
		l = tls.NewListener(l, config)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	m := &Mailer{Address: address, Encryption: encryption, From: "Hutong <h@bank.example>",
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}}
	if encryption != Plain {
		m.TLS = certified.Client().Transport.(*http.Transport).TLSClientConfig
		m.User, m.Password = "hutong", "p4ss"
	}
	return backend, m
}

// TestMail sends messages with each encryption, and checks their headers and text.
func TestMail(t *testing.T) {
	for _, encryption := range []Encryption{StartTLS, TLS, Plain} {
		t.Run(string(encryption), func(t *testing.T) {
			server, mailer := startMail(t, encryption)
			n := Notifier{Mailer: mailer, Receivers: []Receiver{{Name: "x", Language: Chinese,
				Email: []string{"zhang@bank.example", "Li <li@bank.example>"}}}}
			e := Event{Kind: JobFailed, NodeID: "A", JobID: "j1", Time: time.Now()}
			require.NoError(t, mailer.Check(t.Context()))
			require.Empty(t, server.received, "a check sends nothing")
			server.refuse = true
			_, err := n.Send(t.Context(), &n.Receivers[0], "ntf_1", e)
			require.ErrorContains(t, err, "try later")
			server.refuse = false
			answer, err := n.Send(t.Context(), &n.Receivers[0], "ntf_1", e)
			require.NoError(t, err)
			assert.Contains(t, answer, "accepted by "+mailer.Address)
			require.Len(t, server.received, 1)
			got, err := mail.ReadMessage(strings.NewReader(server.received[0]))
			require.NoError(t, err)
			assert.Equal(t, "<ntf_1@hutong>", got.Header.Get("Message-ID"))
			assert.Equal(t, "ntf_1", got.Header.Get("Hutong-Notification"))
			subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
			require.NoError(t, err)
			assert.Equal(t, "Hutong A：作业 j1 失败", subject)
			assert.Contains(t, got.Header.Get("To"), "zhang@bank.example")
			assert.Contains(t, got.Header.Get("Content-Type"), "text/plain; charset=UTF-8")
			if encryption != Plain {
				assert.Contains(t, server.users, "hutong")
				mailer.Password = "wr0ng"
				err = mailer.Check(t.Context())
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "wr0ng")
			}
		})
	}
}

// TestMailNeedsEncryption checks that a server without STARTTLS, or with an unknown certificate, gets
// nothing.
func TestMailNeedsEncryption(t *testing.T) {
	_, mailer := startMail(t, Plain)
	mailer.Encryption, mailer.User, mailer.Password = StartTLS, "hutong", "p4ss"
	require.ErrorContains(t, mailer.Check(t.Context()), "STARTTLS")
	for _, encryption := range []Encryption{StartTLS, TLS} {
		server, mailer := startMail(t, encryption)
		mailer.TLS = nil
		require.ErrorContains(t, mailer.Check(t.Context()), "certificate")
		require.Empty(t, server.users)
	}
}
