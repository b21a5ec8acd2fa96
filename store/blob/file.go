package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// How often an operation is retried that a concurrent delete undid.
const lostRaces = 100

// File is a store in a folder.
type File struct {
	root string
}

var _ Store = (*File)(nil)

func openFile(u *url.URL) (*File, error) {
	if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" {
		return nil, errors.New(
			"open storage: a folder's address is file:// and an absolute path, such as file:///var/lib/hutong/storage",
		)
	}
	root := filepath.Clean(u.Path)
	if err := os.MkdirAll(filepath.Join(root, tmp), 0o750); err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	// The folders in here are readable for all, since containers run as various users. The mode of root
	// decides who gets here.
	return &File{root: root}, nil
}

// Path returns the path of an object, or of the folder of a prefix, for a bind mount. It need not exist.
func (f *File) Path(key string) (string, error) {
	if err := CheckKey(key); err != nil {
		return "", err
	}
	return filepath.Join(f.root, filepath.FromSlash(key)), nil
}

// walk opens the folder of a key, part by part so that no symbolic link leads elsewhere, and returns its
// descriptor and the last part of the key. With create it creates missing folders. Without create it
// returns ErrNotExist if a part of the path is missing or is not a folder.
func (f *File) walk(key string, create bool) (dir int, name string, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dir, err = unix.Open(f.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", &fs.PathError{Op: "open", Path: f.root, Err: err}
	}
	parts := strings.Split(key, "/")
	for _, part := range parts[:len(parts)-1] {
		next, err := unix.Openat(dir, part, flags, 0)
		if create && errors.Is(err, fs.ErrNotExist) {
			if err = unix.Mkdirat(dir, part, 0o755); err == nil {
				// Independent of the umask: containers run as other users and read in here.
				err = errors.Join(unix.Fchmodat(dir, part, 0o755, 0), unix.Fsync(dir))
			}
			if err == nil || errors.Is(err, fs.ErrExist) {
				next, err = unix.Openat(dir, part, flags, 0)
			}
		}
		unix.Close(dir)
		switch {
		case err == nil:
		case !create && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)):
			return -1, "", fs.ErrNotExist
		default:
			return -1, "", &fs.PathError{Op: "open", Path: key, Err: err}
		}
		dir = next
	}
	return dir, parts[len(parts)-1], nil
}

// open opens the regular file of a key; anything else is ErrNotExist.
func (f *File) open(key string) (*os.File, fs.FileInfo, error) {
	dir, name, err := f.walk(key, false)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(dir)
	// Without O_NONBLOCK, opening a named pipe would block.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a symbolic link, a socket
		return nil, nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: key, Err: err}
	}
	file := os.NewFile(uintptr(fd), filepath.Join(f.root, filepath.FromSlash(key)))
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

// Get implements [Store].
func (f *File) Get(_ context.Context, key string) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	file, _, err := f.open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(key)
	}
	if err != nil {
		return nil, diskError(err, "get", key)
	}
	return file, nil
}

// Stat implements [Store].
func (f *File) Stat(_ context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	file, info, err := f.open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, notFound(key)
	}
	if err != nil {
		return Info{}, diskError(err, "stat", key)
	}
	return Info{Key: key, Size: info.Size(), ModTime: info.ModTime().UTC()}, file.Close()
}

// Put implements [Store].
func (f *File) Put(ctx context.Context, key string, r io.Reader) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	s, err := f.newStage()
	if err != nil {
		return diskError(err, "put", key)
	}
	defer s.remove()
	if err := s.write(ctx, r); err != nil {
		return diskError(err, "put", key)
	}
	if err := f.moveTo(s.data(), key); err != nil {
		return diskError(err, "put", key)
	}
	return nil
}

// moveTo renames a file or folder to the path of key, and syncs the rename to disk.
func (f *File) moveTo(from, key string) error {
	var err error
	for range lostRaces {
		var dir int
		var name string
		if dir, name, err = f.walk(key, true); err == nil {
			if err = unix.Renameat(unix.AT_FDCWD, from, dir, name); err == nil {
				err = unix.Fsync(dir)
			}
			unix.Close(dir)
		}
		// A concurrent delete removed a folder on the path, since it was empty.
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// List implements [Store].
func (f *File) List(ctx context.Context, prefix string) ([]Info, error) {
	top := f.root
	if prefix != "" {
		var err error
		if top, err = f.Path(prefix); err != nil {
			return nil, err
		}
		dir, name, err := f.walk(prefix, false)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, diskError(err, "list", prefix)
		}
		var st unix.Stat_t
		err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		unix.Close(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, nil
		}
		if err != nil {
			return nil, diskError(err, "list", prefix)
		}
	}
	var infos []Info
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed concurrently
		}
		if err != nil {
			return err
		}
		if p != f.root && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.root, p)
		if err != nil {
			return err
		}
		if key := filepath.ToSlash(rel); CheckKey(key) == nil { // a container can create files of any name
			infos = append(infos, Info{Key: key, Size: info.Size(), ModTime: info.ModTime().UTC()})
		}
		return nil
	})
	if err != nil {
		return nil, diskError(err, "list", prefix)
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Key, b.Key) })
	return infos, nil
}

// Delete implements [Store].
func (f *File) Delete(_ context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	dir, name, err := f.walk(key, false)
	if err == nil {
		err = unix.Unlinkat(dir, name, 0)
		unix.Close(dir)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EISDIR) {
		return nil
	}
	if err != nil {
		return diskError(err, "delete", key)
	}
	f.prune(path.Dir(key))
	return nil
}

// DeletePrefix implements [Store]. A container that has the folder mounted loses its files.
func (f *File) DeletePrefix(_ context.Context, prefix string) error {
	if err := CheckKey(prefix); err != nil {
		return err
	}
	if dir, _, err := f.walk(prefix, false); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err == nil {
		unix.Close(dir)
	}
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return diskError(err, "delete", prefix)
	}
	defer root.Close()
	if info, err := root.Lstat(prefix); err != nil || !info.IsDir() {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil // an object of this key is not under the prefix
		}
		return diskError(err, "delete", prefix)
	}
	if err := root.RemoveAll(prefix); err != nil {
		return diskError(err, "delete", filepath.Join(f.root, filepath.FromSlash(prefix)))
	}
	f.prune(path.Dir(prefix))
	return nil
}

// prune removes empty folders, from dir upwards, up to the first one that is not empty.
func (f *File) prune(dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		fd, name, err := f.walk(dir, false)
		if err != nil {
			return
		}
		err = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
		unix.Close(fd)
		if err != nil {
			return
		}
	}
}
