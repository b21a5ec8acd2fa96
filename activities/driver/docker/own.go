package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
)

var _ driver.OutputOwner = (*Driver)(nil)

// Modes of outputs after their container's end. Others may read them, since a container of a later task runs
// as another user.
const (
	folderMode = fs.FileMode(0o755)
	fileMode   = fs.FileMode(0o644)
)

// OwnOutputs makes this process's user the owner of the folders that an ended container left in its writable
// mounts, and of the files there that the user can't read or that are setuid or setgid, and sets their modes.
//
// If this process is not root, it could neither read a folder of mode 0700 of the container's user nor remove
// the content of any folder. Docker Engine can: it reads the folder as an archive and unpacks that over
// itself with another owner.
func (d *Driver) OwnOutputs(ctx context.Context, name string) error {
	return driver.WrapError("take over the outputs of", name, d.ownOutputs(ctx, name))
}

func (d *Driver) ownOutputs(ctx context.Context, name string) error {
	c, err := d.find(ctx, name, name)
	if err != nil {
		return err
	}

	var failed []error
	for _, m := range writableMounts(c) {
		err := ownFolder(m.Source)
		if errors.Is(err, fs.ErrPermission) {
			if err = d.ownMount(ctx, c.ID, m.Target); err == nil {
				err = ownFolder(m.Source)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, fmt.Errorf("failed to change the owner of %s: %w", m.Source, err))
		}
	}

	return errors.Join(failed...)
}

// ownFolder makes this process's user the owner of a folder and of its content, and sets their modes. It
// returns ErrPermission if that needs the rights of root. Symbolic links are left alone; none leads out of
// the folder.
func ownFolder(dir string) error {
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return err
	}
	if err := own(folderMode, dir, os.Lstat, os.Lchown, os.Chmod); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()

	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir():
			return own(folderMode, name, root.Lstat, root.Lchown, root.Chmod)
		case entry.Type().IsRegular():
			return own(fileMode, name, root.Lstat, root.Lchown, root.Chmod)
		}
		return nil
	})
}

// own makes this process's user the owner of a file or folder and sets its mode. A file of another user
// that this process can read, and whose mode is harmless, may stay: who owns a folder can remove its files.
func own(mode fs.FileMode, name string, lstat func(string) (fs.FileInfo, error),
	chown func(name string, uid, gid int) error, chmod func(string, fs.FileMode) error) error {
	info, err := lstat(name)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	owned := ok && int(stat.Uid) == os.Geteuid() && int(stat.Gid) == os.Getegid()
	if !owned {
		err = chown(name, os.Geteuid(), os.Getegid())
	}
	if err == nil && info.Mode()&^fs.ModeType != mode {
		err = chmod(name, mode)
	}
	const special = fs.ModeSetuid | fs.ModeSetgid
	if err != nil && info.Mode().IsRegular() && info.Mode()&special == 0 && info.Mode()&allCanRead != 0 {
		return nil
	}

	return err
}

const allCanRead = 0o004

// ownMount changes the owner of what is in one mount of a container. Docker Engine copies only into the
// mounts of a read-only container, which leaves out the mount's own folder. That belongs to this process's
// user.
func (d *Driver) ownMount(ctx context.Context, id, target string) error {
	content, _, err := d.stream.CopyFromContainer(ctx, id, target)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = content.Close() }()

	r, w := io.Pipe()
	go func() { w.CloseWithError(changeOwner(tar.NewReader(content), tar.NewWriter(w))) }()
	err = d.stream.CopyToContainer(ctx, id, target, r, container.CopyToContainerOptions{})
	_ = r.CloseWithError(err) // ends the goroutine if the request did

	return classify(err)
}

// changeOwner copies the folders of an archive, and the files that others can't read, with this process's
// user as their owner. Other files may stay as they are: who owns a folder can remove its files.
func changeOwner(in *tar.Reader, out *tar.Writer) error {
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}

		const special = 0o6000 // setuid and setgid
		switch header.Typeflag {
		case tar.TypeDir:
			header.Mode = int64(folderMode)
		case tar.TypeReg:
			if header.Mode&allCanRead != 0 && header.Mode&special == 0 {
				continue
			}
			header.Mode = int64(fileMode)
		default:
			continue
		}
		// The archive's names begin with that of the mount's folder.
		if _, header.Name, _ = strings.Cut(header.Name, "/"); header.Name == "" {
			continue
		}
		header.Uid, header.Gid, header.Uname, header.Gname = os.Geteuid(), os.Getegid(), "", ""
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := io.Copy(out, in); err != nil {
				return err
			}
		}
	}
}
