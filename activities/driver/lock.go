package driver

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"syscall"
)

// LockDir provides named locks that all processes of the runner share. The kernel releases a lock when its
// holder dies, for whatever reason.
//
// Names are hashed to a fixed number of lock files, so that no files accumulate. The holder of one lock must
// therefore not request a second one.
type LockDir string

const lockFiles = 1024

// Lock waits for the lock of a name. The returned function releases it.
func (d LockDir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	hash := fnv.New32a()
	hash.Write([]byte(name))
	file := filepath.Join(string(d), fmt.Sprintf("%03x.lock", hash.Sum32()%lockFiles))

	if err := d.ensure(); err != nil {
		return nil, fmt.Errorf("failed to open lock: %w", err)
	}

	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("failed to open lock: %w", err)
	}

	unlock = func() { _ = f.Close() } // closing releases the lock

	switch err := Flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return unlock, nil
	case syscall.EWOULDBLOCK:
	default:
		unlock()
		return nil, fmt.Errorf("failed to lock %s: %w", file, err)
	}

	locked := make(chan error, 1)
	go func() { locked <- Flock(f, syscall.LOCK_EX) }()

	select {
	case err := <-locked:
		if err != nil {
			unlock()
			return nil, fmt.Errorf("failed to lock %s: %w", file, err)
		}

		return unlock, nil
	case <-ctx.Done():
		go func() { <-locked; _ = f.Close() }()

		return nil, ctx.Err()
	}
}

// ensure creates the directory. Its parent may be writable by everybody, so a directory of another user is
// refused because of the links that it may contain.
func (d LockDir) ensure() error {
	info, err := os.Lstat(string(d))
	if os.IsNotExist(err) {
		if err := os.MkdirAll(string(d), 0o700); err != nil {
			return err
		}

		info, err = os.Lstat(string(d))
	}
	if err != nil {
		return err
	}

	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return NonRetryablef("%s must be a directory that only this user can write to; remove it", string(d))
	}

	return nil
}

// Flock calls flock(2) and repeats it after interrupts.
func Flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}
