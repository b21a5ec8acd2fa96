package blob

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"hutong/bfia"
)

// IsDiskFull reports whether a write failed because a disk, or the quota of its user, is full.
func IsDiskFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// IsStorageFull reports whether a store, a folder or S3, did not take an object because it has no space left.
func IsStorageFull(err error) bool {
	var full fullError
	return errors.As(err, &full)
}

// fullError is the cause of an error of a store that has no space left.
type fullError struct{ error }

// Unwrap returns the cause.
func (f fullError) Unwrap() error { return f.error }

// diskError adds to an error of the file system which operation failed. A full disk becomes CodeUnavailable,
// since the same write succeeds once there is space.
func diskError(err error, doing, key string) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("storage: failed to %s %s: %w", doing, key, err)
	if IsDiskFull(err) {
		return storageFull(err)
	}
	return err
}

func storageFull(cause error) error {
	var known *bfia.Error
	if errors.As(cause, &known) {
		return cause
	}
	return bfia.Unavailable(bfia.WaitsForStorage, fullError{cause},
		"the storage has no space left on its disk")
}

// isFullS3 reports whether an S3 server has no space, or the bucket's quota is full.
func isFullS3(resp minio.ErrorResponse) bool {
	return resp.StatusCode == http.StatusInsufficientStorage || strings.Contains(resp.Code, "StorageFull") ||
		strings.Contains(resp.Code, "QuotaExceeded")
}
