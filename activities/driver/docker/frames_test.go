package docker

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

func frame(stream byte, text string) []byte {
	header := make([]byte, frameHeader, frameHeader+len(text))
	header[0] = stream
	binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
	return append(header, text...)
}

func TestFrameWriterJoinsPieces(t *testing.T) {
	t.Parallel()
	var stream []byte
	for _, f := range [][]byte{
		frame(1, "T1 a"), frame(2, "T2 err\n"), frame(1, "T3 b c"), frame(1, "T4 d\n"), frame(2, "T5 last"),
	} {
		stream = append(stream, f...)
	}
	var out bytes.Buffer
	w := &frameWriter{w: &out}
	// The first connection breaks within the third frame. The second one delivers the whole log.
	require.Error(t, w.copyFrom(bytes.NewReader(stream[:len(frame(1, "T1 a"))+len(frame(2, "T2 err\n"))+10])))
	w.restart()
	require.NoError(t, w.copyFrom(bytes.NewReader(stream)))
	require.NoError(t, w.finish())
	require.Equal(t, "T2 err\nT1 ab cd\nT5 last\n", out.String())
}

func FuzzFrameWriter(f *testing.F) {
	f.Add(append(frame(1, "T1 a"), frame(2, "T2 b\n")...))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var out bytes.Buffer
		w := &frameWriter{w: &out}
		_ = w.copyFrom(bytes.NewReader(stream))
		require.NoError(t, w.finish())
		require.LessOrEqual(t, out.Len(), len(stream))
		if out.Len() > 0 {
			require.Equal(t, byte('\n'), out.Bytes()[out.Len()-1])
		}
	})
}
