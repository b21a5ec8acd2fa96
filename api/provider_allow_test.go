package api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// Only what a provider asks for can be approved. A registration takes the approval away.
func TestAllowProvider(t *testing.T) {
	p := newParty(t)
	body := strings.Replace(string(vector(t, "provider_register.request.json")), `"metadata": {`,
		`"metadata": {"allow": {"root": true}, `, 1)
	require.Contains(t, body, "allow")
	register := func() { p.good(post(bfia.PathProviderRegister, body)) }
	allowed := func() bfia.Exceptions {
		var list []struct {
			Allowed bfia.Exceptions `json:"allowed"`
		}
		p.good(get(bfia.PathProviderQuery)).into(&list)
		require.Len(t, list, 1)
		return list[0].Allowed
	}
	register()
	require.Equal(t, "none", allowed().String())

	p.good(post(bfia.PathProviderAllow, `{"provider_name":"unionpay:2.0.0","allow":{"root":true}}`))
	require.Equal(t, "root", allowed().String())
	p.good(post(bfia.PathProviderAllow, `{"provider_name":"unionpay:2.0.0@docker","allow":{}}`))
	require.Equal(t, "none", allowed().String())
	p.good(post(bfia.PathProviderAllow, `{"name":"unionpay","version":"2.0.0","allow":{"root":true}}`))
	register()
	require.Equal(t, "none", allowed().String())

	p.bad(post(bfia.PathProviderAllow, `{"provider_name":"unionpay:2.0.0","allow":{"writable":true}}`), 400,
		bfia.CodeBadRequest, "does not ask for writable; it asks for root")
	p.bad(post(bfia.PathProviderAllow, `{"provider_name":"unionpay:2.0.0","allow":{"privileged":true}}`), 400,
		bfia.CodeBadRequest, "allow.privileged: is not an exception")
	p.bad(post(bfia.PathProviderAllow, `{"provider_name":"unionpay","allow":{}}`), 400, bfia.CodeBadRequest,
		"provider_name: is required, as name:version")
	p.bad(post(bfia.PathProviderAllow, `{"provider_name":"unionpay:2.0.0"}`), 400, bfia.CodeBadRequest,
		"allow: is required")
	p.bad(post(bfia.PathProviderAllow, `{"provider_name":"unionpay:9","allow":{}}`), 404, bfia.CodeNotFound,
		"provider unionpay:9 is not registered")
	require.Equal(t, "none", allowed().String())
}
