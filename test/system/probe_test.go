package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// probe runs `hutong job probe` at the guest.
func (pair *partyPair) probe(args ...string) (out string, err error) {
	return pair.guest.probe(args...)
}

// probe runs `hutong job probe` at a party.
func (n *testParty) probe(args ...string) (out string, err error) {
	n.t.Helper()
	return n.hutong(append([]string{"job", "probe"}, args...)...)
}

// registerReference registers the reference provider, with the image that [dockerClient] has loaded.
func (pair *partyPair) registerReference(device bfia.Device) {
	registration, err := os.ReadFile(
		filepath.Join(testenv.Root(pair.t), "providers", "reference", "provider.json"),
	)
	require.NoError(pair.t, err)
	registration = editJSON(pair.t, registration, func(fields map[string]any) {
		fields["metadata"] = map[string]any{"image": referenceImage}
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(registration, device)
	}
}

// TestProbe probes two healthy parties.
func TestProbe(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.start()
	pair.host.start()
	out, err := pair.probe(hostNode)
	require.Error(t, err)
	require.Contains(t, out, `provider: "hutong" is not registered`, "the missing provider is named")
	pair.registerReference(bfia.DeviceProcess)
	out, err = pair.probe(hostNode)
	require.NoError(t, err, out)
	require.Regexp(t, `transport_to +host\.0 `+hostNode+` +ok`, out)
	require.Regexp(t, `transport_from +host\.0 `+hostNode+` +ok`, out)
	out, err = pair.probe("JG0199999900000000")
	require.Error(t, err)
	require.Contains(t, out, "the route table has no node JG0199999900000000")
}

// TestProbeFindsUnreachableTransport has a guest whose route to the host's transport leads to a closed port.
func TestProbeFindsUnreachableTransport(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(c *party.Config) {
		if route, ok := c.Routes[hostNode]; ok {
			route.TransportURL = "https://" + testenv.FreeAddress(t)
			c.Routes[hostNode] = route
		}
	})
	pair.guest.start()
	pair.host.start()
	pair.registerReference(bfia.DeviceProcess)
	out, err := pair.probe(hostNode, "--timeout", "5s")
	require.Error(t, err)
	require.Regexp(t, `transport_to +host\.0 `+hostNode+` +FAILED`, out)
	require.Regexp(t, `storage +this party +ok`, out)
}
