package driver

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"syscall"
)

// A LockDir gives locks by name to all processes of the host. The kernel gives a
// lock back when its holder dies, however it dies.
//
// Names share a fixed number of files, so that nothing is left to clean up; so
// whoever holds one lock must not ask for a second.
type LockDir string

const lockFiles = 1024

// lock waits for the lock of name. Call the function it returns to give it back.
func (d LockDir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	hash := fnv.New32a()
	hash.Write([]byte(name))
	file := filepath.Join(string(d), fmt.Sprintf("%03x.lock", hash.Sum32()%lockFiles))
	if err := d.ensure(); err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	// Closing gives the lock back.
	unlock = func() { _ = f.Close() }
	switch err := Flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return unlock, nil
	case syscall.EWOULDBLOCK:
	default:
		unlock()
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	locked := make(chan error, 1)
	go func() { locked <- Flock(f, syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			unlock()
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		return unlock, nil
	case <-ctx.Done():
		go func() { <-locked; _ = f.Close() }()
		return nil, ctx.Err()
	}
}

// ensure makes the directory, which may lie where everybody can write: one that
// somebody else put there must not be used, for what links it may hold.
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

func Flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}
