// Package secretfile reads secrets from files that only their owner and its group may read, as Kubernetes,
// Docker and systemd mount them.
package secretfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// MaxBytes bounds a secret. A larger file is not one.
const MaxBytes = 64 << 10

// Read returns the content of a file without the newline at its end. It fails if other users of the machine
// may read or change the file, if it is empty, if it is no regular file, or if it is larger than [MaxBytes].
// Errors name the path, and never hold the content.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path) // before the open, which would wait at a named pipe
	if err != nil {
		return nil, fmt.Errorf("failed to read the secret: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("failed to read the secret: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("failed to read the secret: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("every user of this machine may use %s (mode %04o): run chmod o= %s, or mount it "+
			"with mode 0440", path, mode, path)
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("failed to read the secret: %w", err)
	}
	if len(content) > MaxBytes {
		return nil, fmt.Errorf("%s is larger than a secret may be (%d bytes)", path, MaxBytes)
	}
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(content) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return content, nil
}
