package api

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHTTPSRequest checks that a TLS handshake is answered at once, in a way that clients understand.
func TestHTTPSRequest(t *testing.T) {
	p := newParty(t)
	begun := time.Now()
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: settings}}
	_, err := https.Get("https://" + p.address + "/healthz")
	require.ErrorIs(t, err, http.ErrSchemeMismatch)
	require.Less(t, time.Since(begun), 30*time.Second)
	p.good(get("/healthz"))
}
