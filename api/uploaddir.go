package api

import (
	"os"
	"path/filepath"
	"strings"

	"hutong/bfia"
)

// openUpload opens a file in the upload folder. It refuses paths that lead out of it by "..", an absolute
// path or a symbolic link. Absolute paths and links that stay inside are accepted.
func (s *Server) openUpload(path string) (*os.File, error) {
	if s.UploadDir == "" {
		return nil, bfia.Errorf(bfia.CodeForbidden,
			"file: this party accepts no files from its own disk; upload.dir is not set")
	}
	dir, err := filepath.EvalSymlinks(s.UploadDir)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeInternal, err, "failed to read upload.dir")
	}
	inside, err := within(dir, path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeInternal, err, "failed to read upload.dir")
	}
	defer func() { _ = root.Close() }()
	// Stat comes before Open, since opening a pipe would wait for a writer. The root refuses a file that has
	// become a link since.
	info, err := root.Stat(inside)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeNotFound, err, "file: failed to read %q", path)
	}
	if !info.Mode().IsRegular() {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "file: %q is not a regular file", path)
	}
	if info.Size() > s.MaxUploadBytes {
		return nil, bfia.Errorf(bfia.CodeTooLarge,
			"file: %q is longer than %d bytes, the limit upload.max_bytes of this party", path,
			s.MaxUploadBytes)
	}
	f, err := root.Open(inside)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeNotFound, err, "file: failed to read %q", path)
	}
	return f, nil
}

// within returns the path relative to dir, with its links resolved. It refuses paths outside dir.
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
