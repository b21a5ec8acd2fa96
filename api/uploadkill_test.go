package api

import (
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// A file has no name while it is uploaded. So nothing of it is left, however this process ends.
func TestUploadLeavesNothingWhenKilled(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("this system does not list open files")
	}
	p := newParty(t)
	body, send := io.Pipe()
	form := multipart.NewWriter(send)
	done := make(chan struct{})
	go func() {
		defer close(done)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			"http://"+p.address+bfia.PathComponentFile, body)
		if err != nil {
			return
		}
		request.Header.Set("Content-Type", form.FormDataContentType())
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
		}
	}()
	part, err := form.CreateFormFile("file", "rows.csv")
	require.NoError(t, err)
	_, err = part.Write([]byte(strings.Repeat("id,x\n", 1<<14)))
	require.NoError(t, err)
	require.Eventually(t, func() bool { // it is under way
		open, err := filepath.Glob("/proc/self/fd/*")
		require.NoError(t, err)
		for _, fd := range open {
			if file, err := os.Readlink(fd); err == nil &&
				strings.HasPrefix(file, filepath.Join(p.temp, "upload-")) &&
				strings.HasSuffix(file, "(deleted)") {
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond)
	left, err := os.ReadDir(p.temp)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, send.CloseWithError(io.ErrUnexpectedEOF))
	<-done
}
