package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
)

// logPathMode lets any user of a container write log files.
const logPathMode = 0o777 | os.ModeSticky

// openLogPath creates the LogPath of a container that was not started yet.
func (d *Driver) openLogPath(ctx context.Context, c container.InspectResponse) error {
	volume, ok := d.logVolume(c)
	if !ok {
		return nil
	}
	if !d.opts.RemoteEngine && makeLogFolder(volume) == nil {
		return nil
	}

	// Docker Engine runs elsewhere, or only root can access its files.
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: logFolder + "/", Mode: 0o1777})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("failed to pack the log folder: %w", err)
	}
	if err := d.calls.CopyToContainer(ctx, c.ID, logMount, &archive,
		container.CopyToContainerOptions{}); err != nil {
		return fmt.Errorf("failed to open the log folder for the container's users: %w", classify(err))
	}

	return nil
}

func makeLogFolder(volume string) error {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := root.Mkdir(logFolder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}

	return root.Chmod(logFolder, logPathMode)
}

// logVolume returns the folder of the container's log files on Docker Engine's machine.
func (d *Driver) logVolume(c container.InspectResponse) (folder string, ok bool) {
	for _, m := range c.Mounts {
		if m.Destination == logMount && m.Source != "" {
			return m.Source, true
		}
	}

	return "", false
}

// ScanLogFiles reads the container's log files in Docker Engine's folder if this process can, and otherwise
// through its API.
func (d *Driver) ScanLogFiles(ctx context.Context, name string, visit func(driver.LogFile) error) error {
	return driver.WrapError("read the log files of", name, d.scanLogFiles(ctx, name, visit))
}

func (d *Driver) scanLogFiles(ctx context.Context, name string, visit func(driver.LogFile) error) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	c, err := d.find(ctx, name, name)
	if err != nil {
		return err
	}
	volume, ok := d.logVolume(c)
	if !ok {
		return nil
	}
	if !d.opts.RemoteEngine {
		if folder, err := os.Open(volume); err == nil {
			_ = folder.Close()
			return driver.ScanFolder(volume, func(f driver.LogFile) error {
				f.Name = strings.TrimPrefix(f.Name, logFolder+"/")
				return visit(f)
			})
		}
	}

	archive, _, err := d.stream.CopyFromContainer(ctx, c.ID, logMount)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = archive.Close() }()

	return scanArchive(archive, visit)
}

// scanArchive visits the regular files of an archive, whose names begin with the name of the folder.
func scanArchive(archive io.Reader, visit func(driver.LogFile) error) error {
	in := tar.NewReader(archive)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("failed to read the archive of the log files: %w", err)
		}
		_, name, _ := strings.Cut(path.Clean(header.Name), "/")
		name = strings.TrimPrefix(name, logFolder+"/")
		if header.Typeflag != tar.TypeReg || name == "" {
			continue
		}
		file := driver.LogFile{Name: name, Size: header.Size, Disk: header.Size}
		file.Copy = func(w io.Writer, offset int64) error {
			if _, err := io.CopyN(io.Discard, in, offset); err != nil {
				return err
			}
			_, err := io.Copy(w, in)
			return err
		}
		if err := visit(file); err != nil {
			return err
		}
	}
}
