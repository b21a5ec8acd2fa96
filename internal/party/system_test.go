package party

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"hutong/bfia"
)

// TestSystem checks the addresses that containers get, with the API on the same machine and with an
// advertised API.
func TestSystem(t *testing.T) {
	cfg := Default()
	p := &Party{cfg: cfg}
	addresses := func(device bfia.Device) (callback, channel string) {
		s := p.system(string(device), "run")
		return s.Callback, s.Transport
	}
	callback, channel := addresses(bfia.DeviceDocker)
	assert.Equal(t, "http://hutong:9381"+bfia.PathPlatformCallback, callback)
	assert.Equal(t, "hutong:9390", channel)
	callback, channel = addresses(bfia.DeviceProcess)
	assert.Equal(t, "http://127.0.0.1:9381"+bfia.PathPlatformCallback, callback)
	assert.Equal(t, "127.0.0.1:9390", channel)
	cfg.Advertise, cfg.Transport.Advertise = "api.bank:80", "channel.bank:81"
	for _, device := range []bfia.Device{bfia.DeviceDocker, bfia.DeviceProcess} {
		callback, channel = addresses(device)
		assert.Equal(t, "http://api.bank:80"+bfia.PathPlatformCallback, callback)
		assert.Equal(t, "channel.bank:81", channel)
	}
}
