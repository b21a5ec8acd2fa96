package logline

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestResolve checks what is left of lines that progress bars overwrite.
func TestResolve(t *testing.T) {
	for line, want := range map[string]string{
		"plain":     "plain",
		"windows\r": "windows",
		"\r  0%|  | 0/3\r 33%|\r100%|██| 3/3 [00:01<00:00]": "100%|██| 3/3 [00:01<00:00]",
		"loss 0.3\r":                             "loss 0.3",
		"100%\r    \rdone":                       "done", // tqdm with leave=False clears the bar
		"100%\r    \r":                           "100%",
		"100%\r\x1b[K":                           "100%",
		"1/2\b\b\b\r2/2\b\b\b\r":                 "2/2", // Keras
		"|\b/\b-\b\\\b done":                     " done",
		"10%\b\b\b20%\b\b\b30%":                  "30%",
		"\r\r\r":                                 "",
		"":                                       "",
		"\x1b[32m 5%\x1b[0m\r\x1b[32m 9%\x1b[0m": "\x1b[32m 9%\x1b[0m",
	} {
		assert.Equal(t, want, string(Resolve([]byte(line))), "%q", line)
	}
}

// TestCompactKeepsTheResult appends a bar in pieces of every size. Compacting each time changes nothing.
func TestCompactKeepsTheResult(t *testing.T) {
	var whole strings.Builder
	for i := range 200 {
		whole.WriteString("\r" + strings.Repeat("█", i%40) + strings.Repeat(" ", i%7))
		if i%5 == 0 {
			whole.WriteString("\r    ")
		}
	}
	want := string(Resolve([]byte(whole.String())))
	for size := 1; size < 90; size++ {
		var line []byte
		for text := []byte(whole.String()); len(text) > 0; {
			n := min(size, len(text))
			line = Compact(append(line, text[:n]...))
			text = text[n:]
			require.Less(t, len(line), 400)
		}
		require.Equal(t, want, string(Resolve(line)), "pieces of %d bytes", size)
	}
}

func TestEndsBelow(t *testing.T) {
	for line, want := range map[string]bool{"\r 20%|██\x1b[A": true, "\r 20%\x1b[2A\r": true, "BANANA": false,
		"\x1b[A then": false, "\x1b[1mA": false, "": false, "A": false, "\x1b[": false} {
		assert.Equal(t, want, EndsBelow([]byte(line)), "%q", line)
	}
}

// FuzzResolve checks that no input makes a line longer, and that compacting pieces never changes the result.
func FuzzResolve(f *testing.F) {
	f.Add([]byte("\r 10%\r 20%\b\b"), 3)
	f.Add([]byte("a\x1b[\r\x1b[K\r"), 1)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		want := Resolve(bytes.Clone(text))
		require.LessOrEqual(t, len(want), len(text))
		require.False(t, bytes.ContainsAny(want, "\r\b"))
		size = max(size%16, 1)
		var line []byte
		for rest := text; len(rest) > 0; {
			n := min(size, len(rest))
			line = Compact(append(line, rest[:n]...))
			rest = rest[n:]
		}
		require.Equal(t, string(want), string(Resolve(line)))
	})
}
