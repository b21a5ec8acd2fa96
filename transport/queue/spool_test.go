package queue

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/transport/status"
)

// restart opens a broker on a folder, as a new process does.
func restart(t testing.TB, dir string, limits Limits) *Broker {
	t.Helper()
	b, err := Open(Config{Dir: dir, Limits: limits, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { b.Stop(); b.Close() })
	return b
}

// crash leaves the folder as a killed process does.
func (b *Broker) crash() { b.spool.lock.Close() }

func enter(t testing.TB, b *Broker, session string) *Session {
	t.Helper()
	s, err := b.Enter(session)
	require.NoError(t, err)
	t.Cleanup(func() { s.Leave() })
	return s
}

func files(t testing.TB, dir string) (out []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); err == nil && !d.IsDir() && name != "lock" &&
			name != "released" && name != "volume" && name != "epoch" {
			out = append(out, name)
		}
		return err
	}))
	return out
}

// TestRestart checks that unread messages and known ids survive a crash, in order, and that the bytes of
// messages that were read are released.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	limits := Limits{SessionBytes: 64 * mib}
	b := restart(t, dir, limits)
	s := enter(t, b, "s")
	size := func(i int) int64 {
		if i%10 == 0 {
			return InlineBytes + int64(i)
		}
		return int64(i)
	}
	const n = 300
	for i := range n {
		text := fmt.Sprintf("%d|%s", i, strings.Repeat("x", int(size(i))))
		require.NoError(
			t,
			push(t.Context(), s, fmt.Sprint("topic-", i%3), fmt.Sprint("id-", i), text,
				int64(len(text))+MessageOverhead),
		)
	}
	next := [3]int{0, 1, 2}
	used := s.in.used
	for life := range 5 {
		for i := range 45 {
			got := popAndAck(t, s, fmt.Sprint("topic-", i%3))
			want, _, _ := strings.Cut(got, "|")
			require.Equal(t, fmt.Sprint(next[i%3]), want)
			next[i%3] += 3
		}
		require.Less(t, s.in.used, used)
		used = s.in.used
		if life%2 == 0 {
			b.crash()
		} else {
			b.Stop()
			b.Close()
		}
		b = restart(t, dir, limits)
		s = enter(t, b, "s")
		require.Equal(t, used, s.in.used, "unread messages are charged as before")
		mustPush(t, s, "topic-0", fmt.Sprint("id-", 297-3*life), "again")
		require.EqualValues(t, 1, b.counters.duplicates, "a retry after the crash")
	}
	for i := range 75 {
		popAndAck(t, s, fmt.Sprint("topic-", i%3))
	}
	require.Zero(t, s.in.used)
	for _, f := range files(t, dir) {
		require.NotContains(t, f, ".blob")
	}
	b.ReleaseSession("s")
	require.Empty(t, files(t, dir))
	b.crash()
	b = restart(t, dir, limits)
	_, err := b.Enter("s")
	requireCode(t, status.SessionReleased, err)
}

// TestRepeatedPop checks that a pop whose answer was lost, repeated with its id, gets the same message, also
// after a crash, and that any other reader gets the next one.
func TestRepeatedPop(t *testing.T) {
	for _, large := range []bool{false, true} {
		dir := t.TempDir()
		b := restart(t, dir, Limits{})
		s := enter(t, b, "s")
		crashAndRestart := func() {
			b.crash()
			b = restart(t, dir, Limits{})
			s = enter(t, b, "s")
		}
		text := func(i int) string {
			if large {
				return fmt.Sprint(i) + strings.Repeat("x", InlineBytes)
			}
			return fmt.Sprint(i)
		}
		for i := range 4 {
			mustPush(t, s, "x", "", text(i))
		}
		pop := func(id string) string {
			d, err := s.Pop(t.Context(), "x", id, time.Minute)
			require.NoError(t, err)
			defer d.Ack()
			require.NoError(t, d.Prepare())
			return read(t, d)
		}
		for range 2 {
			require.Equal(t, text(0), pop("p-0"))
			require.Equal(t, text(0), pop("p-0"))
			crashAndRestart()
		}
		require.Equal(t, text(1), pop("p-1"))
		require.Equal(t, text(1), pop("p-1"))
		require.Equal(t, text(2), pop(""))
		require.Nil(t, s.queues["x"].redeliverable, "a pop without an id is not repeated")
		require.Equal(t, text(3), pop("p-3"))
		crashAndRestart()
		require.Equal(t, text(3), pop("p-3"))

		// A message whose answer can't be written is for the next reader, also after a crash.
		mustPush(t, s, "x", "", text(4))
		for range 3 {
			d, err := s.Pop(t.Context(), "x", "p-4", time.Minute)
			require.NoError(t, err)
			require.NoError(t, d.Prepare())
			d.Requeue()
			crashAndRestart()
		}
		require.Equal(t, text(4), pop("p-5"))

		// A kill while the answer is written: the same pop gets it, and no other.
		mustPush(t, s, "x", "", text(6))
		mustPush(t, s, "x", "", text(7))
		d, err := s.Pop(t.Context(), "x", "p-6", time.Minute)
		require.NoError(t, err)
		require.NoError(t, d.Prepare())
		crashAndRestart()
		require.Equal(t, text(6), pop("p-6"))
		require.Equal(t, text(7), pop("p-7"))
		require.NoError(t, s.ClearTopic(""))
		b.crash()
		b = restart(t, dir, Limits{})
		require.Zero(t, b.used)
		require.Empty(t, files(t, dir), "the queue is empty and forgotten")
	}
}

// TestRepeatedPopReplacesReader checks that a repeated pop replaces the one whose connection was lost.
func TestRepeatedPopReplacesReader(t *testing.T) {
	b, s := newBrokerWithSession(t, Limits{})
	lost := make(chan error, 1)
	go func() {
		_, err := s.Pop(context.Background(), "x", "p", time.Hour)
		lost <- err
	}()
	eventually(t, "it waits", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return s.queues["x"] != nil && len(s.queues["x"].readers) == 1
	})
	got := make(chan *Delivery, 1)
	go func() {
		d, _ := s.Pop(context.Background(), "x", "p", time.Hour)
		got <- d
	}()
	requireCode(t, status.Timeout, <-lost)
	mustPush(t, s, "x", "", "m")
	d := <-got
	require.Equal(t, "m", read(t, d))
	d.Ack()
}

// TestLogsStaySmall checks that the log of a queue that is read stays small, however many messages pass
// through it.
func TestLogsStaySmall(t *testing.T) {
	dir := t.TempDir()
	b := restart(t, dir, Limits{})
	s := enter(t, b, "s")
	text := strings.Repeat("x", 60<<10)
	for i := range 200 {
		mustPush(t, s, "x", fmt.Sprint(i), text)
		mustPush(t, s, "y", "", text)
		if i >= 3 { // x always holds something
			popAndAck(t, s, "x")
		}
		popAndAck(t, s, "y")
	}
	var bytes int64
	for _, f := range files(t, dir) {
		info, err := os.Stat(filepath.Join(dir, f))
		require.NoError(t, err)
		bytes += info.Size()
	}
	require.Less(t, bytes, int64(3*segmentBytes))
	b.crash()
	b = restart(t, dir, Limits{})
	s = enter(t, b, "s")
	mustPush(t, s, "x", "199", "again")
	require.EqualValues(t, 1, b.counters.duplicates)
	for range 3 {
		require.Equal(t, text, popAndAck(t, s, "x"))
	}
}

// TestTornLog damages logs. The messages before the damage are recovered, and the queue stays usable.
func TestTornLog(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		dir := t.TempDir()
		b := restart(t, dir, Limits{})
		s := enter(t, b, "s")
		for i := range 10 {
			mustPush(t, s, "x", "", fmt.Sprint(i, strings.Repeat("x", rng.IntN(200))))
		}
		b.crash()
		path := filepath.Join(dir, files(t, dir)[0])
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		at := rng.IntN(len(data))
		if rng.IntN(2) == 0 {
			data = data[:at]
		} else {
			data[at] ^= 1 << rng.IntN(8)
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))

		b = restart(t, dir, Limits{})
		s = enter(t, b, "s")
		left := 0
		if q := s.queues["x"]; q != nil {
			left = q.unread()
		}
		require.Less(t, left, 10)
		mustPush(t, s, "x", "", "after")
		for i := range left {
			require.True(t, strings.HasPrefix(popAndAck(t, s, "x"), fmt.Sprint(i)))
		}
		b.crash()
		b = restart(t, dir, Limits{})
		require.Equal(t, "after", popAndAck(t, enter(t, b, "s"), "x"))
	}
}

// TestSpoolIsCleaned checks that Open removes files without a session, and that a folder has one broker at a
// time.
func TestSpoolIsCleaned(t *testing.T) {
	dir := t.TempDir()
	b := restart(t, dir, Limits{})
	s := enter(t, b, "s")
	mustPush(t, s, "x", "", "kept")
	mustPush(t, s, "y", "", strings.Repeat("x", InlineBytes+1))
	_, err := openSpool(dir, false, quiet())
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, "in use by another transport")
	volume := b.Volume()
	b.crash()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tmp", "7"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "1000.blob"), []byte("x"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "s2000"), 0o700))
	b = restart(t, dir, Limits{})
	require.Equal(t, volume, b.Volume(), "the folder keeps its id")
	require.Len(t, files(t, dir), 3, "two logs and a blob")
	require.Greater(t, b.spool.nextNumber(), int64(2000), "names are not reused")
	require.NoDirExists(t, filepath.Join(dir, "s2000"))
	// A truncated blob is logged, not delivered.
	b.crash()
	for _, f := range files(t, dir) {
		if strings.HasSuffix(f, ".blob") {
			require.NoError(t, os.Truncate(filepath.Join(dir, f), 5))
		}
	}
	b = restart(t, dir, Limits{})
	s = enter(t, b, "s")
	require.Equal(t, "kept", popAndAck(t, s, "x"))
	d, err := s.Peek(t.Context(), "y", "")
	require.NoError(t, err)
	require.Nil(t, d)
}

// FuzzRecord checks that decoded records encode to the same, and that damaged ones do not panic.
func FuzzRecord(f *testing.F) {
	f.Add(
		record{
			kind:          kindQueue,
			session:       "s",
			topic:         "t",
			seq:           3,
			redeliverable: 2,
			id:            idKey{1},
			seen:          []idKey{{2}, {3}},
		}.appendTo(nil),
	)
	f.Add(record{kind: kindMessage, seq: 1 << 40, payload: []byte("hi")}.appendTo(nil))
	f.Add(record{kind: kindBlob, seq: 7, id: idKey{9}, size: 1 << 33}.appendTo(nil))
	f.Add(record{kind: kindConsumed, seq: 7}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := nextRecord(b)
		if err != nil {
			// A body with a wrong checksum must not panic either.
			_, _ = decodeRecord(b)
			return
		}
		again, _, err := nextRecord(r.appendTo(nil))
		require.NoError(t, err)
		require.Equal(t, r, again)
		require.LessOrEqual(t, n, len(b))
	})
}

// FuzzRecover opens folders with arbitrary content. Open must not panic, and the broker must work afterwards.
func FuzzRecover(f *testing.F) {
	head := record{kind: kindQueue, session: "s", topic: "x"}.appendTo(nil)
	f.Add(record{kind: kindMessage, seq: 1, payload: []byte("hi")}.appendTo(bytes.Clone(head)))
	f.Add(
		record{
			kind: kindConsumed,
			seq:  9,
			id:   idKey{1},
		}.appendTo(record{kind: kindMessage, seq: 9, payload: []byte("hi")}.appendTo(bytes.Clone(head))),
	)
	f.Add([]byte("nothing"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "s1"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "s1", "2.log"), data, 0o600))
		b, err := Open(Config{Dir: dir, Logger: quiet()})
		if err != nil {
			return // an unknown version or kind
		}
		defer b.Close()
		defer b.Stop()
		s, err := b.Enter("s")
		require.NoError(t, err)
		defer s.Leave()
		mustPush(t, s, "fresh", "", "m")
		require.Equal(t, "m", popAndAck(t, s, "fresh"))
	})
}

// TestIdleSessionIsReleasedAcrossRestarts checks that restarts do not extend the life of an idle session. One
// whose time is over at a start stays for recoveryGrace, so that its containers can reconnect.
func TestIdleSessionIsReleasedAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	limits := Limits{SessionTTL: time.Hour}
	b := restart(t, dir, limits)
	for _, id := range []string{"old", "older", "used"} {
		mustPush(t, enter(t, b, id), "x", "", "left")
	}
	folders := map[string]string{}
	for id, s := range b.sessions {
		folders[id] = s.dir
	}
	b.crash()
	age := func(id string, age time.Duration) {
		for _, f := range files(t, folders[id]) {
			then := time.Now().Add(-age)
			require.NoError(t, os.Chtimes(filepath.Join(folders[id], f), then, then))
		}
	}
	age("old", 50*time.Minute)
	age("older", 2*time.Hour)
	age("used", 2*time.Hour)
	b = restart(t, dir, limits)
	enter(t, b, "used")
	b.mu.Lock()
	silent := map[string]time.Duration{}
	var sessions []*Session
	for id, s := range b.sessions {
		silent[id] = time.Since(s.lastUsed).Round(time.Minute)
		sessions = append(sessions, s)
	}
	b.mu.Unlock()
	require.Equal(t, map[string]time.Duration{"old": 50 * time.Minute, "older": 2 * time.Hour, "used": 0},
		silent)
	for _, s := range sessions { // as their timers do
		b.expire(s)
	}
	_, err := b.Enter("older")
	requireCode(t, status.SessionReleased, err)
	require.Equal(t, "left", popAndAck(t, enter(t, b, "old"), "x"))
	require.Equal(t, "left", popAndAck(t, enter(t, b, "used"), "x"))
}

// TestKnownSpool checks that a folder which should hold a spool, but does not, is left as it is.
func TestKnownSpool(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(Config{Dir: dir, Known: true, Logger: quiet()})
	require.ErrorContains(t, err, "holds no spool that could be taken over")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	b, err := Open(Config{Dir: dir, Logger: quiet()})
	require.NoError(t, err)
	volume := b.Volume()
	_, err = Open(Config{Dir: dir, Known: true, Logger: quiet()})
	require.ErrorIs(t, err, ErrInUse)
	b.Close()
	b, err = Open(Config{Dir: dir, Known: true, Logger: quiet()})
	require.NoError(t, err)
	require.Equal(t, volume, b.Volume())
	b.Close()
}

// TestEpoch checks that the epoch stays in the folder, and that a damaged one is an error: taken for none, an
// old copy would serve.
func TestEpoch(t *testing.T) {
	dir := t.TempDir()
	b := restart(t, dir, Limits{})
	n, err := b.Epoch()
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, b.SetEpoch(9))
	require.NoError(t, b.SetEpoch(10))
	b.crash()
	b = restart(t, dir, Limits{})
	n, err = b.Epoch()
	require.NoError(t, err)
	require.EqualValues(t, 10, n)
	require.NoFileExists(t, filepath.Join(dir, "epoch.new"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "epoch"), []byte("1x\n"), 0o600))
	_, err = b.Epoch()
	require.ErrorContains(t, err, "failed to read the epoch of the spool")
}
