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
		"loss 0.3\r":             "loss 0.3",
		"100%\r    \rdone":       "done", // tqdm with leave=False clears the bar
		"100%\r    \r":           "100%",
		"100%\r\x1b[K":           "100%",
		"1/2\b\b\b\r2/2\b\b\b\r": "2/2", // Keras
		"|\b/\b-\b\\\b done":     " done",
		"10%\b\b\b20%\b\b\b30%":  "30%",
		"\r\r\r":                 "",
		"":                       "",
		"\x1b[2K\x1b[1Gstep 1\x1b[2K\x1b[1Gstep 2": "step 2", // ora
		"\x1b[G\x1b[K10%\x1b[G\x1b[K20%":           "20%",
		"10%\x1b[1000D20%\x1b[1000D30%":            "30%",
		"\x1b[s10%\x1b[u20%\x1b[u\x1b[K30%":        "30%",
		"\x1b710%\x1b820%\x1b8\x1b[K":              "20%",
		"load \x1b[s10%\x1b[u20%\x1b[u30%":         "load 30%",
		"load \x1b[10G10%\x1b[10G20%":              "load     20%",
		"10%\x1b[3D20%":                            "20%",
		"a 10%\x1b[3D20%":                          "a 20%",
		"\x1b[32m5%\x1b[0m\b\b\x1b[32m9%":          "9%",
		"\x1b]0;title\a\r10%":                      "10%",
		"\x1b[32m 5%\x1b[0m\r\x1b[32m 9%\x1b[0m":   "\x1b[32m 9%\x1b[0m",
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

// TestRows checks what lines leave in rows above and below.
func TestRows(t *testing.T) {
	for _, c := range []struct {
		line string
		rows map[int]string
		end  int
	}{
		{"plain", map[int]string{0: "plain"}, 0},
		{"\x1b[32mBANANA\x1b[0m", map[int]string{0: "\x1b[32mBANANA\x1b[0m"}, 0},
		{"\r 20%|██\x1b[A", map[int]string{0: " 20%|██"}, -1},
		{"\rinner 1%\x1b[A\router 2%", map[int]string{0: "inner 1%", -1: "outer 2%"}, -1},
		{"\x1b[2A\x1b[2K\ra: 10%\r\x1b[2B", map[int]string{-2: "a: 10%"}, 0},
		{"\x1b[1Fabove\x1b[Ehere", map[int]string{-1: "above", 0: "here"}, 0},
		{"\x1b[Aold\x1b[B\x1b[A\x1b[2Knew\x1b[B", map[int]string{-1: "new"}, 0},
		{"\x1b[99999A", map[int]string{}, -maxRows},
	} {
		for _, line := range []string{c.line, string(Resolve([]byte(c.line)))} {
			got := map[int]string{}
			rows, end := Rows([]byte(line))
			for _, row := range rows {
				got[row.Offset] = string(row.Text)
			}
			assert.Equal(t, c.rows, got, "%q", line)
			assert.Equal(t, c.end, end, "%q", line)
		}
	}
}

// TestCompactBoundsBars draws bars of several libraries a million bytes long.
func TestCompactBoundsBars(t *testing.T) {
	for _, state := range []string{"\r50%", "\x1b[2K\x1b[1G50%", "\x1b[G\x1b[K50%", "50%\x1b[1000D",
		"50%\x1b[u", "50%\b\b\b", "\x1b[32m50%\x1b[0m\b\b\b", "\x1b[2A\x1b[2K\r50%\r\x1b[2B"} {
		var line []byte
		for range 20_000 {
			line = Compact(append(line, state...))
			require.Less(t, len(line), 100, "%q", state)
		}
		rows, _ := Rows(line)
		require.Len(t, rows, 1, "%q", state)
		require.Equal(t, "50%", StripANSI(string(rows[0].Text)), "%q", state)
	}
}

// FuzzResolve checks that no input makes a line much longer, and that compacting pieces never changes what is
// left.
func FuzzResolve(f *testing.F) {
	f.Add([]byte("\r 10%\r 20%\b\b"), 3)
	f.Add([]byte("a\x1b[\r\x1b[K\r"), 1)
	f.Add([]byte("\x1b[2K\x1b[1G1\x1b[s2\x1b[u\x1b[3D\x1b[9G"), 2)
	f.Add([]byte("\x1b[7G"), 2)
	f.Add([]byte("\x1b[0C0\x1b[s0\x1b[u\x1b[2D0000"), 4)
	f.Add([]byte("a\x1b[2Ab\r\x1b[Bc\b\x1b7\x1b8\x1b]0;x\a"), 3)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		want := Resolve(bytes.Clone(text))
		require.LessOrEqual(t, len(want), len(text)+maxPad*bytes.Count(text, []byte{'\x1b'}))
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
