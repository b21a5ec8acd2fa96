package limits

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/identity"
)

// wait counts a message in the background. Its result comes when the wait has ended.
func wait(ctx context.Context, l *Limiter, p identity.Principal, session string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := l.Wait(ctx, p, session, 0)
		done <- err
	}()
	synctest.Wait() // until it is in the queue
	return done
}

// TestWait serves messages at the rate, round robin, while another caller and the requests of the same one
// do not wait.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Requests: 10, Burst: 2})
		began := time.Now()
		for range 2 {
			waited, err := l.Wait(t.Context(), partnerB, "a", 0)
			require.NoError(t, err)
			require.False(t, waited, "within the burst")
		}
		var mu sync.Mutex
		var order []string
		var messages sync.WaitGroup
		for _, m := range []struct{ session, name string }{{"a", "a1"}, {"a", "a2"}, {"a", "a3"},
			{"b", "b1"}, {"c", "c1"}, {"b", "b2"}} {
			messages.Go(func() {
				waited, err := l.Wait(t.Context(), partnerB, m.session, 0)
				mu.Lock()
				defer mu.Unlock()
				assert.NoError(t, err)
				assert.True(t, waited)
				order = append(order, fmt.Sprintf("%s after %s", m.name, time.Since(began)))
			})
			synctest.Wait()
		}
		_, err := l.Wait(t.Context(), partnerC, "a", 0)
		require.NoError(t, err)
		require.NoError(t, l.Request(partnerB))
		for range 100 {
			_, err := l.Wait(t.Context(), own, "a", 0)
			require.NoError(t, err)
		}
		require.Zero(t, time.Since(began))
		messages.Wait()
		assert.Equal(t, []string{"a1 after 100ms", "b1 after 200ms", "c1 after 300ms", "a2 after 400ms",
			"b2 after 500ms", "a3 after 600ms"}, order)

		time.Sleep(time.Hour)
		for range 2 {
			waited, err := l.Wait(t.Context(), partnerB, "a", 0)
			require.NoError(t, err)
			require.False(t, waited, "the burst is full again")
		}
	})
}

// TestSharesAreEqual has 63 sessions send a message after the other, and one 20 at the same time, as fast as
// the rate serves them. All sessions are served equally often.
func TestSharesAreEqual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, rate, burst, duration = 64, 500, 1, 10 * time.Second
		l := New(Config{Requests: rate, Burst: burst})
		_, err := l.Wait(t.Context(), partnerB, "first", 0)
		require.NoError(t, err)
		began := time.Now()
		var counts [sessions]atomic.Int64
		var group sync.WaitGroup
		send := func(i int) {
			group.Go(func() {
				for {
					_, err := l.Wait(t.Context(), partnerB, fmt.Sprint(i), 0)
					assert.NoError(t, err)
					if time.Since(began) > duration {
						return
					}
					counts[i].Add(1)
				}
			})
		}
		for i := range sessions {
			send(i)
		}
		for range 19 {
			send(0) // is greedy
		}
		group.Wait()
		var all []int64
		var total int64
		for i := range counts {
			all = append(all, counts[i].Load())
			total += counts[i].Load()
		}
		assert.EqualValues(t, rate*duration.Seconds(), total)
		assert.LessOrEqual(t, slices.Max(all)-slices.Min(all), int64(1), "%v", all)
	})
}

// TestWaitIsBounded refuses messages that would wait too long, or that have.
func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Requests: 2, Burst: 1})
		serve := func() {
			t.Helper()
			_, err := l.Wait(t.Context(), partnerB, "a", 0)
			require.NoError(t, err)
		}
		serve()
		// Eight are served within maxDelay. Of one session half of them may wait.
		var greedy []<-chan error
		for range 4 {
			greedy = append(greedy, wait(t.Context(), l, partnerB, "greedy"))
		}
		began := time.Now()
		waited, err := l.Wait(t.Context(), partnerB, "greedy", 0)
		require.False(t, waited)
		e := exceeded(t, err)
		assert.Equal(t, 2500*time.Millisecond, e.After)
		assert.Equal(t, 3, e.Seconds())
		require.EqualError(t, e, "too many messages of partner B, of which 4 wait "+
			"(limits.requests_per_second of this party); try again in 3s")
		require.Zero(t, time.Since(began))

		// One that its caller does not give the time.
		_, err = l.Wait(t.Context(), partnerB, "hasty", 300*time.Millisecond)
		exceeded(t, err)
		assert.Equal(t, 300*time.Millisecond, time.Since(began))
		for _, done := range greedy {
			require.NoError(t, <-done)
		}
		assert.Equal(t, 2*time.Second, time.Since(began), "what was refused used nothing up")

		// A session whose last message others overtake for too long.
		time.Sleep(time.Minute)
		serve()
		greedy = nil
		for range 4 {
			greedy = append(greedy, wait(t.Context(), l, partnerB, "greedy"))
		}
		began = time.Now()
		var modest []<-chan error
		for range 3 {
			for _, done := range modest {
				require.NoError(t, <-done)
			}
			modest = nil
			for i := range 3 {
				modest = append(modest, wait(t.Context(), l, partnerB, fmt.Sprint("modest ", i)))
			}
		}
		refused := 0
		for _, done := range greedy {
			if err := <-done; err != nil {
				exceeded(t, err)
				refused++
			}
		}
		assert.Equal(t, maxWait, time.Since(began))
		assert.Equal(t, 1, refused)
		for _, done := range modest {
			require.NoError(t, <-done)
		}
		assert.Zero(t, l.callers["partner B"].waiting.length)

		// A rate at which the next one would wait too long.
		l = New(Config{Requests: 0.1, Burst: 1})
		serve()
		began = time.Now()
		_, err = l.Wait(t.Context(), partnerB, "a", 0)
		assert.Equal(t, 10*time.Second, exceeded(t, err).After)
		assert.Zero(t, time.Since(began))
	})
}

// TestManyMessagesWait fills the queue of a fast partner. Further messages are refused, those of another
// partner are not.
func TestManyMessagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Requests: 1000, Burst: 1})
		for _, p := range []identity.Principal{partnerB, partnerC} {
			_, err := l.Wait(t.Context(), p, "a", 0)
			require.NoError(t, err)
		}
		var all []<-chan error
		for i := range MaxWaiting {
			all = append(all, wait(t.Context(), l, partnerB, fmt.Sprint(i)))
		}
		began := time.Now()
		_, err := l.Wait(t.Context(), partnerB, "another", 0)
		assert.Equal(t, (MaxWaiting+1)*time.Millisecond, exceeded(t, err).After)
		_, err = l.Wait(t.Context(), partnerC, "a", 0)
		require.NoError(t, err)
		assert.Equal(t, time.Millisecond, time.Since(began))
		for _, done := range all {
			require.NoError(t, <-done)
		}
		assert.Equal(t, MaxWaiting*time.Millisecond, time.Since(began))
	})
}

// TestCancelledWait has callers leave the queue, whose places and whose share of the rate the others get.
func TestCancelledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Requests: 10, Burst: 1})
		_, err := l.Wait(t.Context(), partnerB, "a", 0)
		require.NoError(t, err)
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var leaving []<-chan error
		for range 20 {
			leaving = append(leaving, wait(ctx, l, partnerB, "leaving"))
		}
		staying := wait(t.Context(), l, partnerB, "staying")
		cancel()
		for _, done := range leaving {
			require.ErrorIs(t, <-done, context.Canceled)
		}
		require.Zero(t, time.Since(began))
		require.NoError(t, <-staying)
		assert.Equal(t, 100*time.Millisecond, time.Since(began))

		// All leave: the next one is not held up.
		ctx, cancel = context.WithCancel(t.Context())
		last := wait(ctx, l, partnerB, "leaving")
		cancel()
		require.ErrorIs(t, <-last, context.Canceled)
		time.Sleep(time.Second)
		waited, err := l.Wait(t.Context(), partnerB, "a", 0)
		require.NoError(t, err)
		require.False(t, waited)

		// One that leaves as it is admitted.
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		last = wait(ctx, l, partnerB, "leaving")
		next := wait(t.Context(), l, partnerB, "staying")
		if err := <-last; err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.NoError(t, <-next)
		assert.Zero(t, l.callers["partner B"].waiting.length)
	})
}

// TestPace has a stream send more messages than its partner's rate serves, and more than may wait. It is
// slowed down.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Requests: 0.1, Burst: 1}) // nothing may wait
		began := time.Now()
		waited, err := l.Pace(t.Context(), partnerB, "a")
		require.NoError(t, err)
		require.False(t, waited)
		for range 3 {
			waited, err = l.Pace(t.Context(), partnerB, "a")
			require.NoError(t, err)
			require.True(t, waited)
		}
		assert.Equal(t, 30*time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.Pace(ctx, partnerB, "a")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 31*time.Second, time.Since(began))
	})
}
