package party

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"

	"hutong/internal/codec"
	"hutong/internal/identity"
)

// TestStartCodec serves the codec endpoint of a party with open clients, on the loopback interface.
func TestStartCodec(t *testing.T) {
	address := freeAddress(t)
	cfg := Default()
	cfg.NodeID, cfg.DataDir, cfg.Security.Mode = "A", t.TempDir(), SecurityOpen
	cfg.Temporal.Codec = CodecConfig{Listen: address, Origins: []string{"http://127.0.0.1:8233"}}
	cfg.Limits.Requests, cfg.Limits.Burst = 0.1, 3
	require.NoError(t, cfg.Complete())
	quiet := slog.New(slog.DiscardHandler)
	_, err := StartCodec(t.Context(), cfg, quiet)
	require.ErrorContains(t, err, "temporal.encryption is off")
	cfg.Temporal.Encryption.KeysDir = filepath.Join(cfg.DataDir, "keys")
	_, err = codec.CreateKey(cfg.Temporal.Encryption.KeysDir, "k1", codec.SM4GCM)
	require.NoError(t, err)
	require.NoError(t, codec.UseKey(cfg.Temporal.Encryption.KeysDir, "k1"))
	cfg.Temporal.Codec.Listen = "0.0.0.0:0"
	_, err = StartCodec(t.Context(), cfg, quiet)
	require.ErrorContains(t, err, "requires tls.cert_file")
	cfg.Temporal.Codec.Listen = address
	p, err := StartCodec(t.Context(), cfg, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(context.WithoutCancel(t.Context())) })

	ring, err := cfg.OpenKeys(quiet)
	require.NoError(t, err)
	plain, err := converter.GetDefaultDataConverter().ToPayload("plain text")
	require.NoError(t, err)
	encrypted, err := ring.Codec().Encode([]*commonpb.Payload{plain})
	require.NoError(t, err)
	body, err := protojson.Marshal(&commonpb.Payloads{Payloads: encrypted})
	require.NoError(t, err)
	post := func(origin string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/decode",
			bytes.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", origin)
		response, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
		require.NoError(t, err)
		content, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode, string(content)
	}
	status, content := post("http://127.0.0.1:8233")
	require.Equal(t, http.StatusOK, status, content)
	require.Contains(t, content, "InBsYWluIHRleHQi", `"plain text" in base64`)
	status, _ = post("http://evil.example")
	assert.Equal(t, http.StatusForbidden, status)
	for range 5 {
		status, _ = post("http://127.0.0.1:8233")
	}
	assert.Equal(t, http.StatusTooManyRequests, status)
}

// TestStartCodecStrict has the codec endpoint ask for the tokens of the party, over TLS.
func TestStartCodecStrict(t *testing.T) {
	address := freeAddress(t)
	dir := t.TempDir()
	cfg := Default()
	cfg.NodeID, cfg.DataDir, cfg.Temporal.Codec.Listen = "A", dir, address
	cfg.Temporal.Encryption.KeysDir = filepath.Join(dir, "keys")
	_, err := codec.CreateKey(cfg.Temporal.Encryption.KeysDir, "k1", codec.AES256GCM)
	require.NoError(t, err)
	require.NoError(t, codec.UseKey(cfg.Temporal.Encryption.KeysDir, "k1"))
	server, caFile := serveBuckets(t) // for its certificate
	pair := server.TLS.Certificates[0]
	keyBytes, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	cfg.TLS.CertFile, cfg.TLS.KeyFile = caFile, filepath.Join(dir, "tls.key")
	require.NoError(t, os.WriteFile(cfg.TLS.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY",
		Bytes: keyBytes}), 0o600))
	require.NoError(t, cfg.Complete())
	require.NoError(t, Migrate(t.Context(), cfg))
	viewer, _, err := CreateToken(t.Context(), cfg, "alice", []identity.Role{identity.Viewer}, nil)
	require.NoError(t, err)
	uploader, _, err := CreateToken(t.Context(), cfg, "bob", []identity.Role{identity.Data}, nil)
	require.NoError(t, err)
	p, err := StartCodec(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(context.WithoutCancel(t.Context())) })

	for token, want := range map[string]int{"": 401, "ht_none": 401, uploader: 403, viewer: 200} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/decode",
			strings.NewReader(`{"payloads":[]}`))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := server.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, want, response.StatusCode, token)
	}
}
