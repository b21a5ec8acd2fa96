package party

import (
	"bytes"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/gate"
)

// TestSystem checks what containers get of the party: the gate, by the address at which their device reaches
// it, and no credentials of the party.
func TestSystem(t *testing.T) {
	keys, err := gate.NewKeys(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	cfg := Default()
	cfg.Storage.URL = "s3://s3.bank:9000?username=party&password=canary&bucket=b"
	cfg.Runner.K8s.Advertise = "worker.bank:9381"
	p := &Party{cfg: cfg, keys: keys}
	for device, address := range map[bfia.Device]string{bfia.DeviceDocker: "hutong:9381",
		bfia.DeviceProcess: "127.0.0.1:9381", bfia.DeviceKubernetes: "worker.bank:9381"} {
		s := p.system(string(device), "run-1")
		assert.Equal(t, address, s.Transport, device)
		token := s.Token
		if device == bfia.DeviceDocker {
			token = "" // the gate knows its address
		}
		assert.Equal(t, "http://"+address+gate.CallbackPath(token), s.Callback)
		storage, err := url.Parse(s.Storage)
		require.NoError(t, err)
		assert.Equal(t, address, storage.Host)
		assert.Equal(t, "run-1", storage.Query().Get("username"))
		assert.Equal(t, keys.StoragePassword("run-1"), storage.Query().Get("password"))
		assert.Equal(t, "b", storage.Query().Get("bucket"))
		assert.NotContains(t, s.Storage+s.Callback+s.Token, "canary")
		assert.NotEqual(t, s.Token, p.system(string(device), "run-2").Token)
	}
	cfg.Storage.Credentials = CredentialsShared
	assert.Equal(t, cfg.Storage.URL.Reveal(), p.system("docker", "run-1").Storage)
}
