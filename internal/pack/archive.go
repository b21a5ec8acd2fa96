package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// SumsFile is the file of an archive with the SHA-256 of all others, for sha256sum -c.
const SumsFile = "SHA256SUMS"

// handedOut are the files and folders of the repository that an archive holds.
var handedOut = []string{"README.md", "README.zh.md", "CHANGELOG.md", "docs", "deploy", "console/licences",
	"providers/reference/provider.json", "providers/reference/README.md", "testdata/breast"}

// packed is a file of an archive: a copy of a file, or data.
type packed struct {
	name, source string
	data         []byte
	mode         fs.FileMode
}

// open returns the content and its size.
func (p packed) open() (io.ReadCloser, int64, error) {
	if p.source == "" {
		return io.NopCloser(bytes.NewReader(p.data)), int64(len(p.data)), nil
	}
	file, err := os.Open(p.source)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// Archive builds everything and writes the archive from which a machine without a network is installed, as
// hutong-VERSION.tar.gz in a folder. It returns its path.
func (r Release) Archive(ctx context.Context, dir string, arches []string) (string, error) {
	images := filepath.Join(dir, "images")
	built, err := r.Images(ctx, images, arches)
	if err != nil {
		return "", err
	}
	files, err := r.repositoryFiles(ctx)
	if err != nil {
		return "", err
	}
	for _, arch := range arches {
		for _, p := range []Program{r.Hutong(), r.Provider()} {
			files = append(files, packed{name: path.Join("bin", arch, p.Name), mode: 0o755,
				source: programFile(images, p, arch)})
		}
	}
	for _, image := range built {
		for _, file := range []string{image.File, image.SBOMFile()} {
			files = append(files, packed{name: "images/" + filepath.Base(file), mode: 0o644, source: file})
		}
	}
	licences, err := r.licences(ctx)
	if err != nil {
		return "", err
	}
	files = append(files, licences...)
	out := filepath.Join(dir, "hutong-"+r.Version+".tar.gz")
	return out, r.writeArchive(out, files)
}

// repositoryFiles returns what the archive holds of the repository. Only files that Git knows count, so what
// lies around in a folder does not get into it.
func (r Release) repositoryFiles(ctx context.Context) (files []packed, err error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"ls-files", "-z", "--"}, handedOut...)...)
	cmd.Dir = r.Root
	list, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("failed to list the files of the repository: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		source := filepath.Join(r.Root, name)
		info, err := os.Stat(source)
		if err != nil {
			return nil, fmt.Errorf("failed to pack the repository: %w", err)
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		files = append(files, packed{name: name, source: source, mode: mode})
	}
	return files, nil
}

// writeArchive writes the files, in the order of their names, and their checksums.
func (r Release) writeArchive(out string, files []packed) (err error) {
	file, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("failed to write the archive: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			_ = os.Remove(out)
		}
	}()
	zipper, err := gzip.NewWriterLevel(file, gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zipper)
	slices.SortFunc(files, func(a, b packed) int { return strings.Compare(a.name, b.name) })
	folder := "hutong-" + r.Version
	var sums bytes.Buffer
	for _, p := range files {
		sum := sha256.New()
		if err := r.add(archive, folder, p, sum); err != nil {
			return fmt.Errorf("failed to pack %s: %w", p.name, err)
		}
		_, _ = fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), p.name)
	}
	if err := r.add(archive, folder, packed{name: SumsFile, data: sums.Bytes(), mode: 0o644},
		io.Discard); err != nil {
		return fmt.Errorf("failed to pack %s: %w", SumsFile, err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("failed to write the archive: %w", err)
	}
	return zipper.Close()
}

func (r Release) add(archive *tar.Writer, folder string, p packed, sum io.Writer) error {
	content, size, err := p.open()
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	if err := archive.WriteHeader(&tar.Header{Name: folder + "/" + p.name, Mode: int64(p.mode), Size: size,
		ModTime: r.Time.UTC(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(archive, sum), content)
	return err
}
