package api

import (
	"bufio"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// resident returns the process's resident memory in bytes, or 0 on a system that does not report it.
func resident() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// An upload needs the same memory for a file of any size. HUTONG_TEST_UPLOAD_MIB=1024 tests a large one.
func TestLargeUpload(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	if raceEnabled {
		t.Skip(
			"the race detector's own memory is many times the program's; 'make test' runs this also without it",
		)
	}
	size := int64(256 << 20)
	if word := os.Getenv("HUTONG_TEST_UPLOAD_MIB"); word != "" {
		n, err := strconv.ParseInt(word, 10, 64)
		require.NoError(t, err)
		size = n << 20
	}
	p := newParty(t, func(c *Config) { c.MaxUploadBytes = 2 * size })
	for _, chunked := range []bool{false, true} {
		upload(t, p, size, chunked)
	}
}

func upload(t *testing.T, p *party, size int64, chunked bool) {
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	const row = ",0.123456789,-1.23456789,0.333333333,12.3456789,0.000012345,1,0,99.5\n"
	rowsWanted := size / int64(len(row)+12)
	go func() {
		_ = w.CloseWithError(func() error {
			file, err := form.CreateFormFile("file", "large.csv")
			if err != nil {
				return err
			}
			out := bufio.NewWriterSize(file, 64<<10)
			if _, err := out.WriteString("id,a,b,c,d,e,f,g,h\n"); err != nil {
				return err
			}
			for i := range rowsWanted {
				if _, err := fmt.Fprintf(out, "%012d%s", i, row); err != nil {
					return err
				}
			}
			if err := out.Flush(); err != nil {
				return err
			}
			for _, f := range [][2]string{{"namespace", "n"}, {"name", "large"}, {"partitions", "16"}} {
				if err := form.WriteField(f[0], f[1]); err != nil {
					return err
				}
			}
			return form.Close()
		}())
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"http://"+p.address+bfia.PathComponentFile, r)
	require.NoError(t, err)
	req.Header.Set("Content-Type", form.FormDataContentType())
	if !chunked {
		// The form's length is what its parts are: taken from one of the same form around nothing.
		var frame counter
		dry := multipart.NewWriter(&frame)
		require.NoError(t, dry.SetBoundary(form.Boundary()))
		_, err := dry.CreateFormFile("file", "large.csv")
		require.NoError(t, err)
		for _, f := range [][2]string{{"namespace", "n"}, {"name", "large"}, {"partitions", "16"}} {
			require.NoError(t, dry.WriteField(f[0], f[1]))
		}
		require.NoError(t, dry.Close())
		req.ContentLength = int64(frame) + int64(len("id,a,b,c,d,e,f,g,h\n")) + rowsWanted*int64(len(row)+12)
	}

	runtime.GC()
	before := resident()
	var most int64
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				most = max(most, resident())
			}
		}
	})
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	took := time.Since(began)
	close(stop)
	watch.Wait()
	require.NoError(t, err)
	reply := p.read(req, resp)
	require.Equal(t, 200, reply.Status, "%s", reply.Body)
	var table struct{ Count int64 }
	reply.into(&table)
	require.Equal(t, rowsWanted, table.Count)
	t.Logf("%d MiB, chunked %v: %.1f s, %.0f MiB/s, memory grew by %d MiB", size>>20, chunked, took.Seconds(),
		float64(size>>20)/took.Seconds(), (most-before)>>20)
	require.Less(t, most-before, int64(150<<20))
	left, err := os.ReadDir(p.temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

// counter counts what is written.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
