package api

import (
	"os"
	"path/filepath"
	"strings"

	"hutong/bfia"
)

// openUpload opens a file of the upload folder, which no path leads out of: no "..", no absolute one, no symbolic link.
// An absolute path, and a link, that stay inside will do.
func (s *Server) openUpload(path string) (*os.File, error) {
	if s.UploadDir == "" {
		return nil, bfia.Errorf(bfia.CodeForbidden, "file: this party takes no files from its own disk (upload.dir is not set)")
	}
	dir, err := filepath.EvalSymlinks(s.UploadDir)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeInternal, err, "upload.dir can't be read")
	}
	inside, err := within(dir, path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeInternal, err, "upload.dir can't be read")
	}
	defer func() { _ = root.Close() }()
	// Asked before it is opened: to open a pipe would wait for a writer. The root refuses what has become a link since.
	info, err := root.Stat(inside)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeNotFound, err, "file: %q can't be read", path)
	}
	if !info.Mode().IsRegular() {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "file: %q is no regular file", path)
	}
	if info.Size() > s.MaxUploadBytes {
		return nil, bfia.Errorf(bfia.CodeTooLarge, "file: %q is over %d bytes", path, s.MaxUploadBytes)
	}
	f, err := root.Open(inside)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeNotFound, err, "file: %q can't be read", path)
	}
	return f, nil
}

// within is the path as seen from dir, with its links resolved.
func within(dir, path string) (string, error) {
	full := path
	if !filepath.IsAbs(full) {
		full = filepath.Join(dir, full)
	}
	resolved, err := filepath.EvalSymlinks(full)
	missing := err != nil
	if missing {
		resolved = filepath.Clean(full)
	}
	inside, ok := strings.CutPrefix(resolved, dir+string(filepath.Separator))
	switch {
	case !ok:
		return "", bfia.Errorf(bfia.CodeForbidden, "file: %q lies outside the upload folder", path)
	case missing:
		return "", bfia.Errorf(bfia.CodeNotFound, "file: %q is not in the upload folder", path)
	}
	return inside, nil
}
