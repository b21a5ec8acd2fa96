package process

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLogWriterKeepsLastLines(t *testing.T) {
	t.Parallel()
	dir := folder(t.TempDir())
	log, err := newLogWriter(dir, 1000)
	require.NoError(t, err)
	var all strings.Builder
	for i := range 100 {
		log.add(fmt.Appendf(nil, "%d\npart", i), time.Now())
	}
	log.finish()
	log.close()
	for _, file := range []string{olderFile, outputFile} {
		raw, err := os.ReadFile(dir.path(file))
		require.NoError(t, err)
		require.LessOrEqual(t, len(raw), 500)
		all.Write(raw)
	}
	require.True(t, strings.HasSuffix(all.String(), "Z part\n"), "the last line is complete")
	require.Contains(t, all.String(), "Z part99\n")
	require.NotContains(t, all.String(), "Z part9\n")
}

func TestLogReaderReadsEachLineOnce(t *testing.T) {
	t.Parallel()
	dir := folder(t.TempDir())
	var out bytes.Buffer
	reader := &logReader{f: dir, w: &out}
	defer func() { reader.close() }()
	require.NoError(t, reader.read(), "no file exists yet")
	log, err := newLogWriter(dir, 1000)
	require.NoError(t, err)
	defer func() { log.close() }()
	for i := range 200 {
		log.add(fmt.Appendf(nil, "<%d>\n", i), time.Now())
		// Read at most as often as the log is rotated. Every line that is not deleted must be read.
		if i%7 == 0 {
			require.NoError(t, reader.read())
		}
	}
	require.NoError(t, reader.read())
	for i := range 200 {
		require.Equal(t, 1, strings.Count(out.String(), fmt.Sprintf(" <%d>\n", i)), i)
	}
}
