package identity

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPrincipalCan(t *testing.T) {
	viewer := Principal{Kind: KindClient, Roles: []Role{Viewer}}
	assert.True(t, viewer.Can(Viewer))
	assert.False(t, viewer.Can(Operator))
	admin := Principal{Kind: KindClient, Roles: []Role{Admin}}
	for _, role := range Roles() {
		assert.True(t, admin.Can(role), role)
		assert.False(t, Principal{}.Can(role), role)
		assert.False(t, Principal{Kind: KindPartner, Roles: []Role{role}}.Can(role), "a partner has no roles")
	}
}

func TestContext(t *testing.T) {
	assert.Equal(t, Principal{}, From(t.Context()))
	p := Principal{Kind: KindPartner, Node: "B"}
	assert.Equal(t, p, From(With(t.Context(), p)))
	assert.Equal(t, "partner B", p.String())
}

func TestParseRoles(t *testing.T) {
	roles, err := ParseRoles("viewer, data,viewer")
	require.NoError(t, err)
	assert.Equal(t, []Role{Viewer, Data}, roles)
	_, err = ParseRoles("viewer,root")
	require.ErrorContains(t, err, `"root" is not a role`)
}
