package support

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"time"
)

// Entry is a file of the archive.
type Entry struct {
	Name string `json:"name"`
	// About says what the file holds.
	About string `json:"about"`
	// Missing says why the file is not there; Bytes is its size otherwise.
	Missing string `json:"missing,omitempty"`
	Bytes   int    `json:"bytes"`
	// Removed counts the secrets that were found in it and removed.
	Removed int `json:"removed"`

	data []byte
}

// Archive is what was collected.
type Archive struct {
	Folder  string
	Time    time.Time
	Entries []Entry
}

// Write writes the archive as a gzipped tar file with one folder. Its file CONTENTS.txt lists the others.
func (a Archive) Write(w io.Writer) error {
	zipper := gzip.NewWriter(w)
	archive := tar.NewWriter(zipper)
	add := func(name string, data []byte) error {
		err := archive.WriteHeader(&tar.Header{Name: a.Folder + "/" + name, Mode: 0o600,
			Size:    int64(len(data)),
			ModTime: a.Time})
		if err == nil {
			_, err = archive.Write(data)
		}
		if err != nil {
			return fmt.Errorf("failed to write %s into the archive: %w", name, err)
		}
		return nil
	}
	if err := add("CONTENTS.txt", []byte(a.contents())); err != nil {
		return err
	}
	for _, e := range a.Entries {
		if e.Missing != "" {
			continue
		}
		if err := add(e.Name, e.data); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("failed to write the archive: %w", err)
	}
	return zipper.Close()
}

func (a Archive) contents() string {
	var b strings.Builder
	for _, e := range a.Entries {
		state := fmt.Sprintf("%d bytes", e.Bytes)
		if e.Removed > 0 {
			state += fmt.Sprintf(", %d secrets removed", e.Removed)
		}
		if e.Missing != "" {
			state = "missing: " + e.Missing
		}
		_, _ = fmt.Fprintf(&b, "%s: %s (%s)\n", e.Name, e.About, state)
	}
	return b.String()
}
