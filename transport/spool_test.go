package transport

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
)

// life opens a broker on a folder, as a process does that starts.
func life(t testing.TB, dir string, limits Limits) *broker {
	t.Helper()
	sp, err := openSpool(dir, quiet())
	require.NoError(t, err)
	b, err := newBroker(sp, limits.withDefaults(), quiet())
	require.NoError(t, err)
	t.Cleanup(func() { b.close(); sp.close() })
	return b
}

// crash leaves the folder as a process does that is killed.
func (b *broker) crash() { b.spool.lock.Close() }

func entered(t testing.TB, b *broker, session string) *session {
	t.Helper()
	s, err := b.enter(session)
	require.NoError(t, err)
	t.Cleanup(func() { b.leave(s) })
	return s
}

func files(t testing.TB, dir string) (out []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); err == nil && !d.IsDir() && name != "lock" && name != "released" {
			out = append(out, name)
		}
		return err
	}))
	return out
}

// Everything unread is there after a crash, in order, with the ids that were
// seen; what was read is not, and what it took is free.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	limits := Limits{SessionBytes: 64 * mib}
	b := life(t, dir, limits)
	s := entered(t, b, "s")
	size := func(i int) int64 {
		if i%10 == 0 {
			return inlineBytes + int64(i)
		}
		return int64(i)
	}
	const n = 300
	for i := range n {
		text := fmt.Sprintf("%d|%s", i, strings.Repeat("x", int(size(i))))
		require.NoError(t, put(t.Context(), b, s, fmt.Sprint("topic-", i%3), fmt.Sprint("id-", i), text, int64(len(text))+messageOverhead))
	}
	next := [3]int{0, 1, 2}
	used := s.in.used
	for round := range 5 {
		for i := range 45 {
			got := get(t, b, s, fmt.Sprint("topic-", i%3))
			want, _, _ := strings.Cut(got, "|")
			require.Equal(t, fmt.Sprint(next[i%3]), want)
			next[i%3] += 3
		}
		require.Less(t, s.in.used, used)
		used = s.in.used
		if round%2 == 0 {
			b.crash()
		} else {
			b.close()
			b.spool.close()
		}
		b = life(t, dir, limits)
		s = entered(t, b, "s")
		require.Equal(t, used, s.in.used, "what is unread is charged as before")
		mustPut(t, b, s, "topic-0", fmt.Sprint("id-", 297-3*round), "again")
		require.EqualValues(t, 1, b.counts.duplicates, "a retry after the crash")
	}
	for i := range 75 {
		get(t, b, s, fmt.Sprint("topic-", i%3))
	}
	require.Zero(t, s.in.used)
	for _, f := range files(t, dir) {
		require.NotContains(t, f, ".blob")
	}
	b.releaseSession("s")
	require.Empty(t, files(t, dir))
	b.crash()
	b = life(t, dir, limits)
	_, err := b.enter("s")
	requireCode(t, CodeSessionReleased, err)
}

// A pop whose answer was lost comes again with its id and gets the same message,
// also after a crash; any other reader goes on.
func TestRepeatedPop(t *testing.T) {
	for _, large := range []bool{false, true} {
		dir := t.TempDir()
		b := life(t, dir, Limits{})
		s := entered(t, b, "s")
		text := func(i int) string {
			if large {
				return fmt.Sprint(i) + strings.Repeat("x", inlineBytes)
			}
			return fmt.Sprint(i)
		}
		for i := range 4 {
			mustPut(t, b, s, "x", "", text(i))
		}
		pop := func(id string) string {
			d, err := b.pop(t.Context(), s, "x", id, time.Minute)
			require.NoError(t, err)
			defer d.done()
			require.NoError(t, d.promise())
			return read(t, d)
		}
		for range 2 {
			require.Equal(t, text(0), pop("p-0"))
			require.Equal(t, text(0), pop("p-0"))
			b.crash()
			b = life(t, dir, Limits{})
			s = entered(t, b, "s")
		}
		require.Equal(t, text(1), pop("p-1"))
		require.Equal(t, text(1), pop("p-1"))
		require.Equal(t, text(2), pop(""))
		require.Nil(t, s.queues["x"].retained, "a pop without an id is not repeated")
		require.Equal(t, text(3), pop("p-3"))
		b.crash()
		b = life(t, dir, Limits{})
		s = entered(t, b, "s")
		require.Equal(t, text(3), pop("p-3"))

		// One whose answer can't be written is the next reader's, also after a crash.
		mustPut(t, b, s, "x", "", text(4))
		for range 3 {
			d, err := b.pop(t.Context(), s, "x", "p-4", time.Minute)
			require.NoError(t, err)
			require.NoError(t, d.promise())
			d.putBack()
			b.crash()
			b = life(t, dir, Limits{})
			s = entered(t, b, "s")
		}
		require.Equal(t, text(4), pop("p-5"))

		// A kill while the answer is written: the same pop gets it, and no other.
		mustPut(t, b, s, "x", "", text(6))
		mustPut(t, b, s, "x", "", text(7))
		d, err := b.pop(t.Context(), s, "x", "p-6", time.Minute)
		require.NoError(t, err)
		require.NoError(t, d.promise())
		b.crash()
		b = life(t, dir, Limits{})
		s = entered(t, b, "s")
		require.Equal(t, text(6), pop("p-6"))
		require.Equal(t, text(7), pop("p-7"))
		require.NoError(t, b.clearQueues(s, ""))
		b.crash()
		b = life(t, dir, Limits{})
		require.Zero(t, b.used)
		require.Empty(t, files(t, dir), "nothing is known of the queue")
	}
}

// A pop that comes again takes the place of the one whose connection was lost.
func TestRepeatedPopTakesPlace(t *testing.T) {
	b, s := bench(t, Limits{})
	lost := make(chan error, 1)
	go func() {
		_, err := b.pop(context.Background(), s, "x", "p", time.Hour)
		lost <- err
	}()
	eventually(t, "it waits", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return s.queues["x"] != nil && len(s.queues["x"].readers) == 1
	})
	got := make(chan *delivery, 1)
	go func() {
		d, _ := b.pop(context.Background(), s, "x", "p", time.Hour)
		got <- d
	}()
	requireCode(t, CodeTimeout, <-lost)
	mustPut(t, b, s, "x", "", "m")
	d := <-got
	require.Equal(t, "m", read(t, d))
	d.done()
}

// Logs begin anew and old files go: a queue that is read takes little room however much passes.
func TestLogsStaySmall(t *testing.T) {
	dir := t.TempDir()
	b := life(t, dir, Limits{})
	s := entered(t, b, "s")
	text := strings.Repeat("x", 60<<10)
	for i := range 200 {
		mustPut(t, b, s, "x", fmt.Sprint(i), text)
		mustPut(t, b, s, "y", "", text)
		if i >= 3 { // x always holds something
			get(t, b, s, "x")
		}
		get(t, b, s, "y")
	}
	var bytes int64
	for _, f := range files(t, dir) {
		info, err := os.Stat(filepath.Join(dir, f))
		require.NoError(t, err)
		bytes += info.Size()
	}
	require.Less(t, bytes, int64(3*segmentBytes))
	b.crash()
	b = life(t, dir, Limits{})
	s = entered(t, b, "s")
	mustPut(t, b, s, "x", "199", "again")
	require.EqualValues(t, 1, b.counts.duplicates)
	for range 3 {
		require.Equal(t, text, get(t, b, s, "x"))
	}
}

// However a log is torn, what stands before the tear is there, and the queue goes on.
func TestTornLog(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		dir := t.TempDir()
		b := life(t, dir, Limits{})
		s := entered(t, b, "s")
		for i := range 10 {
			mustPut(t, b, s, "x", "", fmt.Sprint(i, strings.Repeat("x", rng.IntN(200))))
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

		b = life(t, dir, Limits{})
		s = entered(t, b, "s")
		left := 0
		if q := s.queues["x"]; q != nil {
			left = q.unread()
		}
		require.Less(t, left, 10)
		mustPut(t, b, s, "x", "", "after")
		for i := range left {
			require.True(t, strings.HasPrefix(get(t, b, s, "x"), fmt.Sprint(i)))
		}
		b.crash()
		b = life(t, dir, Limits{})
		require.Equal(t, "after", get(t, b, entered(t, b, "s"), "x"))
	}
}

// What no session owns goes at the start, and one folder serves one transport.
func TestSpoolIsCleaned(t *testing.T) {
	dir := t.TempDir()
	b := life(t, dir, Limits{})
	s := entered(t, b, "s")
	mustPut(t, b, s, "x", "", "kept")
	mustPut(t, b, s, "y", "", strings.Repeat("x", inlineBytes+1))
	_, err := openSpool(dir, quiet())
	require.ErrorContains(t, err, "in use by another transport")
	b.crash()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tmp", "7"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "1000.blob"), []byte("x"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "s2000"), 0o700))
	b = life(t, dir, Limits{})
	require.Len(t, files(t, dir), 3, "two logs and a blob")
	require.Greater(t, b.spool.number(), int64(2000), "no name is used twice")
	require.NoDirExists(t, filepath.Join(dir, "s2000"))
	// A blob that is cut short is told, not delivered.
	b.crash()
	for _, f := range files(t, dir) {
		if strings.HasSuffix(f, ".blob") {
			require.NoError(t, os.Truncate(filepath.Join(dir, f), 5))
		}
	}
	b = life(t, dir, Limits{})
	s = entered(t, b, "s")
	require.Equal(t, "kept", get(t, b, s, "x"))
	d, err := b.peek(t.Context(), s, "y", "")
	require.NoError(t, err)
	require.Nil(t, d)
}

func FuzzRecord(f *testing.F) {
	f.Add(record{kind: recordQueue, session: "s", topic: "t", seq: 3, retained: 2, id: idKey{1}, seen: []idKey{{2}, {3}}}.appendTo(nil))
	f.Add(record{kind: recordMessage, seq: 1 << 40, payload: []byte("hi")}.appendTo(nil))
	f.Add(record{kind: recordBlob, seq: 7, id: idKey{9}, size: 1 << 33}.appendTo(nil))
	f.Add(record{kind: recordConsumed, seq: 7}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := nextRecord(b)
		if err != nil {
			// A body without its right sum is still not a crash.
			_, _ = decodeRecord(b)
			return
		}
		again, _, err := nextRecord(r.appendTo(nil))
		require.NoError(t, err)
		require.Equal(t, r, again)
		require.LessOrEqual(t, n, len(b))
	})
}

// A folder with anything in it is read without a crash, and then serves.
func FuzzRecover(f *testing.F) {
	head := record{kind: recordQueue, session: "s", topic: "x"}.appendTo(nil)
	f.Add(record{kind: recordMessage, seq: 1, payload: []byte("hi")}.appendTo(bytes.Clone(head)))
	f.Add(record{kind: recordConsumed, seq: 9, id: idKey{1}}.appendTo(record{kind: recordMessage, seq: 9, payload: []byte("hi")}.appendTo(bytes.Clone(head))))
	f.Add([]byte("nothing"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "s1"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "s1", "2.log"), data, 0o600))
		sp, err := openSpool(dir, quiet())
		require.NoError(t, err)
		defer sp.close()
		b, err := newBroker(sp, Limits{}.withDefaults(), quiet())
		if err != nil {
			return // a version or a kind that is not known
		}
		defer b.close()
		s, err := b.enter("s")
		require.NoError(t, err)
		defer b.leave(s)
		mustPut(t, b, s, "fresh", "", "m")
		require.Equal(t, "m", get(t, b, s, "fresh"))
	})
}

// A session that nobody uses is released after its time to live, however often the transport is started again meanwhile; one
// whose time is over at a start has a while for its containers to come back.
func TestIdleSessionIsReleasedAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	limits := Limits{SessionTTL: time.Hour}
	b := life(t, dir, limits)
	for _, id := range []string{"old", "older", "used"} {
		mustPut(t, b, entered(t, b, id), "x", "", "left")
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
	b = life(t, dir, limits)
	entered(t, b, "used")
	b.mu.Lock()
	silent := map[string]time.Duration{}
	var sessions []*session
	for id, s := range b.sessions {
		silent[id] = time.Since(s.lastUsed).Round(time.Minute)
		sessions = append(sessions, s)
	}
	b.mu.Unlock()
	require.Equal(t, map[string]time.Duration{"old": 50 * time.Minute, "older": 2 * time.Hour, "used": 0}, silent)
	for _, s := range sessions { // as their timers do
		b.expire(s)
	}
	_, err := b.enter("older")
	requireCode(t, CodeSessionReleased, err)
	require.Equal(t, "left", get(t, b, entered(t, b, "old"), "x"))
	require.Equal(t, "left", get(t, b, entered(t, b, "used"), "x"))
}
