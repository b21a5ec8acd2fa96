package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"hutong/activities"
	"hutong/activities/logline"
	"hutong/store/blob"
)

// logIndex caches how many lines of each level the final chunks of logs have. So a client that follows a long
// log makes the server read new lines only, and not the whole log with each request. The zero value is ready
// to use.
type logIndex struct {
	mu     sync.Mutex
	chunks map[string]chunkIndex // by key
}

// chunkIndex describes a final chunk.
type chunkIndex struct {
	size int64
	// lines counts the lines of each level or a higher one.
	lines [logline.Error + 1]int
	// next is the state of the classifier after the chunk.
	next logline.Classifier
}

// maxIndexed bounds the chunks in the index: about 16 MiB of memory, for 16 GiB of logs.
const maxIndexed = 1 << 16

func (i *logIndex) get(chunk blob.Info) (chunkIndex, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, ok := i.chunks[chunk.Key]
	return known, ok && known.size == chunk.Size
}

func (i *logIndex) put(chunk blob.Info, index chunkIndex) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.chunks == nil || len(i.chunks) >= maxIndexed {
		i.chunks = map[string]chunkIndex{} // what is still read is soon there again
	}
	index.size = chunk.Size
	i.chunks[chunk.Key] = index
}

// logReader reads a container's log by level.
type logReader struct {
	*activities.Log
	index *logIndex
}

// count returns the number of lines that have a level or a higher one.
func (r *logReader) count(ctx context.Context, level logline.Level) (int, error) {
	return r.read(ctx, level, 1<<31-1, func(string) bool { return true })
}

// read visits the lines that have a level or a higher one, without the first start ones, until visit returns
// false. It returns how many it skipped.
func (r *logReader) read(ctx context.Context, level logline.Level, start int, visit func(string) bool,
) (skipped int, err error) {
	var classifier logline.Classifier
	for i, chunk := range r.Chunks {
		final := i < len(r.Chunks)-1
		if final {
			known, ok := r.index.get(chunk)
			if ok && skipped+known.lines[level] <= start {
				skipped += known.lines[level]
				classifier = known.next
				continue
			}
		}
		counted := chunkIndex{}
		more, err := r.scanChunk(ctx, i, &classifier, func(line string, of logline.Level) bool {
			for l := range of + 1 {
				counted.lines[l]++
			}
			if of < level {
				return true
			}
			if skipped < start {
				skipped++
				return true
			}
			return visit(line)
		})
		if err != nil || !more {
			return skipped, err
		}
		if final {
			counted.next = classifier
			r.index.put(chunk, counted)
		}
	}
	return skipped, nil
}

// scanChunk visits the lines of a chunk with their levels.
func (r *logReader) scanChunk(ctx context.Context, i int, classifier *logline.Classifier,
	visit func(string, logline.Level) bool) (more bool, err error) {
	chunk, err := r.Chunk(ctx, i)
	if err != nil {
		return false, err
	}
	defer func() { _ = chunk.Close() }()
	return scanLog(chunk, classifier, visit)
}

// unfinishedLine returns the line that the container has not ended yet, if its level is high enough. A line
// that can't be read is left out: it is soon written whole.
func (r *logReader) unfinishedLine(ctx context.Context, level logline.Level) string {
	line, err := r.Unfinished(ctx)
	var classifier logline.Classifier
	if err != nil || line == "" || classifier.Next(line) < level {
		return ""
	}
	return strings.ToValidUTF8(line, "\uFFFD")
}

// scanLog visits the lines of a log with their levels, until visit returns false.
func scanLog(r io.Reader, classifier *logline.Classifier, visit func(string, logline.Level) bool) (more bool,
	err error) {
	br := bufio.NewReaderSize(r, maxLogLine)
	for {
		line, cut, err := readLogLine(br)
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			level := classifier.Next(text)
			if cut {
				text += "…"
			}
			if !visit(strings.ToValidUTF8(text, "\uFFFD"), level) {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// maxLogLine bounds the bytes of a line that are returned. A container may write endless lines.
const maxLogLine = 64 << 10

// readLogLine reads a line and returns what fits into the reader's buffer. The result is valid until the next
// read.
func readLogLine(br *bufio.Reader) (line []byte, cut bool, err error) {
	line, err = br.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, false, err
	}
	line = bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = br.ReadSlice('\n')
	}
	return line, true, err
}
