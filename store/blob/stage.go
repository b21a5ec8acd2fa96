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
)

// tmp is the folder of what is not yet, or no longer, an object. It is in the store's own file system, for renames.
const tmp = ".tmp"

// stage is a folder .tmp/<uuid> in which something is prepared. Whoever works on it holds a lock on it, which ends with
// the process; an unlocked one was left behind, or is what a Replace put aside. In it are:
//
//	data     the file or folder that is prepared; after an exchange, what it replaced
//	target   the prefix that data goes to, from the moment that it is complete
//	old      what data replaces, where the file system can't exchange
type stage struct {
	dir  string
	lock *os.File
}

func (f *File) stage() (*stage, error) {
	dir := filepath.Join(f.root, tmp, uuid.NewString())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	s := &stage{dir: dir}
	locked, err := s.tryLock()
	if err == nil && !locked {
		err = errors.New("the new stage is locked by another process")
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *stage) data() string { return filepath.Join(s.dir, "data") }

func (s *stage) old() string { return filepath.Join(s.dir, "old") }

// tryLock locks the stage, and tells whether nobody else has it.
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

// remove ends a stage with all that is in it. What can't be removed now, Sweep removes later.
func (s *stage) remove() {
	os.RemoveAll(s.dir)
	s.lock.Close()
}

// keep ends a stage and leaves what is in it to Sweep, which counts its age from now.
func (s *stage) keep() error {
	now := time.Now()
	return errors.Join(os.Chtimes(s.dir, now, now), s.lock.Close())
}

// write makes data a file with the content of r, durably.
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

// Replace implements [Store]. The folder that fill is given is on the store's own file system.
func (f *File) Replace(ctx context.Context, prefix string, fill func(dir string) error) error {
	if err := CheckKey(prefix); err != nil {
		return err
	}
	s, err := f.stage()
	if err != nil {
		return fmt.Errorf("storage: replace %s: %w", prefix, err)
	}
	if err := os.Mkdir(s.data(), 0o755); err != nil {
		s.remove()
		return fmt.Errorf("storage: replace %s: %w", prefix, err)
	}
	if err := fill(s.data()); err != nil {
		s.remove()
		return err
	}
	err = ctx.Err()
	if err == nil {
		err = syncTree(s.data())
	}
	if err == nil {
		err = s.commit(prefix)
	}
	if err != nil {
		s.remove()
		return fmt.Errorf("storage: replace %s: %w", prefix, err)
	}
	replaced, err := f.swap(s, prefix)
	switch {
	case err != nil:
		// Sweep completes it, if it was half done.
		err = errors.Join(err, s.lock.Close())
	case replaced:
		err = s.keep()
	default:
		s.remove()
	}
	if err != nil {
		return fmt.Errorf("storage: replace %s: %w", prefix, err)
	}
	return nil
}

// commit writes down where data goes.
func (s *stage) commit(prefix string) error {
	file, err := os.OpenFile(filepath.Join(s.dir, "target"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(prefix)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close(), syncDir(s.dir))
}

// swap brings data to its place, and tells whether something was there, which then is in the stage.
func (f *File) swap(s *stage, prefix string) (replaced bool, err error) {
	for range lostRaces {
		dir, name, err := f.walk(prefix, true)
		if err != nil {
			return false, err
		}
		err = exchange(s.data(), dir, name)
		if err == nil {
			err = unix.Fsync(dir)
			unix.Close(dir)
			return true, err
		}
		if !errors.Is(err, fs.ErrNotExist) && !exchangeUnsupported(err) {
			unix.Close(dir)
			return false, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			// Two renames. In between nothing is there; a process that dies in between leaves it to Sweep.
			err = unix.Renameat(dir, name, unix.AT_FDCWD, s.old())
			if err == nil {
				err = unix.Renameat(unix.AT_FDCWD, s.data(), dir, name)
				if err == nil {
					err = unix.Fsync(dir)
				}
				unix.Close(dir)
				return true, err
			}
		}
		unix.Close(dir)
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		// Nothing there to replace. If another writer comes first, its folder is not empty and the rename fails.
		err = f.moveTo(s.data(), prefix)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return false, err
		}
	}
	return false, errors.New("other writers were faster each time")
}

// Sweep implements [Store]. What a living process prepares is locked, and not touched at any age.
func (f *File) Sweep(ctx context.Context, age time.Duration) error {
	entries, err := os.ReadDir(filepath.Join(f.root, tmp))
	if err != nil {
		return fmt.Errorf("storage: sweep: %w", err)
	}
	var failed []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failed, err)...)
		}
		if err := f.sweepStage(&stage{dir: filepath.Join(f.root, tmp, e.Name())}, age); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, fmt.Errorf("storage: sweep: %w", err))
		}
	}
	return errors.Join(failed...)
}

func (f *File) sweepStage(s *stage, age time.Duration) error {
	info, err := os.Lstat(s.dir)
	if err != nil {
		return err
	}
	// Between its making and its lock a stage looks abandoned.
	if time.Since(info.ModTime()) < min(age, time.Minute) {
		return nil
	}
	locked, err := s.tryLock()
	if err != nil || !locked {
		return err
	}
	defer s.lock.Close()
	if err := f.complete(s); err != nil {
		return err
	}
	if time.Since(info.ModTime()) < age {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// complete does the second of two renames that a dead process had left to do.
func (f *File) complete(s *stage) error {
	if _, err := os.Lstat(s.old()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if _, err := os.Lstat(s.data()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // both were done
		}
		return err
	}
	prefix, err := os.ReadFile(filepath.Join(s.dir, "target"))
	if err != nil {
		return err
	}
	if err := CheckKey(string(prefix)); err != nil {
		return err
	}
	err = f.moveTo(s.data(), string(prefix))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil // a later one has taken the place
	}
	return err
}

// syncTree makes a folder with all that is in it durable, and readable for the users that containers run as.
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
		return syncDir(p) // files too
	})
}

func syncDir(p string) error {
	file, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
