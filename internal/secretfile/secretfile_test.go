package secretfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want, problem string
	}{
		{"plain", "s3cret", 0o600, "s3cret", ""},
		{"newline", "s3cret\n", 0o400, "s3cret", ""},
		{"newline of Windows", "s3cret\r\n", 0o400, "s3cret", ""},
		{"one newline only", "s3cret \n\n", 0o440, "s3cret \n", ""},
		{"others read", "s3cret", 0o644, "", "mode 0644): run chmod o= "},
		{"others write", "s3cret", 0o602, "", "mode 0602"},
		{"empty", "\n", 0o600, "", "is empty"},
		{"large", strings.Repeat("x", MaxBytes+1), 0o600, "", "larger than a secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			require.NoError(t, os.WriteFile(path, []byte(c.content), 0o600))
			require.NoError(t, os.Chmod(path, c.mode))
			got, err := Read(path)
			if c.problem == "" {
				require.NoError(t, err)
				assert.Equal(t, c.want, string(got))
				return
			}
			require.ErrorContains(t, err, c.problem)
			require.ErrorContains(t, err, path)
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestReadRefusesOtherThanFiles(t *testing.T) {
	dir := t.TempDir()
	_, err := Read(dir)
	require.ErrorContains(t, err, "is not a regular file")
	_, err = Read(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err = Read(pipe)
	require.ErrorContains(t, err, "is not a regular file")
}
