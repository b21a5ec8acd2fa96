package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"golang.org/x/sys/unix"

	"hutong/activities/driver"
)

var _ driver.OutputOwner = (*Driver)(nil)

// OwnOutputs makes this process's user the owner of the folders that an ended container left in its writable
// mounts, and of the files there that the user can't read.
//
// A container usually runs as root. If this process does not, it could neither read a folder of mode 0700 nor
// remove the content of any folder. Docker Engine can: it reads the folder as an archive and unpacks that
// over itself with another owner.
func (d *Driver) OwnOutputs(ctx context.Context, name string) error {
	if os.Geteuid() == 0 {
		return nil
	}

	return driver.WrapError("take over the outputs of", name, d.ownOutputs(ctx, name))
}

func (d *Driver) ownOutputs(ctx context.Context, name string) error {
	c, err := d.find(ctx, name, name)
	if err != nil {
		return err
	}

	var failed []error
	for _, m := range c.HostConfig.Mounts {
		if m.Type != mount.TypeBind || m.ReadOnly || ownsAll(m.Source) {
			continue
		}
		if err := d.ownMount(ctx, c.ID, m.Target); err != nil {
			failed = append(failed, fmt.Errorf("failed to change the owner of %s: %w", m.Source, err))
		}
	}

	return errors.Join(failed...)
}

// ownsAll reports whether this process can read everything in a folder and remove it.
func ownsAll(dir string) bool {
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
				return fs.ErrPermission
			}
			return unix.Access(name, unix.R_OK|unix.W_OK|unix.X_OK)
		case entry.Type().IsRegular():
			return unix.Access(name, unix.R_OK)
		}
		return nil
	})

	return err == nil
}

// ownMount changes the owner of what is in one mount of a container.
func (d *Driver) ownMount(ctx context.Context, id, target string) error {
	content, _, err := d.stream.CopyFromContainer(ctx, id, target)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = content.Close() }()

	r, w := io.Pipe()
	go func() { w.CloseWithError(changeOwner(tar.NewReader(content), tar.NewWriter(w))) }()
	err = d.stream.CopyToContainer(ctx, id, path.Dir(target), r, container.CopyToContainerOptions{})
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

		const allCanRead = 0o004
		switch header.Typeflag {
		case tar.TypeDir:
			header.Mode |= 0o700
		case tar.TypeReg:
			if header.Mode&allCanRead != 0 {
				continue
			}
			header.Mode |= 0o600
		default:
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
