package channel

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAssembler feeds chunks in random order, each of them twice.
func TestAssembler(t *testing.T) {
	messages := [][]byte{{}, {1}, bytes.Repeat([]byte{2}, 25), {3, 3}}
	var chunks [][]byte
	for _, m := range messages {
		for last := false; !last; {
			part := m[:min(10, len(m))]
			m = m[len(part):]
			last = len(m) == 0
			chunks = append(chunks, encodeChunk(instance{1}, uint64(len(chunks)), last, part))
		}
	}

	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		order := append(rng.Perm(len(chunks)), rng.Perm(len(chunks))...)
		a := assembler{from: new(instance)}
		for _, i := range order {
			require.NoError(t, a.add(bytes.Clone(chunks[i])))
		}
		for _, want := range messages {
			got, ok := a.take()
			require.True(t, ok)
			require.True(t, bytes.Equal(want, got))
		}
		_, ok := a.take()
		require.False(t, ok)
	}

	a := assembler{from: new(instance)}
	require.ErrorContains(
		t, a.add(encodeChunk(instance{1}, maxAhead+1, true, nil)), "while chunk 0 is missing",
	)
	require.Error(t, a.add([]byte{9, 0}))
	require.ErrorContains(t, a.add(encodeChunk(instance{2}, 0, true, nil)), "another process")
}

func FuzzAssembler(f *testing.F) {
	f.Add(encodeChunk(instance{1}, 0, true, []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := assembler{from: new(instance)}
		if a.add(b) != nil {
			return
		}
		if m, ok := a.take(); ok {
			require.Equal(t, string(b[chunkHeader:]), string(m))
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	m, _ := encodeMessage(map[string]int{"n": 1}, []byte("body"))
	f.Add(m)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, m []byte) {
		var head any
		body, err := decodeMessage(m, &head)
		if err == nil {
			require.True(t, bytes.HasSuffix(m, body))
		}
	})
}
