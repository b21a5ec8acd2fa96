package queue

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// newBody returns a body with n bytes, written in parts as a connection delivers them.
func newBody(t *testing.T, b *Broker, n int, expected int64) (*Body, []byte) {
	t.Helper()
	text := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
	c := b.NewBody(16*mib, expected)
	for rest := text; len(rest) > 0; {
		k := min(len(rest), 32<<10)
		written, err := c.Write(rest[:k])
		require.NoError(t, err)
		require.Equal(t, k, written)
		rest = rest[k:]
	}
	for range 2 {
		require.NoError(t, c.Complete())
	}
	return c, text
}

func requireBody(t *testing.T, c *Body, want []byte) {
	t.Helper()
	for range 2 {
		got, err := io.ReadAll(c.Reader())
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
}

// TestBodyInMemory checks which bodies are held in memory, and what each takes of it.
func TestBodyInMemory(t *testing.T) {
	for name, c := range map[string]struct {
		size     int
		expected int64
		held     int64
		file     bool
	}{
		"small":                       {InlineBytes, -1, 0, false},
		"small, announced":            {InlineBytes, InlineBytes, 0, false},
		"middle":                      {96 << 10, -1, 192 << 10, false},
		"middle, announced":           {96 << 10, 96 << 10, 96 << 10, false},
		"largest":                     {maxMemoryBody, -1, maxMemoryBody, false},
		"largest, announced":          {maxMemoryBody, maxMemoryBody, maxMemoryBody, false},
		"larger":                      {maxMemoryBody + 1, -1, 0, true},
		"larger, announced":           {maxMemoryBody + 1, maxMemoryBody + 1, 0, true},
		"whole pieces of a file":      {maxMemoryBody + 2*filePiece, -1, 0, true},
		"larger than announced":       {maxMemoryBody + 1, 80 << 10, 0, true},
		"a little over the announced": {96 << 10, 80 << 10, 96 << 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, Limits{})
			body, text := newBody(t, b, c.size, c.expected)
			require.Equal(t, c.held, b.inMemory.Load())
			require.Equal(t, c.file, body.file != nil)
			requireBody(t, body, text)

			body.Discard()
			body.Discard()
			require.Zero(t, b.inMemory.Load())
			entries, err := os.ReadDir(b.spool.tmp())
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

// TestMemoryForBodiesIsBounded checks that bodies without space in memory are files, and that the space comes
// back when bodies are discarded or pushed.
func TestMemoryForBodiesIsBounded(t *testing.T) {
	b, s := newBrokerWithSession(t, Limits{})
	var held []*Body
	for range memoryBodies / mib {
		c, _ := newBody(t, b, mib, mib)
		require.Nil(t, c.file)
		held = append(held, c)
	}
	require.EqualValues(t, memoryBodies, b.inMemory.Load())

	more, text := newBody(t, b, mib, mib)
	require.NotNil(t, more.file)
	requireBody(t, more, text)
	small, text := newBody(t, b, InlineBytes, InlineBytes)
	require.Nil(t, small.file, "small ones need no space")
	requireBody(t, small, text)

	held[0].Discard()
	again, text := newBody(t, b, mib, mib)
	require.Nil(t, again.file)
	requireBody(t, again, text)

	for _, c := range append(held[1:], more, small, again) {
		a, err := s.Allocate(t.Context(), Inbound, c.Size(), "")
		require.NoError(t, err)
		_, err = s.Push("x", "", c, a)
		require.NoError(t, err)
	}
	require.Zero(t, b.inMemory.Load())
}

// TestBodyFromMemorySurvives checks that a message that was held in memory is in the spool once it is pushed.
func TestBodyFromMemorySurvives(t *testing.T) {
	dir := t.TempDir()
	b := restart(t, dir, Limits{})
	s := enter(t, b, "s")
	body, text := newBody(t, b, 200<<10, 200<<10)
	a, err := s.Allocate(t.Context(), Inbound, body.Size(), "")
	require.NoError(t, err)
	_, err = s.Push("x", "", body, a)
	require.NoError(t, err)
	b.crash()

	b = restart(t, dir, Limits{})
	require.Equal(t, string(text), popAndAck(t, enter(t, b, "s"), "x"))
}
