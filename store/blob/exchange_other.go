//go:build !linux

package blob

import (
	"errors"

	"golang.org/x/sys/unix"
)

func exchange(string, int, string) error { return unix.ENOTSUP }

func exchangeUnsupported(err error) bool { return errors.Is(err, unix.ENOTSUP) }
