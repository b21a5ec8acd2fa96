package store_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestUseNonce uses nonces through two connections, as two API processes do.
func TestUseNonce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, a, b := t.Context(), storetest.Open(t, address), storetest.Open(t, address)
		use := func(s *store.Store, node, nonce string) bool {
			first, err := s.UseNonce(ctx, node, nonce, "")
			require.NoError(t, err)
			return first
		}
		require.True(t, use(a, "JG01", "n1"))
		require.False(t, use(a, "JG01", "n1"))
		require.False(t, use(b, "JG01", "n1"), "at another process")
		require.True(t, use(b, "JG02", "n1"), "of another node")
		require.True(t, use(b, "JG01", "n2"))
		_, err := a.UseNonce(ctx, "JG01", "a\x00b", "")
		requireCode(t, bfia.CodeBadRequest, err)

		for _, c := range []struct {
			s        *store.Store
			request  string
			accepted bool
		}{{a, "r1", true}, {b, "r1", true}, {b, "r2", false}, {a, "", false}, {a, "r1", true}} {
			accepted, err := c.s.UseNonce(ctx, "JG01", "repeated", c.request)
			require.NoError(t, err)
			require.Equal(t, c.accepted, accepted, c.request)
		}

		var wins atomic.Int32
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				first, err := []*store.Store{a, b}[i%2].UseNonce(ctx, "JG01", "raced", "")
				if err == nil && first {
					wins.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, wins.Load())

		n, err := a.RemoveNonces(ctx, time.Minute)
		require.NoError(t, err)
		require.Zero(t, n)
		require.False(t, use(a, "JG01", "n1"))
		n, err = a.RemoveNonces(ctx, -time.Minute)
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.True(t, use(a, "JG01", "n1"))
	})
}
