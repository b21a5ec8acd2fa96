package logline

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// levelOfLetter maps the first column of testdata/levels.txt.
var levelOfLetter = map[string]Level{"D": Debug, "I": Info, "W": Warning, "E": Error}

// TestLevelsOfUsualLoggers classifies outputs of the loggers and runtimes that algorithms of this field use.
// Most were recorded from the real programs. Each section of testdata/levels.txt is one log; each line has
// its level, a bar, and the text, in which <ESC> is an escape and <TAB> a tab.
func TestLevelsOfUsualLoggers(t *testing.T) {
	file, err := os.Open("testdata/levels.txt")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var c Classifier
	section, lines := "", 0
	unescape := strings.NewReplacer("<ESC>", "\x1b", "<TAB>", "\t")
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		if title, ok := strings.CutPrefix(in.Text(), "== "); ok {
			section, c = title, Classifier{}
			continue
		}
		letter, text, found := strings.Cut(in.Text(), "|")
		require.True(t, found, "line %d", n)
		want, ok := levelOfLetter[letter]
		require.True(t, ok, "line %d", n)
		assert.Equal(t, want, c.Next(unescape.Replace(text)), "line %d of %s: %s", n, section, text)
		lines++
	}
	require.NoError(t, in.Err())
	require.Greater(t, lines, 200)
}

// TestLevelOfLaterLines checks where an entry ends if a line has neither a level nor an indent: the lines of
// an entry are written at once.
func TestLevelOfLaterLines(t *testing.T) {
	const start = "2026-11-23T04:00:00.000000000Z "
	const soon, later = "2026-11-23T04:00:00.010000000Z ", "2026-11-23T04:00:00.300000000Z "
	const muchLater = "2026-11-23T04:00:09.000000000Z "
	for _, c := range []struct {
		name, first, second string
		want                Level
	}{
		{"the second line of an error", start + "ERROR one", soon + "two", Error},
		{"a print after an error", start + "ERROR one", later + "epoch 1", Info},
		{"a print after a debug line", start + "DEBUG one", soon + "epoch 1", Info},
		{"an indented line of a debug entry", start + "DEBUG one", muchLater + "  two", Debug},
		{"a bracket of a debug entry", start + "DEBUG {", soon + "}", Debug},
		{"a frame that comes late", start + "panic: x", later + "main.main()", Error},
		{"a print long after a panic", start + "panic serving x", muchLater + "done", Info},
		{"an exception that comes late", start + "Traceback (most recent call last):", muchLater +
			"KeyboardInterrupt", Error},
		{"a line before any entry", start + "one", soon + "  two", Info},
		{"a line with a time of its own", start + "ERROR one", soon + "2026/11/23 04:00:00 two", Info},
		{"an empty line", start + "ERROR one", soon, Error},
	} {
		var classifier Classifier
		classifier.Next(c.first)
		assert.Equal(t, c.want, classifier.Next(c.second), c.name)
	}
}

func TestParseLevel(t *testing.T) {
	for word, want := range map[string]Level{"debug": Debug, "Trace": Debug, "INFO": Info, "success": Info,
		"Warn": Warning, "warning": Warning, "ERR": Error, "fatal": Error, "CRITICAL": Error,
		"ERROR+4": Error, "DEBUG-4": Debug} {
		level, ok := ParseLevel(word)
		assert.True(t, ok, word)
		assert.Equal(t, want, level, word)
	}
	for _, word := range []string{"", "e", "loud", "informationals", "ERROR+", "ERROR-x"} {
		_, ok := ParseLevel(word)
		assert.False(t, ok, word)
	}
}

// FuzzClassifier checks that no line makes the classifier fail, and that the same lines have the same levels
// again.
func FuzzClassifier(f *testing.F) {
	for _, seed := range []string{"Traceback (most recent call last):\n  File\nE", "[E 1", "E1122 06:36:01",
		"{\"level\":", "<3>", "a=\"",
		"level=\"", "(pid=", "[rank0]:", "2026-11-23T04:00:00Z x", "12:ERROR:", "\x1b[31mERROR\x1b["} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, log string) {
		var a, b Classifier
		for line := range strings.SplitSeq(log, "\n") {
			level := a.Next(line)
			require.GreaterOrEqual(t, level, Debug)
			require.LessOrEqual(t, level, Error)
			require.Equal(t, level, b.Next(line))
		}
	})
}

// BenchmarkClassifier classifies the recorded lines.
func BenchmarkClassifier(b *testing.B) {
	raw, err := os.ReadFile("testdata/levels.txt")
	require.NoError(b, err)
	var lines []string
	size := 0
	for line := range strings.SplitSeq(string(raw), "\n") {
		if _, text, ok := strings.Cut(line, "|"); ok {
			lines = append(lines, "2026-11-23T04:00:00.000000000Z "+text)
			size += len(text) + 31
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		var c Classifier
		for _, line := range lines {
			c.Next(line)
		}
	}
}
