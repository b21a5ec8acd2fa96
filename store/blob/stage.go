package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"hutong/bfia"
)

// tmp is the folder of what is not yet an object. It is in the store's own file system, so that a rename
// publishes it.
const tmp = ".tmp"

// stage is a folder .tmp/<uuid> in which a file or folder, called "data", is prepared. Its owner holds a lock
// on it, which the kernel releases when the process ends; [File.Sweep] removes an unlocked stage.
type stage struct {
	dir  string
	lock *os.File
}

func (f *File) newStage() (*stage, error) {
	dir := filepath.Join(f.root, tmp, uuid.NewString())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}

	s := &stage{dir: dir}
	locked, err := s.tryLock()
	if err == nil && !locked {
		err = errors.New("another process has locked the new stage")
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *stage) data() string { return filepath.Join(s.dir, "data") }

// tryLock locks the stage and reports whether it did; it does not when another process holds the lock.
func (s *stage) tryLock() (bool, error) {
	lock, err := os.Open(s.dir)
	if err != nil {
		return false, err
	}

	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, err
	}
	s.lock = lock
	return true, nil
}

// remove removes the stage with its content. Sweep removes later what can't be removed now.
func (s *stage) remove() {
	os.RemoveAll(s.dir)
	s.lock.Close()
}

// write writes the content of r to the stage's data file, and syncs it.
func (s *stage) write(ctx context.Context, r io.Reader) error {
	file, err := os.OpenFile(s.data(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}

	_, err = io.Copy(file, contextReader{ctx, r})
	if err == nil {
		err = errors.Join(file.Chmod(0o644), file.Sync())
	}
	return errors.Join(err, file.Close())
}

// Create implements [Store]. The folder that fill writes to is on the store's own file system; one rename
// publishes it.
func (f *File) Create(ctx context.Context, prefix string, fill func(dir string) error) error {
	if err := CheckKey(prefix); err != nil {
		return err
	}
	s, err := f.newStage()
	if err != nil {
		return diskError(err, "create", prefix)
	}
	defer s.remove()
	if err := os.Mkdir(s.data(), 0o755); err != nil {
		return diskError(err, "create", prefix)
	}

	if err := fill(s.data()); err != nil {
		if IsDiskFull(err) {
			return storageFull(err)
		}
		return err
	}
	err = ctx.Err()
	if err == nil {
		err = syncTree(s.data())
	}
	if err == nil {
		err = f.moveTo(s.data(), prefix)
	}

	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		return bfia.Wrap(bfia.CodeConflict, err, "storage: %s already exists", prefix)
	}
	if err != nil {
		return diskError(err, "create", prefix)
	}
	return nil
}

// Sweep implements [Store]. It leaves alone, at any age, what a living process prepares: the process holds
// its lock.
func (f *File) Sweep(ctx context.Context, age time.Duration) error {
	entries, err := os.ReadDir(filepath.Join(f.root, tmp))
	if err != nil {
		return fmt.Errorf("storage: failed to sweep: %w", err)
	}

	var failed []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failed, err)...)
		}
		err := sweepStage(&stage{dir: filepath.Join(f.root, tmp, e.Name())}, age)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, fmt.Errorf("storage: failed to sweep: %w", err))
		}
	}
	return errors.Join(failed...)
}

func sweepStage(s *stage, age time.Duration) error {
	info, err := os.Lstat(s.dir)
	if err != nil {
		return err
	}
	if time.Since(info.ModTime()) < age {
		return nil
	}

	locked, err := s.tryLock()
	if err != nil || !locked {
		return err
	}
	defer s.lock.Close()
	return os.RemoveAll(s.dir)
}

// syncTree syncs a folder with its content to disk, and makes it readable for the users that containers run
// as.
func syncTree(top string) error {
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() {
			mode = 0o755
		}
		if err := os.Chmod(p, mode); err != nil {
			return err
		}
		return syncPath(p)
	})
}

func syncPath(p string) error {
	file, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
