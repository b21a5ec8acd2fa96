package party

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serveBuckets serves an S3 server with TLS on which every bucket exists, and returns the file of its
// authority.
func serveBuckets(t *testing.T) (server *httptest.Server, caFile string) {
	t.Helper()
	server = httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: server.Certificate().Raw}), 0o600))
	return server, caFile
}

func TestStorageIsVerified(t *testing.T) {
	server, caFile := serveBuckets(t)
	cfg := Default()
	cfg.NodeID, cfg.DataDir = "A", t.TempDir()
	cfg.Storage.URL = Secret("s3://" + server.Listener.Addr().String() +
		"?username=u&password=p&bucket=bucket&secure=true")
	require.NoError(t, cfg.Complete())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := cfg.OpenStorage(ctx)
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	cfg.Storage.CAFile = caFile
	_, err = cfg.OpenStorage(ctx)
	require.NoError(t, err)
	cfg.Storage.CAFile = "/no/such/file"
	_, err = cfg.OpenStorage(ctx)
	require.ErrorContains(t, err, "storage.ca_file: ")
}

// TestDatabaseIsVerified connects to a server that speaks PostgreSQL's TLS handshake, and no further.
func TestDatabaseIsVerified(t *testing.T) {
	certificates, caFile := serveBuckets(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	started := make(chan struct{}, 100) // a client that trusts the server has sent its user name
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				request := make([]byte, 8)
				if _, err := io.ReadFull(c, request); err != nil {
					return
				}
				_, _ = c.Write([]byte("S"))
				secure := tls.Server(c, certificates.TLS)
				if n, err := secure.Read(make([]byte, 512)); err == nil && n > 0 {
					started <- struct{}{}
				}
			}()
		}
	}()

	open := func(address, file string) error {
		cfg := Default()
		cfg.NodeID, cfg.DataDir = "A", t.TempDir()
		cfg.Database.URL, cfg.Database.CAFile = Secret(address), file
		require.NoError(t, cfg.Complete())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		db, err := cfg.OpenDatabase(ctx)
		if err == nil {
			_ = db.Close()
		}
		return err
	}
	address := "postgres://u:p@" + l.Addr().String() + "/d?sslmode=verify-full"
	require.ErrorContains(t, open(address, ""), "certificate signed by unknown authority")
	require.Empty(t, started, "nothing was said to a server that is not verified")
	require.Error(t, open(address, caFile), "it hangs up")
	require.NotEmpty(t, started)
}
