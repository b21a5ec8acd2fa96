package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// probe runs `hutong job probe` at the guest.
func (w *partyPair) probe(args ...string) (out string, err error) {
	cmd := exec.CommandContext(
		w.t.Context(),
		testenv.Binary(w.t, "hutong"),
		append([]string{"--url", w.guest.url, "job", "probe"}, args...)...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func (w *partyPair) registerReference() {
	registration, err := os.ReadFile(
		filepath.Join(testenv.Root(w.t), "providers", "reference", "provider.json"),
	)
	require.NoError(w.t, err)
	for _, n := range []*testParty{w.guest, w.host} {
		n.register(registration, bfia.DeviceProcess)
	}
}

// TestProbe probes two healthy parties.
func TestProbe(t *testing.T) {
	t.Parallel()
	w := newPartyPair(t, nil)
	w.guest.start()
	w.host.start()
	out, err := w.probe(hostNode)
	require.Error(t, err)
	require.Contains(t, out, `provider: "hutong" is not registered`, "the missing provider is named")
	w.registerReference()
	out, err = w.probe(hostNode)
	require.NoError(t, err, out)
	require.Regexp(t, `transport_to +host\.0 `+hostNode+` +ok`, out)
	require.Regexp(t, `transport_from +host\.0 `+hostNode+` +ok`, out)
	out, err = w.probe("JG0199999900000000")
	require.Error(t, err)
	require.Contains(t, out, "the route table has no node JG0199999900000000")
}

// TestProbeFindsUnreachableTransport has a guest whose route to the host's transport leads to a closed port.
func TestProbeFindsUnreachableTransport(t *testing.T) {
	t.Parallel()
	w := newPartyPair(t, func(c *party.Config) {
		if route, ok := c.Routes[hostNode]; ok {
			route.TransportURL = "http://" + testenv.FreeAddress(t)
			c.Routes[hostNode] = route
		}
	})
	w.guest.start()
	w.host.start()
	w.registerReference()
	out, err := w.probe(hostNode, "--timeout", "5s")
	require.Error(t, err)
	require.Regexp(t, `transport_to +host\.0 `+hostNode+` +FAILED`, out)
	require.Regexp(t, `storage +this party +ok`, out)
}
