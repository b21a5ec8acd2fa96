package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const mib = 1 << 20

// bench is a broker with one open session.
func bench(t *testing.T, limits Limits) (*broker, *session) {
	t.Helper()
	b := spooled(t, limits.withDefaults())
	s, err := b.enter("session_1")
	require.NoError(t, err)
	// The synctest bubble must end without timers of sessions.
	t.Cleanup(b.close)
	return b, s
}

// spooled is a broker with a spool of its own.
func spooled(t testing.TB, limits Limits) *broker {
	t.Helper()
	sp, err := openSpool(t.TempDir(), quiet())
	require.NoError(t, err)
	t.Cleanup(sp.close)
	b, err := newBroker(sp, limits, quiet())
	require.NoError(t, err)
	return b
}

// read gives a delivery's message.
func read(t testing.TB, d *delivery) string {
	t.Helper()
	r, err := d.open()
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

// put pushes n bytes that begin with text; it waits for room until ctx ends.
func put(ctx context.Context, b *broker, s *session, topic, id, text string, n int64) error {
	h, err := b.reserve(ctx, &s.in, n)
	if err != nil {
		return err
	}
	c := b.spool.newContent(max(n, int64(len(text))))
	if _, err = c.Write([]byte(text)); err == nil {
		_, err = b.push(s, topic, id, c, h)
	}
	return err
}

func mustPut(t *testing.T, b *broker, s *session, topic, id, text string) {
	t.Helper()
	require.NoError(t, put(t.Context(), b, s, topic, id, text, int64(len(text))))
}

// get pops and confirms.
func get(t *testing.T, b *broker, s *session, topic string) string {
	t.Helper()
	d, err := b.pop(t.Context(), s, topic, "", time.Minute)
	require.NoError(t, err)
	text := read(t, d)
	d.done()
	return text
}

func requireCode(t *testing.T, code Code, err error) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	require.True(t, ok, "not a refusal: %v", err)
	require.Equal(t, code, e.Code, e.Message)
}

func TestPopTimesOutExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{})
		defer b.close()
		begin := time.Now()
		_, err := b.pop(t.Context(), s, "x", "", 10*time.Hour)
		requireCode(t, CodeTimeout, err)
		require.Equal(t, 10*time.Hour, time.Since(begin))
		require.Empty(t, s.queues, "a reader alone leaves no queue behind")
		require.Zero(t, b.used)
	})
}

func TestWaitingPopGetsMessageAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{})
		defer b.close()
		begin := time.Now()
		time.AfterFunc(9*time.Hour, func() { _ = put(context.Background(), b, s, "x", "", "m", 1) })
		d, err := b.pop(t.Context(), s, "x", "", 10*time.Hour)
		require.NoError(t, err)
		d.done()
		require.Equal(t, 9*time.Hour, time.Since(begin))
	})
}

// A reader that leaves at the moment it is given a message gives it back, and
// readers behind it get nothing out of order meanwhile.
func TestReaderThatLeavesLosesNothing(t *testing.T) {
	b, s := bench(t, Limits{})
	const messages = 2000
	ctx := t.Context()
	go func() {
		for i := range messages {
			if put(ctx, b, s, "x", "", fmt.Sprint(i), 8) != nil {
				return
			}
		}
	}()
	next := 0
	for i := 0; next < messages; i++ {
		ctx, cancel := context.WithCancel(t.Context())
		if i%2 == 0 {
			go cancel() // it races with the message
		}
		d, err := b.pop(ctx, s, "x", "", time.Minute)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			continue
		}
		require.Equal(t, fmt.Sprint(next), read(t, d))
		if i%3 == 0 {
			d.putBack() // the answer could not be written
			continue
		}
		d.done()
		next++
	}
	require.Zero(t, s.in.used)
}

func TestOneReaderAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{})
		defer b.close()
		mustPut(t, b, s, "x", "", "first")
		mustPut(t, b, s, "x", "", "second")
		d, err := b.pop(t.Context(), s, "x", "", time.Minute)
		require.NoError(t, err)

		got := make(chan string)
		go func() { got <- get(t, b, s, "x") }()
		synctest.Wait() // the second reader is in line
		d.putBack()
		require.Equal(t, "first", <-got)
		require.Equal(t, "second", get(t, b, s, "x"))
	})
}

func TestPeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{})
		defer b.close()
		d, err := b.peek(t.Context(), s, "x", "")
		require.NoError(t, err)
		require.Nil(t, d)

		mustPut(t, b, s, "x", "", "first")
		mustPut(t, b, s, "x", "", "second")
		first, err := b.peek(t.Context(), s, "x", "")
		require.NoError(t, err)
		require.Equal(t, "first", read(t, first))

		// While the first is being answered, a peek waits for its turn.
		got := make(chan *delivery)
		go func() {
			d, _ := b.peek(context.Background(), s, "x", "")
			got <- d
		}()
		synctest.Wait()
		first.done()
		second := <-got
		require.Equal(t, "second", read(t, second))

		// Nothing is unread: a peek says so, whatever becomes of the second.
		d, err = b.peek(t.Context(), s, "x", "")
		require.NoError(t, err)
		require.Nil(t, d)
		second.done()
	})
}

func TestDuplicates(t *testing.T) {
	b, s := bench(t, Limits{})
	mustPut(t, b, s, "x", "id-1", "m")
	mustPut(t, b, s, "x", "id-1", "again")
	mustPut(t, b, s, "y", "id-1", "other topic")
	require.Equal(t, "m", get(t, b, s, "x"))
	mustPut(t, b, s, "x", "id-1", "again, after it was read")
	require.Equal(t, "other topic", get(t, b, s, "y"))
	require.NoError(t, b.clearQueues(s, ""))
	mustPut(t, b, s, "x", "id-1", "again, after the release of the topic")
	require.Zero(t, s.queues["x"].unread())
	require.EqualValues(t, 3, b.counts.duplicates)
	require.Zero(t, s.in.used, "what was dropped holds no memory")

	// The memory of ids is bounded: the oldest go first.
	for i := range 10 * idWindow {
		mustPut(t, b, s, "x", fmt.Sprint("more-", i), "m")
		get(t, b, s, "x")
	}
	require.Len(t, s.queues["x"].seen, idWindow)
	mustPut(t, b, s, "x", fmt.Sprint("more-", 10*idWindow-1), "m")
	require.Zero(t, s.queues["x"].unread())
}

func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{SessionBytes: mib, TotalBytes: 1 << 30})
		defer b.close()
		for range 3 {
			require.NoError(t, put(t.Context(), b, s, "x", "", "m", mib/4))
		}
		// No room: it waits, then says so.
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		requireCode(t, CodeBufferFull, put(ctx, b, s, "x", "", "m", mib/4))
		require.Equal(t, time.Minute, time.Since(begin))

		// Room: it goes on at once. A smaller one behind it keeps its place.
		order := make(chan string, 2)
		go func() {
			_ = put(context.Background(), b, s, "x", "", "large", mib/4)
			order <- "large"
		}()
		synctest.Wait()
		go func() {
			_ = put(context.Background(), b, s, "y", "", "small", 1)
			order <- "small"
		}()
		synctest.Wait()
		require.Equal(t, 2, b.claims)
		get(t, b, s, "x")
		synctest.Wait()
		require.ElementsMatch(t, []string{"large", "small"}, []string{<-order, <-order})
		require.Equal(t, "m", get(t, b, s, "x"))
		require.Equal(t, "m", get(t, b, s, "x"))
		require.Equal(t, "large", get(t, b, s, "x"))
		require.Equal(t, "small", get(t, b, s, "y"))
		require.LessOrEqual(t, b.peak, int64(mib+2*queueOverhead))
	})
}

// A writer that leaves its place in line must not keep those behind it waiting.
func TestWriterThatLeavesMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{SessionBytes: mib, TotalBytes: 1 << 30})
		defer b.close()
		require.NoError(t, put(t.Context(), b, s, "x", "", "m", mib*3/4))
		ctx, cancel := context.WithCancel(t.Context())
		large, small := make(chan error, 1), make(chan error, 1)
		go func() { large <- put(ctx, b, s, "x", "", "large", mib/2) }()
		synctest.Wait()
		go func() { small <- put(context.Background(), b, s, "x", "", "small", 1) }()
		synctest.Wait()
		require.Empty(t, small)
		cancel()
		synctest.Wait()
		require.ErrorIs(t, <-large, context.Canceled)
		require.NoError(t, <-small)
	})
}

// Stuck sessions leave room for the next one, and sending has room when the
// inbox is full.
func TestStuckSessionsBlockNobody(t *testing.T) {
	b := spooled(t, Limits{SessionBytes: 256 * mib, TotalBytes: 1024 * mib}.withDefaults())
	defer b.close()
	full, cancel := context.WithCancel(t.Context())
	cancel() // a push that would have to wait fails at once
	for i := range 8 {
		s, err := b.enter(fmt.Sprint("stuck-", i))
		require.NoError(t, err)
		messages := 0
		for put(full, b, s, "x", "", "m", mib/2) == nil {
			messages++
		}
		require.NotZero(t, messages, "session %d found no room", i)
		_, err = b.reserve(full, &s.out, mib/4)
		require.NoError(t, err, "session %d can't send", i)
	}
	require.LessOrEqual(t, b.peak, int64(1024*mib))
}

func TestReleaseSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{SessionBytes: mib})
		defer b.close()
		require.NoError(t, put(t.Context(), b, s, "full", "", "m", mib*3/4))
		reader, writer := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := b.pop(context.Background(), s, "x", "", time.Hour)
			reader <- err
		}()
		go func() { writer <- put(context.Background(), b, s, "full", "", "m", mib/2) }()
		d, err := b.pop(t.Context(), s, "full", "", time.Hour)
		require.NoError(t, err)
		synctest.Wait()

		b.releaseSession("session_1")
		requireCode(t, CodeSessionReleased, <-reader)
		requireCode(t, CodeSessionReleased, <-writer)
		requireCode(t, CodeSessionReleased, context.Cause(s.ctx))
		d.putBack() // a message that comes back to a released session goes
		require.Zero(t, b.used)
		b.leave(s)

		_, err = b.enter("session_1")
		requireCode(t, CodeSessionReleased, err)
		b.releaseSession("never seen")
		_, err = b.enter("never seen")
		requireCode(t, CodeSessionReleased, err)
	})
}

func TestClearQueuesKeepsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{})
		defer b.close()
		mustPut(t, b, s, "x", "", "old")
		mustPut(t, b, s, "y", "", "kept")
		reader := make(chan error, 1)
		go func() {
			_, err := b.pop(context.Background(), s, "z", "", time.Hour)
			reader <- err
		}()
		synctest.Wait()
		require.NoError(t, b.clearQueues(s, "x"))
		require.Empty(t, reader)
		mustPut(t, b, s, "x", "", "new")
		require.Equal(t, "new", get(t, b, s, "x"))
		require.Equal(t, "kept", get(t, b, s, "y"))

		// A message that is being answered while its topic is released doesn't come back.
		mustPut(t, b, s, "x", "", "old")
		d, err := b.pop(t.Context(), s, "x", "", time.Hour)
		require.NoError(t, err)
		require.NoError(t, b.clearQueues(s, ""))
		requireCode(t, CodeSessionReleased, <-reader)
		d.putBack()
		mustPut(t, b, s, "x", "", "new")
		require.Equal(t, "new", get(t, b, s, "x"))
		require.Zero(t, b.used)
	})
}

func TestReleasedSessionsAreBounded(t *testing.T) {
	b := spooled(t, Limits{ReleasedSessions: 3}.withDefaults())
	for i := range 5 {
		b.releaseSession(fmt.Sprint(i))
		b.releaseSession(fmt.Sprint(i))
	}
	for i := range 5 {
		require.Equal(t, i >= 2, b.released.has(fmt.Sprint(i)), i)
	}
	require.Len(t, b.released.ids, 3)
}

func TestIdleSessionIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := bench(t, Limits{SessionTTL: time.Hour})
		defer b.close()
		mustPut(t, b, s, "x", "", "m")
		b.leave(s)

		time.Sleep(50 * time.Minute)
		again, err := b.enter("session_1")
		require.NoError(t, err)
		require.Same(t, s, again)
		// A call that lasts longer than the time to live keeps its session.
		_, err = b.pop(t.Context(), s, "y", "", 5*time.Hour)
		requireCode(t, CodeTimeout, err)
		b.leave(s)

		time.Sleep(59 * time.Minute)
		synctest.Wait()
		b.mu.Lock()
		require.Contains(t, b.sessions, "session_1")
		b.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		_, err = b.enter("session_1")
		requireCode(t, CodeSessionReleased, err)
		require.Zero(t, b.used)
	})
}

// Sessions that hold nothing cost nothing, however they are called.
func TestEmptySessionsAreForgotten(t *testing.T) {
	b := spooled(t, Limits{}.withDefaults())
	for i := range 100 {
		s, err := b.enter(fmt.Sprint(i))
		require.NoError(t, err)
		d, err := b.peek(t.Context(), s, "x", "")
		require.NoError(t, err)
		require.Nil(t, d)
		_, err = b.pop(t.Context(), s, "x", "", time.Nanosecond)
		requireCode(t, CodeTimeout, err)
		b.leave(s)
	}
	require.Empty(t, b.sessions)
	require.Zero(t, b.used)
}

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		l := lane{"s", "x", "B"}
		require.NoError(t, turns.take(t.Context(), l))
		require.NoError(t, turns.take(t.Context(), lane{"s", "y", "B"}))
		order := make(chan int, 3)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 3 {
			go func() {
				ctx := ctx
				if i != 1 {
					ctx = context.Background()
				}
				if turns.take(ctx, l) != nil {
					return
				}
				order <- i
				turns.leave(l)
			}()
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		require.Empty(t, order)
		turns.leave(l)
		synctest.Wait()
		require.Equal(t, []int{0, 2}, []int{<-order, <-order})
		turns.leave(lane{"s", "y", "B"})
		require.Empty(t, turns.lanes)
	})
}
