package bfia_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func TestParseExceptions(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{"root": "root", " writable , root": "root,writable",
		"none": "none", "root,root": "root"} {
		e, err := bfia.ParseExceptions(list)
		require.NoError(t, err, list)
		require.Equal(t, want, e.String(), list)
	}
	for _, list := range []string{"", "root,", "privileged", "none,root", "ROOT"} {
		_, err := bfia.ParseExceptions(list)
		require.ErrorContains(t, err, `is not an exception, must be "root" or "writable"`, list)
	}
}

func TestExceptionsInRegistration(t *testing.T) {
	t.Parallel()
	parse := func(allow string) (bfia.Metadata, error) {
		var m bfia.Metadata
		err := bfia.DecodeJSON([]byte(`{"image":"x","allow":`+allow+`}`), &m)
		return m, err
	}
	m, err := parse(`{"root":true,"writable":false}`)
	require.NoError(t, err)
	require.Equal(t, bfia.Exceptions{Root: true}, m.Allow)
	written, err := json.Marshal(m)
	require.NoError(t, err)
	require.Contains(t, string(written), `"allow":{"root":true}`)

	for allow, want := range map[string]string{
		`{"privileged":true}`: "privileged", `{"root":"yes"}`: "must be true or false",
		`["root"]`: "", `true`: ""} {
		_, err := parse(allow)
		require.ErrorContains(t, err, want, allow)
	}
}

func TestExceptionsBeyond(t *testing.T) {
	t.Parallel()
	none, root, both := bfia.Exceptions{}, bfia.Exceptions{Root: true}, bfia.Exceptions{Root: true,
		Writable: true}
	require.Equal(t, none, root.Beyond(both))
	require.Equal(t, bfia.Exceptions{Writable: true}, both.Beyond(root))
	require.Equal(t, root, root.Beyond(none))
	require.True(t, none.Equal(none))
	require.False(t, root.Equal(both))
}
