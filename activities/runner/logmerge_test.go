package runner

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
)

// mergedLines returns the lines of a log without their times.
func mergedLines(log string) (lines []string) {
	for line := range strings.Lines(log) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		lines = append(lines, text)
	}
	return lines
}

// TestMergeResolvesProgressBars checks what is left in a log of lines that overwrite themselves.
func TestMergeResolvesProgressBars(t *testing.T) {
	for _, c := range []struct {
		name  string
		write []string
		lines []string
	}{
		{"nothing", nil, nil},
		{"lines", []string{"t one\nt two\n"}, []string{"one", "two"}},
		{"lines in pieces", []string{"t o", "ne\nt", " two\n"}, []string{"one", "two"}},
		{"an end without a newline", []string{"t one\nt two"}, []string{"one", "two"}},
		{"empty lines", []string{"t \nt \n"}, []string{"", ""}},
		{"a bar", []string{"t \r 0%|  |\r50%|█ |", "\r100%|██|\nt done\n"}, []string{"100%|██|", "done"}},
		{"windows", []string{"t one\r\n"}, []string{"one"}},
		{"nested bars",
			[]string{"t \router 0%\nt \rinner 10%\x1b[A\nt \rinner 20%\x1b[A\nt \rinner 30%\nt end\n"},
			[]string{"outer 0%", "inner 30%", "end"}},
		{"nested bars that end so", []string{"t \rinner 20%\x1b[A\n"}, []string{"inner 20%"}},
		{"nested bars before an empty line", []string{"t \rinner 20%\x1b[A\nt \n"},
			[]string{"inner 20%"}},
		{"bars above in one line, as of Docker",
			[]string{"t a: 0%\nt b: 0%\nt \x1b[2A\x1b[2K\ra: 9%\r\x1b[2B\x1b[1A\x1b[2K\rb: 8%\r\x1b[1B" +
				"\x1b[2A\x1b[2K\ra: 99%\r\x1b[2Bdone\n"},
			[]string{"a: 0%", "b: 0%", "a: 99%", "b: 8%", "done"}},
		{"bars above in lines of their own",
			[]string{"t a: 0%\nt b: 0%\n", "t \x1b[2A\x1b[2Ka: 9%\nt \x1b[2Kb: 8%\n",
				"t \x1b[2A\x1b[2Ka: 99%\nt \x1b[2Kb: 98%\nt \x1b[1Fb: 100%\nt done\n"},
			[]string{"a: 0%", "b: 0%", "a: 99%", "b: 100%", "done"}},
		{"bars by the cursor's column", []string{"t \x1b[2K\x1b[1G1/2\x1b[2K", "\x1b[1G2/2\nt done\n"},
			[]string{"2/2", "done"}},
	} {
		var out bytes.Buffer
		m := &logMerge{out: &out}
		source := m.source()
		for _, piece := range c.write {
			n, err := source.Write([]byte(piece))
			require.NoError(t, err)
			require.Equal(t, len(piece), n)
		}
		m.finish()
		assert.Equal(t, c.lines, mergedLines(out.String()), c.name)
		assert.Equal(t, c.lines, m.lastLines(), c.name)
	}
}

// TestMergeLeavesOutCopies checks that an entry that a program writes to several places is in the log once,
// with all its lines, and that lines without a time are never taken for copies.
func TestMergeLeavesOutCopies(t *testing.T) {
	var out bytes.Buffer
	m := &logMerge{out: &out}
	output, file, errors := m.source(), m.source(), m.source()
	write := func(to io.Writer, lines ...string) {
		for _, line := range lines {
			_, err := io.WriteString(to, "t "+line+"\n")
			require.NoError(t, err)
		}
	}
	failed := []string{"2024-11-22 06:36:01,002 ERROR failed", "Traceback (most recent call last):",
		"KeyError: 1"}
	write(file, "2024-11-22 06:36:01,001 INFO begin")
	write(file, failed...)
	write(errors, failed...)
	write(output, "\x1b[31m2024-11-22 06:36:01,002 ERROR failed\x1b[0m", "Traceback (most recent call last):")
	write(output, "2024-11-22 06:36:01,003 INFO only here", "epoch 1")
	write(file, "2024-11-22 06:36:01,004 INFO end", "epoch 1")
	write(file, "2024-11-22 06:36:01,004 INFO end", "epoch 1")
	want := append([]string{"2024-11-22 06:36:01,001 INFO begin"}, failed...)
	want = append(want, "2024-11-22 06:36:01,003 INFO only here", "epoch 1",
		"2024-11-22 06:36:01,004 INFO end",
		"epoch 1", "2024-11-22 06:36:01,004 INFO end", "epoch 1")
	require.Equal(t, want, mergedLines(out.String()))
}

// folderDriver has the log files of a folder.
type folderDriver struct {
	driver.Driver
	folder string
}

func (d folderDriver) ScanLogFiles(_ context.Context, _ string, visit func(driver.LogFile) error) error {
	return driver.ScanFolder(d.folder, visit)
}

// fileReader reads the log files of a folder.
type fileReader struct {
	*logFiles
	t        *testing.T
	out      bytes.Buffer
	overflow chan int64
	seen     int
}

func readFiles(t *testing.T, limit int64) *fileReader {
	r := &fileReader{t: t, overflow: make(chan int64, 1)}
	r.logFiles = &logFiles{driver: folderDriver{folder: t.TempDir()}, merge: &logMerge{out: &r.out},
		limit:    limit,
		overflow: r.overflow, bytes: new(atomic.Int64)}
	return r
}

func (r *fileReader) path(name string) string {
	path := filepath.Join(r.driver.(folderDriver).folder, name)
	require.NoError(r.t, os.MkdirAll(filepath.Dir(path), 0o755))
	return path
}

func (r *fileReader) append(name, text string) {
	f, err := os.OpenFile(r.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(r.t, err)
	_, err = f.WriteString(text)
	require.NoError(r.t, err)
	require.NoError(r.t, f.Close())
}

// new returns the lines that were added since the last call.
func (r *fileReader) new() []string {
	require.NoError(r.t, r.readAll(r.t.Context()))
	lines := mergedLines(r.out.String())[r.seen:]
	r.seen += len(lines)
	return lines
}

// TestLogFilesAreFollowed reads files as they grow, are renamed, truncated and removed.
func TestLogFilesAreFollowed(t *testing.T) {
	r := readFiles(t, 0)
	require.Empty(t, r.new())
	r.append("psi.log", "one\ntw")
	require.Equal(t, []string{"one"}, r.new())
	r.append("psi.log", "o\n")
	require.Equal(t, []string{"two"}, r.new())
	require.Empty(t, r.new())

	r.append("psi.log", "three\n")
	require.NoError(t, os.Rename(r.path("psi.log"), r.path("psi.log.1")))
	r.append("psi.log", "four\n")
	require.Equal(t, []string{"four", "three"}, r.new(), "in the order of the names")
	require.NoError(t, os.Truncate(r.path("psi.log"), 0))
	r.append("psi.log", "5\n")
	require.Equal(t, []string{"5"}, r.new())
	require.NoError(t, os.Remove(r.path("psi.log.1")))
	require.Empty(t, r.new())

	r.append("deep/folder/other.txt", "six\n100%\r")
	require.Equal(t, []string{"six"}, r.new())
	r.append("bar.log", strings.Repeat("\r 10%|█         |", 100_000))
	r.append("bar.log", "\r done\n")
	require.Equal(t, []string{" done"}, r.new())
	require.NoError(t, r.finish(t.Context()))
	require.Equal(t, []string{"100%"}, r.new(), "the last line has no newline")
}

// TestLogFilesAreOnlyLogs leaves out data, binary files and what is no file.
func TestLogFilesAreOnlyLogs(t *testing.T) {
	r := readFiles(t, 0)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret\n"), 0o600))
	require.NoError(t, os.Symlink(secret, r.path("link.log")))
	require.NoError(t, os.Symlink(filepath.Dir(secret), r.path("folder")))
	for _, name := range []string{"data.csv", "conf.yaml", "model.pkl", "old.log.gz", ".hidden", "a.pid",
		"jobs/7/guest/input/task_parameters.yaml",
		"jobs/7/guest/output/output_model", "jobs/7/guest/output/std/x"} {
		r.append(name, "data\n")
	}
	r.append("core", "ELF\x00\x01\n")
	noise := rand.NewChaCha8([32]byte{})
	for i := range 200 {
		random := make([]byte, 1000)
		_, _ = noise.Read(random)
		r.append(fmt.Sprint("random", i), strings.ReplaceAll(string(random), "\x00", "\x01"))
	}
	r.append("psi.log", "line\n")
	r.append("jobs/7/guest/output/task_execute", "what the process printed\n")
	require.Equal(t, []string{"what the process printed", "line"}, r.new())
}

// TestIsBinary distinguishes logs, in any encoding, from data.
func TestIsBinary(t *testing.T) {
	for text, want := range map[string]bool{"": false, "epoch 1\n": false, "\t任务完成\r\n": false,
		"\xc8\xce\xce\xf1\xcd\xea\xb3\xc9\n": false, "\x1b[32m50%\x1b[0m\b\b\f": false, "a\x00b": true,
		"\x89PNG\r\n\x1a\n": true, "\x1f\x8b\x08": true, "PAR1\x15\x04\x15": true,
		strings.Repeat("a long line of a log ", 20) + "\x01": false} {
		assert.Equal(t, want, isBinary([]byte(text)), "%q", text)
	}
}

// TestLogFilesOfFATE reads the files of FATE's BFIA container. Each entry is in up to eight of them.
func TestLogFilesOfFATE(t *testing.T) {
	r := readFiles(t, 0)
	entries := []struct{ level, text string }{
		{"DEBUG", "[DEBUG][2024-11-22 06:36:01,001][7][psi.run][line:3]: d"},
		{"INFO", "[INFO][2024-11-22 06:36:01,002][7][psi.run][line:4]: i"},
		{"ERROR",
			"[ERROR][2024-11-22 06:36:01,003][7][psi.run][line:5]: e\nTraceback (most recent call last):\n" +
				"  File \"psi.py\", line 5, in run\nKeyError: 'key'"},
	}
	var want []string
	levels := []string{"DEBUG", "INFO", "WARNING", "ERROR"}
	for _, e := range entries {
		want = append(want, strings.Split(e.text, "\n")...)
		for _, folder := range []string{"component", "guest", "root"} {
			for _, level := range levels {
				r.append("logs/7/"+folder+"/"+level, e.text+"\n")
				if level == e.level {
					break
				}
			}
		}
		if e.level == "INFO" {
			require.Equal(t, want, r.new())
			r.seen = 0
			r.out.Reset()
			want = nil
		}
	}
	require.Equal(t, want, r.new())
}

// TestLogFilesHaveALimit reports files that exceed the limit, once, also those that are no logs.
func TestLogFilesHaveALimit(t *testing.T) {
	r := readFiles(t, 1<<20)
	r.append("model.pkl", strings.Repeat("x", 900<<10))
	r.new()
	require.Empty(t, r.overflow)
	r.append("psi.log", strings.Repeat("x", 900<<10))
	r.new()
	require.Len(t, r.overflow, 1)
	r.new()
	require.Greater(t, <-r.overflow, int64(1<<20))
}

// TestManyLogFiles bounds what is read, and says so.
func TestManyLogFiles(t *testing.T) {
	r := readFiles(t, 0)
	for i := range maxFollowedFiles + 10 {
		r.append(fmt.Sprintf("%04d.log", i), "line\n")
	}
	lines := r.new()
	require.Len(t, lines, maxFollowedFiles+1)
	require.Contains(t, lines[maxFollowedFiles], `level=WARN msg="hutong: more than 500 log files`)
	require.Empty(t, r.new())
}

// scriptedDriver writes lines, and an unfinished one, on demand.
type scriptedDriver struct {
	folderDriver
	lines      chan string
	unfinished chan string
}

func (d scriptedDriver) Logs(ctx context.Context, _ string, _ bool, w io.Writer) error {
	for line := range d.lines {
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (d scriptedDriver) Unfinished(ctx context.Context, _ string, show func([]byte)) error {
	for {
		select {
		case line := <-d.unfinished:
			show([]byte(line))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TestLogIsStoredWithinASecond follows a container and reads from the storage what it writes: output, files,
// and a line that it does not end.
func TestLogIsStoredWithinASecond(t *testing.T) {
	s := newStorage(t)
	d := scriptedDriver{folderDriver{folder: t.TempDir()}, make(chan string), make(chan string)}
	r := &Runner{Blobs: s}
	log := r.newContainerLog(t.Context(), d, "container", slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- log.follow(t.Context()) }()

	stored := func(want string, read func() string) {
		began := time.Now()
		require.Eventually(t, func() bool { return strings.Contains(read(), want) }, 20*time.Second,
			10*time.Millisecond, want)
		if took := time.Since(began); took > time.Second {
			t.Logf("%s took %s; the machine is busy", want, took)
		}
	}
	whole := func() string { return readLog(t, s) }
	bar := func() string {
		log, err := activities.OpenLog(t.Context(), s, "container")
		require.NoError(t, err)
		line, err := log.Unfinished(t.Context())
		require.NoError(t, err)
		return line
	}
	d.lines <- "2026-11-23T04:00:00.000000000Z one\n"
	stored("Z one\n", whole)
	require.NoError(t, os.WriteFile(filepath.Join(d.folder, "psi.log"), []byte("two\n"), 0o600))
	stored("Z two\n", whole)
	d.unfinished <- "2026-11-23T04:00:01.000000000Z 33%"
	stored("33%", bar)
	d.unfinished <- "2026-11-23T04:00:01.000000000Z 66%"
	stored("66%", bar)
	require.NotContains(t, whole(), "%")
	d.unfinished <- ""
	require.Eventually(t, func() bool { return bar() == "" }, 20*time.Second, 10*time.Millisecond)

	// What a container writes last, before it dies.
	d.unfinished <- "2026-11-23T04:00:01.000000000Z 99%"
	require.NoError(t, os.WriteFile(filepath.Join(d.folder, "last.log"), []byte("fatal: last words"), 0o600))
	close(d.lines)
	require.NoError(t, <-done)
	require.Empty(t, bar())
	require.Equal(t, []string{"one", "two", "fatal: last words"}, mergedLines(whole()))
	require.Equal(t, []string{"one", "two", "fatal: last words"}, log.lastLines())
	require.Less(t, logFlushEvery+maxFileScan/fileScanFactor, time.Second)
}

// FuzzMerge checks that no output, in no pieces, breaks the lines of a log.
func FuzzMerge(f *testing.F) {
	f.Add("t a\rb\nt \x1b[A\nc", 2)
	f.Add("\n\r\b \x1b[A", 1)
	f.Fuzz(func(t *testing.T, text string, size int) {
		text = "t " + strings.ReplaceAll(text, "\n", "\nt ")
		var whole, pieces bytes.Buffer
		one, many := &logMerge{out: &whole}, &logMerge{out: &pieces}
		_, err := one.source().Write([]byte(text))
		require.NoError(t, err)
		source := many.source()
		for rest := text; rest != ""; {
			n := min(max(size%16, 1), len(rest))
			_, err := source.Write([]byte(rest[:n]))
			require.NoError(t, err)
			rest = rest[n:]
		}
		one.finish()
		many.finish()
		require.Equal(t, whole.String(), pieces.String())
		for line := range strings.Lines(whole.String()) {
			require.True(t, strings.HasSuffix(line, "\n"))
			require.NotContains(t, line, "\r")
		}
	})
}

// BenchmarkMerge merges lines of a usual logger.
func BenchmarkMerge(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text,
			"2026-11-23T04:00:00.%09dZ 2026-11-23 04:00:00,%03d|alice|INFO|secretflow|psi.py:88| row\n", i, i)
	}
	lines := []byte(text.String())
	b.SetBytes(int64(len(lines)))
	source := (&logMerge{out: io.Discard}).source()
	for b.Loop() {
		_, _ = source.Write(lines)
	}
}
