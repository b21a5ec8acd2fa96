package store_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/store/storetest"
)

// All who ask for a secret get the same one, also if nobody has made it before.
func TestSecret(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		s := storetest.Open(t, address)
		var all sync.WaitGroup
		values := make([][]byte, 8)
		for i := range values {
			all.Go(func() {
				var err error
				if values[i], err = s.Secret(t.Context(), "gate"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.Len(t, values[0], 32)
		for _, value := range values {
			require.Equal(t, values[0], value)
		}
		other, err := s.Secret(t.Context(), "other")
		require.NoError(t, err)
		require.NotEqual(t, values[0], other)
	})
}
