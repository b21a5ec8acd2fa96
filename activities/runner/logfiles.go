package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"hutong/activities/driver"
	"hutong/activities/logline"
)

// logFiles reads the files that a container writes below config.log.path as parts of its log.
type logFiles struct {
	driver   driver.Driver
	name     string
	merge    *logMerge
	limit    int64 // bytes of all files together; 0: none
	overflow chan<- int64
	bytes    *atomic.Int64

	states map[string]*logFileState // by id or name
	noted  map[string]bool          // problems that the log mentions
	source *logSource               // of notes
}

// logFileState is how far a file was read.
type logFileState struct {
	source  *logSource
	offset  int64
	line    []byte // the incomplete line
	binary  bool
	skipped bool // it is no log
}

const (
	// A scan of the files is repeated after fileScanFactor times as long as it took, within these limits. A
	// remote Docker Engine takes longer than a folder of this machine.
	minFileScan, maxFileScan = 200 * time.Millisecond, 10 * time.Second
	fileScanFactor           = 20
	// fileQuantum bounds what is read of one file at a time, so that copies of an entry in several files are
	// read close to each other. fileQuantumRemote is that of files that can't be read from the middle.
	fileQuantum, fileQuantumRemote = 1 << 20, 32 << 20
	// maxFollowedFiles bounds the files that are read.
	maxFollowedFiles = 500
)

// follow reads the files until ctx ends.
func (f *logFiles) follow(ctx context.Context) {
	for {
		began := time.Now()
		_ = f.readAll(ctx) // finish reports what lasts
		pause := min(max(fileScanFactor*time.Since(began), minFileScan), maxFileScan)
		if driver.Sleep(ctx, pause) != nil {
			return
		}
	}
}

// finish reads the rest, after the container's end.
func (f *logFiles) finish(ctx context.Context) error {
	err := f.readAll(ctx)
	for _, state := range f.states {
		f.endLine(state)
	}
	return err
}

// readAll reads what is new, in several scans if it is much.
func (f *logFiles) readAll(ctx context.Context) error {
	for {
		more, err := f.scan(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// scan reads a part of what is new. more reports that there is more.
func (f *logFiles) scan(ctx context.Context) (more bool, err error) {
	var total int64
	seen := map[string]bool{}
	var names []string
	err = f.driver.ScanLogFiles(ctx, f.name, func(file driver.LogFile) error {
		total += file.Disk
		names = append(names, file.Name)
		key := file.ID
		if key == "" {
			key = file.Name
		}
		seen[key] = true
		rest, err := f.read(key, file, names)
		more = more || rest
		if err != nil {
			f.note(file.Name, fmt.Sprintf("hutong: failed to read the log file %s: %v", file.Name, err))
		}
		return ctx.Err()
	})
	if errors.Is(err, driver.ErrTooManyLogFiles) {
		f.note("", "hutong: failed to read all log files: "+driver.ErrTooManyLogFiles.Error())
		err = nil
	}
	if err == nil {
		f.forget(seen)
	}
	if f.limit > 0 && total > f.limit {
		select {
		case f.overflow <- total:
		default: // it was reported
		}
	}
	return more && err == nil, err
}

// forget drops the states of files that are gone.
func (f *logFiles) forget(seen map[string]bool) {
	for key, state := range f.states {
		if !seen[key] {
			f.endLine(state)
			delete(f.states, key)
		}
	}
}

// read reads a part of what is new in a file, and reports whether there is more.
func (f *logFiles) read(key string, file driver.LogFile, names []string) (more bool, err error) {
	state := f.states[key]
	if state == nil {
		if len(f.states) >= maxFollowedFiles {
			f.note("many", fmt.Sprintf("hutong: more than %d log files; the others are not read",
				maxFollowedFiles))
			return false, nil
		}
		if f.states == nil {
			f.states = map[string]*logFileState{}
		}
		state = &logFileState{skipped: !isLogFile(file.Name, names)}
		f.states[key] = state
	}
	if file.Size < state.offset { // it was truncated, or replaced
		f.endLine(state)
		state.offset, state.binary = 0, false
	}
	if state.skipped || state.binary || file.Size == state.offset {
		return false, nil
	}
	if state.source == nil {
		state.source = f.merge.source()
	}
	quantum := int64(fileQuantum)
	if file.ID == "" {
		quantum = fileQuantumRemote
	}
	w := &fileWriter{files: f, state: state, left: quantum}
	err = file.Copy(w, state.offset)
	if errors.Is(err, errQuantum) {
		return !state.binary, nil
	}
	return false, err
}

// endLine adds the incomplete line of a file.
func (f *logFiles) endLine(state *logFileState) {
	if len(state.line) > 0 && state.source != nil {
		_, _ = state.source.Write(appendLine(nil, state.line))
	}
	state.line = nil
}

// appendLine appends a line that was read now, with its time.
func appendLine(batch, line []byte) []byte {
	line = bytes.Trim(line, "\x00") // a hole, after a program truncated its file
	batch = append(time.Now().UTC().AppendFormat(batch, driver.LogTimeFormat), ' ')
	return append(append(batch, line...), '\n')
}

// note adds a line about a problem to the log, once.
func (f *logFiles) note(problem, text string) {
	if f.noted[problem] || len(f.noted) >= 20 {
		return
	}
	if f.noted == nil {
		f.noted = map[string]bool{}
		f.source = f.merge.source()
	}
	f.noted[problem] = true
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
	_, _ = fmt.Fprintf(f.source, "%s level=WARN msg=%q\n", time.Now().UTC().Format(driver.LogTimeFormat),
		text)
}

var errQuantum = errors.New("enough of this file for now")

// fileWriter splits a file into lines.
type fileWriter struct {
	files *logFiles
	state *logFileState
	left  int64
}

// Write implements [io.Writer].
func (w *fileWriter) Write(b []byte) (int, error) {
	s := w.state
	if w.left <= 0 {
		return 0, errQuantum
	}
	if s.offset == 0 && isBinary(b[:min(len(b), 4<<10)]) {
		s.binary = true
		return 0, errQuantum
	}
	n := len(b)
	s.offset += int64(n)
	w.left -= int64(n)
	w.files.bytes.Add(int64(n))
	var batch []byte
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		if left := driver.MaxLogLine - len(s.line); len(line) > left {
			line, rest, ended = b[:left], b[left:], true
		}
		b = rest
		s.line = append(s.line, line...)
		if ended {
			batch = appendLine(batch, s.line)
			s.line = s.line[:0]
		} else {
			s.line = logline.Compact(s.line)
		}
	}
	// All at once: lines of other sources must not come between those of an entry.
	if len(batch) > 0 {
		w.files.merge.awaitQuiet(s.source)
		_, _ = s.source.Write(batch)
	}
	return n, nil
}

var _ io.Writer = (*fileWriter)(nil)

// isBinary reports whether the start of a file is not of text. Text of no encoding has many control
// characters, but not every log is in UTF-8.
func isBinary(start []byte) bool {
	controls := 0
	for _, c := range start {
		switch {
		case c == 0:
			return true
		case c == 0x7f || c < ' ' && (c < '\a' || c > '\r') && c != '\x1b':
			controls++
		}
	}
	return controls*50 > len(start)
}

// dataSuffixes lists the ends of names of files that are no logs. Data must not get into a log.
var dataSuffixes = []string{
	".yaml", ".yml", ".csv", ".tsv", ".parquet", ".arrow", ".npy", ".npz", ".pkl", ".pickle", ".pt",
	".pth", ".onnx", ".h5", ".model", ".pid", ".lock", ".sock", ".gz", ".zip", ".tar", ".bz2", ".xz",
	".zst", ".png", ".html", ".pem", ".key", ".db", ".sqlite", ".swp", ".tmp",
}

// isLogFile reports whether a file below config.log.path is a part of the log. names are those before it in
// the order of the scan, which is by name.
func isLogFile(name string, names []string) bool {
	folder, base := path.Split(name)
	lower := strings.ToLower(base)
	if strings.HasPrefix(base, ".") ||
		slices.ContainsFunc(dataSuffixes, func(suffix string) bool {
			return strings.HasSuffix(lower,
				suffix)
		}) {
		return false
	}
	// FATE's containers keep their inputs and outputs at jobs/<task id>/<role>/ in the same folder. Only what
	// their processes print there belongs to the log.
	if parts := strings.Split(name, "/"); len(parts) >= 5 && parts[0] == "jobs" &&
		(parts[3] == "input" || parts[3] == "output") {
		return len(parts) == 5 && (strings.HasPrefix(base, "std") || base == "task_execute")
	}
	// Of FATE's files DEBUG, INFO, WARNING and ERROR each has all of the next.
	if _, isLevel := fateLevels[base]; isLevel {
		return !slices.ContainsFunc(names, func(other string) bool {
			rank, ok := fateLevels[path.Base(other)]
			return ok && rank < fateLevels[base] && strings.TrimSuffix(other, path.Base(other)) == folder
		})
	}
	return true
}

var fateLevels = map[string]int{"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3}
