package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/activities"
	"hutong/store/blob"
)

// failingStore is a store whose writes fail for a while.
type failingStore struct {
	blob.Store
	failing bool
	puts    int
}

func (s *failingStore) Put(ctx context.Context, key string, r io.Reader) error {
	s.puts++
	if s.failing {
		return errors.New("the storage is unavailable")
	}
	return s.Store.Put(ctx, key, r)
}

func newStorage(t *testing.T) *failingStore {
	s, err := blob.Open(t.Context(), "file://"+t.TempDir())
	require.NoError(t, err)
	return &failingStore{Store: s}
}

func newChunkWriter(s blob.Store) *chunkWriter {
	return &chunkWriter{ctx: context.Background(), blobs: s, prefix: activities.LogPrefix("container") + "/w"}
}

func readLog(t require.TestingT, s blob.Store) string {
	rc, err := activities.ReadLog(context.Background(), s, "container")
	require.NoError(t, err)
	b, err := io.ReadAll(rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	return string(b)
}

func chunks(t *testing.T, s blob.Store) (sizes []int64) {
	list, err := s.List(t.Context(), activities.LogPrefix("container"))
	require.NoError(t, err)
	for i, o := range list {
		assert.Equal(t, fmt.Sprintf("_log/container/w/%08d", i), o.Key)
		sizes = append(sizes, o.Size)
	}
	return sizes
}

func TestLogChunks(t *testing.T) {
	line := strings.Repeat("x", 1023) + "\n"
	for _, c := range []struct {
		name  string
		write []string
		sizes []int64
	}{
		{"nothing", nil, nil},
		{"a line", []string{"one\n"}, []int64{4}},
		{"a line in pieces", []string{"o", "n", "e\n"}, []int64{4}},
		{"an end without a newline", []string{"one\ntwo"}, []int64{7}},
		{"just one chunk", []string{strings.Repeat(line, 256)}, []int64{256 << 10}},
		{"a line more", []string{strings.Repeat(line, 257)}, []int64{256 << 10, 1 << 10}},
		{"cut at lines only", []string{strings.Repeat(line, 255), "0123456789\n", line, line},
			[]int64{256<<10 + 11, 1 << 10}},
		{"a line larger than a chunk", []string{strings.Repeat("x", 300<<10), "\n", line},
			[]int64{300<<10 + 1, 1 << 10}},
		{"the same in one piece", []string{strings.Repeat("x", 300<<10) + "\n" + line},
			[]int64{300<<10 + 1, 1 << 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStorage(t)
			w := newChunkWriter(s)
			for _, piece := range c.write {
				n, err := w.Write([]byte(piece))
				require.NoError(t, err)
				require.Equal(t, len(piece), n)
			}
			w.flush(true)
			require.NoError(t, w.err)
			assert.Equal(t, c.sizes, chunks(t, s))
			assert.Equal(t, strings.Join(c.write, ""), readLog(t, s))
			puts := s.puts
			w.flush(true)
			assert.Equal(t, puts, s.puts, "a written chunk is not written again")
		})
	}
}

// The log of a running container can be read up to the last complete line.
func TestLogFlush(t *testing.T) {
	s := newStorage(t)
	w := newChunkWriter(s)
	for _, step := range []struct{ write, read string }{
		{"one\n", "one\n"}, {"tw", "one\n"}, {"o\n", "one\ntwo\n"}, {"", "one\ntwo\n"}, {"three\nfour",
			"one\ntwo\n"}, {"\n", "one\ntwo\nthree\nfour\n"},
	} {
		_, err := w.Write([]byte(step.write))
		require.NoError(t, err)
		w.flush(false)
		assert.Equal(t, step.read, readLog(t, s))
	}
}

// A watcher that takes over writes the same chunks, however the input is split.
func TestLogRewrittenAfterCrash(t *testing.T) {
	s := newStorage(t)
	rapid.Check(t, func(t *rapid.T) {
		require.NoError(t, s.DeletePrefix(context.Background(), activities.LogPrefix("container")))
		var text bytes.Buffer
		for i := range rapid.IntRange(0, 60).Draw(t, "lines") {
			fmt.Fprintf(&text, "%d %s\n", i, strings.Repeat("x", rapid.IntRange(0, 40<<10).Draw(t, "length")))
		}
		write := func(text []byte, end bool) {
			w := newChunkWriter(s)
			for len(text) > 0 {
				n := rapid.IntRange(1, len(text)).Draw(t, "piece")
				_, err := w.Write(text[:n])
				require.NoError(t, err)
				if rapid.Bool().Draw(t, "flush") {
					w.flush(false)
				}
				text = text[n:]
			}
			w.flush(end)
			require.NoError(t, w.err)
		}
		write(text.Bytes()[:rapid.IntRange(0, text.Len()).Draw(t, "crash at")], false)
		write(text.Bytes(), true)
		require.Equal(t, text.String(), readLog(t, s))
	})
}

// A short outage of the storage loses no line. A long outage loses lines, so that memory stays bounded.
func TestLogStorageOutage(t *testing.T) {
	line := strings.Repeat("x", 1023) + "\n"
	s := newStorage(t)
	w := newChunkWriter(s)
	write := func(lines int) {
		for range lines {
			_, err := w.Write([]byte(line))
			require.NoError(t, err)
		}
	}
	write(300)
	s.failing = true
	s.puts = 0
	write(2000)
	w.flush(false)
	require.ErrorContains(t, w.err, "the storage is unavailable")
	assert.Less(t, s.puts, 12, "the storage is not tried for each line")
	s.failing = false
	write(300)
	w.flush(true)
	require.NoError(t, w.err)
	assert.Equal(t, strings.Repeat(line, 2600), readLog(t, s))

	s.failing = true
	write(40 << 10)
	assert.LessOrEqual(t, w.chunk.Len(), maxPendingChunkBytes)
	s.failing = false
	write(1)
	w.flush(true)
	require.Error(t, w.err, "the lost lines are reported")
}

func TestReadLogWithoutChunks(t *testing.T) {
	assert.Empty(t, readLog(t, newStorage(t)))
}

// A watcher that timed out may still write. It has read less, and its chunks do not affect the log.
func TestReadLogOfSeveralWatchers(t *testing.T) {
	s := newStorage(t)
	late := &chunkWriter{
		ctx:    context.Background(),
		blobs:  s,
		prefix: activities.LogPrefix("container") + "/a",
	}
	whole := &chunkWriter{
		ctx:    context.Background(),
		blobs:  s,
		prefix: activities.LogPrefix("container") + "/b",
	}
	put := func(w *chunkWriter, text string) {
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
		w.flush(false)
	}
	put(late, "one\n")
	assert.Equal(t, "one\n", readLog(t, s))
	put(whole, "one\ntwo\nthree\n")
	put(late, "two\n")
	assert.Equal(t, "one\ntwo\nthree\n", readLog(t, s))
}

// TestLogIsBounded floods a log. The log keeps its beginning and its end, with a note between them on what is
// left out.
func TestLogIsBounded(t *testing.T) {
	s := newStorage(t)
	w := newChunkWriter(s)
	const lines = 1000
	line := func(n int) string { return fmt.Sprintf("%0128000d\n", n) }
	for n := range lines {
		_, err := io.WriteString(w, line(n))
		require.NoError(t, err)
		if n%100 == 0 {
			w.flush(false)
		}
	}
	w.flush(false)
	running := strings.Split(strings.TrimSpace(readLog(t, s)), "\n")
	w.flush(true)
	require.NoError(t, w.err)
	kept := strings.Split(strings.TrimSpace(readLog(t, s)), "\n")
	note := len(running) - 1
	require.Contains(t, running[note], fmt.Sprintf("lines skipped here\" lines=%d bytes=%d", lines-note,
		(lines-note)*len(line(0))))
	tail := len(kept) - note - 1
	require.Equal(t, running[:note], kept[:note], "lines that were readable keep their position")
	require.Contains(t, kept[note], fmt.Sprintf("lines skipped here\" lines=%d bytes=%d", lines-note-tail,
		(lines-note-tail)*len(line(0))))
	for i, n := range map[int]int{0: 0, note - 1: note - 1, note + 1: lines - tail,
		len(kept) - 1: lines - 1} {
		require.Equal(t, line(n), kept[i]+"\n")
	}
	require.InDelta(t, logHeadBytes+logTailBytes, len(readLog(t, s)), 1<<20)
}
