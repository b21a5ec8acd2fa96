package party

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/fateflow"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/store/storetest"
)

// TestCreateApp makes an app in the database, as 'hutong token create --app --direct' does, and signs a
// request with its token.
func TestCreateApp(t *testing.T) {
	address := storetest.SQLite(t)
	db := storetest.Open(t, address)
	cfg := &Config{NodeID: "A", Database: DatabaseConfig{URL: Secret(address)}}
	token, app, err := CreateApp(t.Context(), cfg, "flow", []identity.Role{identity.Viewer}, nil)
	require.NoError(t, err)
	rows, err := Tokens(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.True(t, rows[0].App)
	require.Equal(t, "the database", rows[0].CreatedBy)

	header := http.Header{}
	fateflow.App{ID: app.TokenID, Token: token}.SignClient(header, "", time.Now())
	p, err := clients.New(clients.Config{}, db).Authenticate(t.Context(), clients.Request{Header: header})
	require.NoError(t, err)
	require.Equal(t, "flow", p.Name)
	_, _, err = CreateApp(t.Context(), cfg, "flow", nil, nil)
	require.ErrorContains(t, err, "roles: is empty")
}
