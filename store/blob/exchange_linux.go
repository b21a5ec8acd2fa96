package blob

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange swaps the folder at path with the one that is called name in dir, in one step.
func exchange(path string, dir int, name string) error {
	return unix.Renameat2(unix.AT_FDCWD, path, dir, name, unix.RENAME_EXCHANGE)
}

// exchangeUnsupported: the kernel or this file system (NFS, for one) can't.
func exchangeUnsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP)
}
