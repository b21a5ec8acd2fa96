package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/transport/status"
)

const mib = 1 << 20

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// eventually waits for a state that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, time.Millisecond, what)
}

// newBrokerWithSession returns a broker with one open session.
func newBrokerWithSession(t *testing.T, limits Limits) (*Broker, *Session) {
	t.Helper()
	b := newBroker(t, limits)
	s, err := b.Enter("session_1")
	require.NoError(t, err)
	// The synctest bubble must end without timers of sessions.
	t.Cleanup(b.Stop)
	return b, s
}

// newBroker returns a broker with a spool of its own.
func newBroker(t testing.TB, limits Limits) *Broker {
	t.Helper()
	b, err := Open(Config{Dir: t.TempDir(), Limits: limits, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// read returns a delivery's message.
func read(t testing.TB, d *Delivery) string {
	t.Helper()
	r, err := d.Open()
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

// push allocates n bytes, for which it waits until ctx ends, and pushes text.
func push(ctx context.Context, s *Session, topic, id, text string, n int64) error {
	h, err := s.Allocate(ctx, Inbound, n, "")
	if err != nil {
		return err
	}
	c := s.b.NewBody(max(n, int64(len(text))), -1)
	if _, err = c.Write([]byte(text)); err == nil {
		_, err = s.Push(topic, id, c, h)
	}
	return err
}

func mustPush(t *testing.T, s *Session, topic, id, text string) {
	t.Helper()
	require.NoError(t, push(t.Context(), s, topic, id, text, int64(len(text))))
}

// popAndAck pops a message and acknowledges it.
func popAndAck(t *testing.T, s *Session, topic string) string {
	t.Helper()
	d, err := s.Pop(t.Context(), topic, "", time.Minute)
	require.NoError(t, err)
	text := read(t, d)
	d.Ack()
	return text
}

func requireCode(t *testing.T, code status.Code, err error) {
	t.Helper()
	e, ok := errors.AsType[*status.Error](err)
	require.True(t, ok, "not a refusal: %v", err)
	require.Equal(t, code, e.Code, e.Message)
}

// TestPopTimesOut checks the refusal of a pop without a message, and its time.
func TestPopTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{})
		defer b.Stop()
		begin := time.Now()
		_, err := s.Pop(t.Context(), "x", "", 10*time.Hour)
		requireCode(t, status.Timeout, err)
		require.Equal(t, 10*time.Hour, time.Since(begin))
		require.Empty(t, s.queues, "a reader alone leaves no queue")
		require.Zero(t, b.used)
	})
}

// TestWaitingPopGetsMessageAtOnce checks that a push wakes a waiting pop.
func TestWaitingPopGetsMessageAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{})
		defer b.Stop()
		begin := time.Now()
		time.AfterFunc(9*time.Hour, func() { _ = push(context.Background(), s, "x", "", "m", 1) })
		d, err := s.Pop(t.Context(), "x", "", 10*time.Hour)
		require.NoError(t, err)
		d.Ack()
		require.Equal(t, 9*time.Hour, time.Since(begin))
	})
}

// TestReaderThatLeavesLosesNothing checks that a reader that leaves while it gets a message returns it, and
// that the next readers get the messages in order.
func TestReaderThatLeavesLosesNothing(t *testing.T) {
	_, s := newBrokerWithSession(t, Limits{})
	const messages = 2000
	ctx := t.Context()
	go func() {
		for i := range messages {
			if push(ctx, s, "x", "", fmt.Sprint(i), 8) != nil {
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
		d, err := s.Pop(ctx, "x", "", time.Minute)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			continue
		}
		require.Equal(t, fmt.Sprint(next), read(t, d))
		if i%3 == 0 {
			d.Requeue() // the answer could not be written
			continue
		}
		d.Ack()
		next++
	}
	require.Zero(t, s.in.used)
}

// TestOneReaderAtATime checks that the second reader waits until the first was answered.
func TestOneReaderAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{})
		defer b.Stop()
		mustPush(t, s, "x", "", "first")
		mustPush(t, s, "x", "", "second")
		d, err := s.Pop(t.Context(), "x", "", time.Minute)
		require.NoError(t, err)

		got := make(chan string)
		go func() { got <- popAndAck(t, s, "x") }()
		synctest.Wait() // the second reader waits
		d.Requeue()
		require.Equal(t, "first", <-got)
		require.Equal(t, "second", popAndAck(t, s, "x"))
	})
}

// TestPeek checks peeks of an empty queue, of one with messages, and during a delivery.
func TestPeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{})
		defer b.Stop()
		d, err := s.Peek(t.Context(), "x", "")
		require.NoError(t, err)
		require.Nil(t, d)

		mustPush(t, s, "x", "", "first")
		mustPush(t, s, "x", "", "second")
		first, err := s.Peek(t.Context(), "x", "")
		require.NoError(t, err)
		require.Equal(t, "first", read(t, first))

		// While the first reader is being answered, a peek waits.
		got := make(chan *Delivery)
		go func() {
			d, _ := s.Peek(context.Background(), "x", "")
			got <- d
		}()
		synctest.Wait()
		first.Ack()
		second := <-got
		require.Equal(t, "second", read(t, second))

		// Nothing is unread: a peek returns nil, whatever happens to the second message.
		d, err = s.Peek(t.Context(), "x", "")
		require.NoError(t, err)
		require.Nil(t, d)
		second.Ack()
	})
}

// TestDuplicates checks that a repeated id is dropped, also after its message was read.
func TestDuplicates(t *testing.T) {
	b, s := newBrokerWithSession(t, Limits{})
	mustPush(t, s, "x", "id-1", "m")
	mustPush(t, s, "x", "id-1", "again")
	mustPush(t, s, "y", "id-1", "other topic")
	require.Equal(t, "m", popAndAck(t, s, "x"))
	mustPush(t, s, "x", "id-1", "again, after it was read")
	require.Equal(t, "other topic", popAndAck(t, s, "y"))
	require.NoError(t, s.ClearTopic(""))
	mustPush(t, s, "x", "id-1", "again, after the release of the topic")
	require.Zero(t, s.queues["x"].unread())
	require.EqualValues(t, 3, b.counters.duplicates)
	require.Zero(t, s.in.used, "dropped messages hold no bytes")

	// The window of ids is bounded: the oldest are dropped first.
	for i := range 10 * idWindow {
		mustPush(t, s, "x", fmt.Sprint("more-", i), "m")
		popAndAck(t, s, "x")
	}
	require.Len(t, s.queues["x"].seen, idWindow)
	mustPush(t, s, "x", fmt.Sprint("more-", 10*idWindow-1), "m")
	require.Zero(t, s.queues["x"].unread())
}

// TestBackPressure checks that pushes wait for the budget, in order.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{SessionBytes: mib, TotalBytes: 1 << 30})
		defer b.Stop()
		for range 3 {
			require.NoError(t, push(t.Context(), s, "x", "", "m", mib/4))
		}
		// The budget is full: the push waits, and is then refused.
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		requireCode(t, status.BufferFull, push(ctx, s, "x", "", "m", mib/4))
		require.Equal(t, time.Minute, time.Since(begin))

		// Bytes are released: the push continues at once. A smaller push after it keeps its position.
		order := make(chan string, 2)
		go func() {
			_ = push(context.Background(), s, "x", "", "large", mib/4)
			order <- "large"
		}()
		synctest.Wait()
		go func() {
			_ = push(context.Background(), s, "y", "", "small", 1)
			order <- "small"
		}()
		synctest.Wait()
		require.Equal(t, 2, b.waiting)
		popAndAck(t, s, "x")
		synctest.Wait()
		require.ElementsMatch(t, []string{"large", "small"}, []string{<-order, <-order})
		require.Equal(t, "m", popAndAck(t, s, "x"))
		require.Equal(t, "m", popAndAck(t, s, "x"))
		require.Equal(t, "large", popAndAck(t, s, "x"))
		require.Equal(t, "small", popAndAck(t, s, "y"))
		require.LessOrEqual(t, b.peak, int64(mib+2*TopicOverhead))
	})
}

// TestWriterThatLeavesUnblocksNext checks that a writer that stops waiting does not block those after it.
func TestWriterThatLeavesUnblocksNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{SessionBytes: mib, TotalBytes: 1 << 30})
		defer b.Stop()
		require.NoError(t, push(t.Context(), s, "x", "", "m", mib*3/4))
		ctx, cancel := context.WithCancel(t.Context())
		large, small := make(chan error, 1), make(chan error, 1)
		go func() { large <- push(ctx, s, "x", "", "large", mib/2) }()
		synctest.Wait()
		go func() { small <- push(context.Background(), s, "x", "", "small", 1) }()
		synctest.Wait()
		require.Empty(t, small)
		cancel()
		synctest.Wait()
		require.ErrorIs(t, <-large, context.Canceled)
		require.NoError(t, <-small)
	})
}

// TestStuckSessionsBlockNobody checks that stuck sessions leave bytes for the next session, and that a
// session with a full inbox can send.
func TestStuckSessionsBlockNobody(t *testing.T) {
	b := newBroker(t, Limits{SessionBytes: 256 * mib, TotalBytes: 1024 * mib})
	defer b.Stop()
	full, cancel := context.WithCancel(t.Context())
	cancel() // a push that would have to wait fails at once
	for i := range 8 {
		s, err := b.Enter(fmt.Sprint("stuck-", i))
		require.NoError(t, err)
		messages := 0
		for push(full, s, "x", "", "m", mib/2) == nil {
			messages++
		}
		require.NotZero(t, messages, "session %d got no bytes", i)
		_, err = s.Allocate(full, Outbound, mib/4, "")
		require.NoError(t, err, "session %d can't send", i)
	}
	require.LessOrEqual(t, b.peak, int64(1024*mib))
}

// TestReleaseSession checks that a release wakes readers and writers and refuses later calls.
func TestReleaseSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{SessionBytes: mib})
		defer b.Stop()
		require.NoError(t, push(t.Context(), s, "full", "", "m", mib*3/4))
		reader, writer := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := s.Pop(context.Background(), "x", "", time.Hour)
			reader <- err
		}()
		go func() { writer <- push(context.Background(), s, "full", "", "m", mib/2) }()
		d, err := s.Pop(t.Context(), "full", "", time.Hour)
		require.NoError(t, err)
		synctest.Wait()

		b.ReleaseSession("session_1")
		requireCode(t, status.SessionReleased, <-reader)
		requireCode(t, status.SessionReleased, <-writer)
		requireCode(t, status.SessionReleased, context.Cause(s.ctx))
		d.Requeue() // a message requeued in a released session is dropped
		require.Zero(t, b.used)
		s.Leave()

		_, err = b.Enter("session_1")
		requireCode(t, status.SessionReleased, err)
		b.ReleaseSession("unknown")
		_, err = b.Enter("unknown")
		requireCode(t, status.SessionReleased, err)
	})
}

// TestClearTopicKeepsSession checks that a session stays usable after its topics were cleared.
func TestClearTopicKeepsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{})
		defer b.Stop()
		mustPush(t, s, "x", "", "old")
		mustPush(t, s, "y", "", "kept")
		reader := make(chan error, 1)
		go func() {
			_, err := s.Pop(context.Background(), "z", "", time.Hour)
			reader <- err
		}()
		synctest.Wait()
		require.NoError(t, s.ClearTopic("x"))
		require.Empty(t, reader)
		mustPush(t, s, "x", "", "new")
		require.Equal(t, "new", popAndAck(t, s, "x"))
		require.Equal(t, "kept", popAndAck(t, s, "y"))

		// A message in delivery while its topic is released is not requeued.
		mustPush(t, s, "x", "", "old")
		d, err := s.Pop(t.Context(), "x", "", time.Hour)
		require.NoError(t, err)
		require.NoError(t, s.ClearTopic(""))
		requireCode(t, status.SessionReleased, <-reader)
		d.Requeue()
		mustPush(t, s, "x", "", "new")
		require.Equal(t, "new", popAndAck(t, s, "x"))
		require.Zero(t, b.used)
	})
}

// TestReleasedSessionsAreBounded checks that only the last released sessions are remembered.
func TestReleasedSessionsAreBounded(t *testing.T) {
	b := newBroker(t, Limits{ReleasedSessions: 3})
	for i := range 5 {
		b.ReleaseSession(fmt.Sprint(i))
		b.ReleaseSession(fmt.Sprint(i))
	}
	for i := range 5 {
		require.Equal(t, i >= 2, b.released.has(fmt.Sprint(i)), i)
	}
	require.Len(t, b.released.ids, 3)
}

// TestIdleSessionIsReleased checks that a session expires without calls, and not during one.
func TestIdleSessionIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBrokerWithSession(t, Limits{SessionTTL: time.Hour})
		defer b.Stop()
		mustPush(t, s, "x", "", "m")
		s.Leave()

		time.Sleep(50 * time.Minute)
		require.Equal(t, []string{"session_1"}, b.IdleSessions(50*time.Minute))
		require.Empty(t, b.IdleSessions(51*time.Minute))
		again, err := b.Enter("session_1")
		require.NoError(t, err)
		require.Same(t, s, again)
		require.Empty(t, b.IdleSessions(0), "a call uses it")
		// A call that lasts longer than the time to live keeps its session.
		_, err = s.Pop(t.Context(), "y", "", 5*time.Hour)
		requireCode(t, status.Timeout, err)
		s.Leave()

		time.Sleep(59 * time.Minute)
		synctest.Wait()
		b.mu.Lock()
		require.Contains(t, b.sessions, "session_1")
		b.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		_, err = b.Enter("session_1")
		requireCode(t, status.SessionReleased, err)
		require.Zero(t, b.used)
	})
}

// TestEmptySessionsAreDropped checks that sessions without messages use no memory.
func TestEmptySessionsAreDropped(t *testing.T) {
	b := newBroker(t, Limits{})
	for i := range 100 {
		s, err := b.Enter(fmt.Sprint(i))
		require.NoError(t, err)
		d, err := s.Peek(t.Context(), "x", "")
		require.NoError(t, err)
		require.Nil(t, d)
		_, err = s.Pop(t.Context(), "x", "", time.Nanosecond)
		requireCode(t, status.Timeout, err)
		s.Leave()
	}
	require.Empty(t, b.sessions)
	require.Zero(t, b.used)
}
