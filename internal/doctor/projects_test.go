package doctor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/doctor"
	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/store"
	"hutong/store/storetest"
)

// TestUnknownProjects examines parties whose clients and receivers have projects that exist, and others that
// never did, or were removed.
func TestUnknownProjects(t *testing.T) {
	address := storetest.SQLite(t)
	ctx, db := t.Context(), storetest.Open(t, address)
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir, cfg.Database.URL = node, t.TempDir(), party.Secret(address)
	cfg.Listen, cfg.Transport.Listen, cfg.Temporal.Address = freeAddress(t), freeAddress(t), freeAddress(t)
	cfg.Runner.Docker.Enabled = party.SwitchOff
	for _, name := range []string{"risk", "gone"} {
		_, err := db.CreateProject(ctx, name, bfia.ProjectSettings{}, "admin")
		require.NoError(t, err)
	}
	require.NoError(t, cfg.Complete())
	checked := func() doctor.Check {
		for _, c := range doctor.Examine(ctx, cfg) { // without the rest of what these fields require
			if c.Name == "projects" {
				return c
			}
		}
		t.Fatal("no check of projects")
		return doctor.Check{}
	}
	past := time.Now().Add(-time.Hour)
	for _, token := range []store.Token{{TokenID: "t1", Roles: []string{"viewer@risk", "viewer@gone"}},
		{TokenID: "expired", Roles: []string{"viewer@gone"}, ExpiresAt: &past}} {
		token.Hash, token.Name = []byte(token.TokenID), "alice"
		require.NoError(t, db.CreateToken(ctx, token))
	}
	cfg.OIDC.Roles = party.RoleMap{"staff": {identity.Viewer, "operator@risk", "viewer@default"}}
	found := checked()
	assert.Equal(t, doctor.OK, found.State, found.Detail)

	require.NoError(t, db.RemoveProject(ctx, "gone"))
	cfg.OIDC.Roles["staff"] = append(cfg.OIDC.Roles["staff"], "operator@rsik")
	cfg.ClientCertificates = []party.ClientCertificate{{Subject: "bob", Roles: []identity.Role{"data@fraud"}}}
	cfg.Notifications.Receivers = []party.ReceiverConfig{{Name: "r", Projects: []string{"risk", "rsik"}}}
	found = checked()
	assert.Equal(t, doctor.Warning, found.State)
	assert.Equal(t, "these projects do not exist, so that nothing is seen or sent there: "+
		"rsik, in oidc.roles.staff (operator@rsik); fraud, in client_certificates[0].roles (data@fraud); "+
		"rsik, in notifications.receivers[0].projects[1]; gone, in token t1 of alice (viewer@gone)",
		found.Detail)
	assert.Contains(t, found.Fix, "hutong project create")
}
