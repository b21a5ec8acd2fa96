package restore

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/transport"
)

// TestFinishRefusesWhileTheTransportRuns checks that a restore is not finished while the party's only
// transport runs. Another program at its port does not count.
func TestFinishRefusesWhileTheTransportRuns(t *testing.T) {
	t.Parallel()
	tr, err := transport.New(transport.Config{NodeID: "A", Spool: t.TempDir(),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Route:  func(string) (string, bool) { return "", false }})
	require.NoError(t, err)
	defer func() { require.NoError(t, tr.Close(t.Context())) }()
	running := httptest.NewServer(tr.Handler())
	defer running.Close()
	s := &Services{Node: "A", Transport: running.Listener.Addr().String()}
	_, err = s.Finish(t.Context())
	require.ErrorContains(t, err, "because the transport at "+s.Transport+" runs: stop all processes")

	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	s.Transport = other.Listener.Addr().String()
	require.NoError(t, s.checkTransports(t.Context()))
	other.Close()
	require.NoError(t, s.checkTransports(t.Context()))
}
