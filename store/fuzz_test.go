package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

// FuzzJobCursor checks that a cursor from a client is refused, or encodes to the same position.
func FuzzJobCursor(f *testing.F) {
	for _, s := range []string{"1795371336998000-202611221815369700790", "-1-x", "1-",
		"99999999999999999999-x", "", "1-\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := store.ParseJobCursor(s)
		if err != nil {
			require.Equal(t, bfia.CodeBadRequest, bfia.CodeOf(err))
			return
		}
		again, err := store.ParseJobCursor(c.String())
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}
