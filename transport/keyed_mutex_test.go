package transport

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestKeyedMutex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mutex keyedMutex
		key := forwardKey{"s", "x", "B"}
		require.NoError(t, mutex.lock(t.Context(), key))
		require.NoError(t, mutex.lock(t.Context(), forwardKey{"s", "y", "B"}))
		order := make(chan int, 3)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 3 {
			go func() {
				ctx := ctx
				if i != 1 {
					ctx = context.Background()
				}
				if mutex.lock(ctx, key) != nil {
					return
				}
				order <- i
				mutex.unlock(key)
			}()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		require.Empty(t, order)
		mutex.unlock(key)
		synctest.Wait()
		require.Equal(t, []int{0, 2}, []int{<-order, <-order})
		mutex.unlock(forwardKey{"s", "y", "B"})
		require.Empty(t, mutex.waiting)
	})
}
