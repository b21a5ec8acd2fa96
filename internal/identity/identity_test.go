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

	roles, err = ParseRoles("viewer@risk, data")
	require.NoError(t, err)
	assert.Equal(t, []Role{Viewer.In("risk"), Data}, roles)
	for text, want := range map[string]string{
		"admin@risk": "is about the whole party", "root@risk": "is not a role",
		"viewer@":     "is no name of a project",
		"viewer@Risk": "is no name of a project", "viewer@a@b": "is no name of a project",
	} {
		_, err := ParseRoles(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestProjectsWith(t *testing.T) {
	p := Principal{Kind: KindClient, Roles: []Role{Viewer.In("b"), Viewer.In("a"), Operator.In("a"), Logs}}
	for _, c := range []struct {
		roles    []Role
		projects []string
		all      bool
	}{
		{[]Role{Viewer}, []string{"a", "b"}, false},
		{[]Role{Operator}, []string{"a"}, false},
		{[]Role{Approver, Operator}, []string{"a"}, false},
		{[]Role{Logs}, nil, true},
		{[]Role{Viewer, Logs}, nil, true},
		{[]Role{Data}, nil, false},
	} {
		projects, all := p.ProjectsWith(c.roles...)
		assert.Equal(t, c.projects, projects, c.roles)
		assert.Equal(t, c.all, all, c.roles)
	}
	assert.False(t, p.Can(Viewer), "a role in one project is none in all")
	assert.True(t, p.CanSomewhere(Viewer))
	p.Kind = KindPartner
	_, all := p.ProjectsWith(Logs)
	assert.False(t, all, "a partner has no roles")
}
