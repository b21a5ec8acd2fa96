package driver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// LogFile is a file that a container wrote below its LogPath.
type LogFile struct {
	Name string // relative to LogPath, with slashes
	Size int64  // bytes
	Disk int64  // bytes that it takes, less than Size if it has holes
	// ID identifies the file also after it was renamed; "" if the device does not know.
	ID string
	// Copy copies the file from an offset on. It works only during the visit.
	Copy func(w io.Writer, offset int64) error
}

// maxLogFiles bounds the files and folders that one scan visits.
const maxLogFiles = 10_000

// ErrTooManyLogFiles reports that a scan stopped at its limit.
var ErrTooManyLogFiles = fmt.Errorf("there are more than %d log files", maxLogFiles)

// ScanFolder visits the regular files below a folder to which a container writes. A container is not trusted:
// symbolic links are not followed, and pipes are not opened. Files that vanish meanwhile are left out.
func ScanFolder(folder string, visit func(LogFile) error) error {
	root, err := os.OpenRoot(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to open %s: %w", folder, err)
	}
	defer func() { _ = root.Close() }()

	entries := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if entries++; entries > maxLogFiles {
			return ErrTooManyLogFiles
		}
		if err != nil || !entry.Type().IsRegular() {
			return nil // also a folder that can't be read
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		file := LogFile{Name: name, Size: info.Size(), Disk: info.Size()}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			file.ID = strconv.FormatUint(stat.Ino, 10)
			file.Disk = stat.Blocks * 512
		}
		file.Copy = func(w io.Writer, offset int64) error { return copyFile(root, name, info, w, offset) }
		return visit(file)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("failed to read %s: %w", folder, err)
	}

	return nil
}

// copyFile copies a file as it was when it was listed. A container may have replaced it since.
func copyFile(root *os.Root, name string, listed fs.FileInfo, w io.Writer, offset int64) error {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()

	if opened, err := file.Stat(); err != nil || !os.SameFile(opened, listed) {
		return err // the next scan finds the new file
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	_, err = io.CopyN(w, file, listed.Size()-offset)
	if errors.Is(err, io.EOF) {
		return nil // it was truncated meanwhile
	}

	return err
}
