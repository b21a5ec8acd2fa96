// Package disk gives tests small file systems that they can fill.
package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts an empty file system of a size such as 16m on a folder until the test ends. Without the right
// to do so the test is skipped, or fails if HUTONG_REQUIRE_MOUNT is 1.
func Mount(t testing.TB, dir, size string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		if os.Getenv("HUTONG_REQUIRE_MOUNT") == "1" {
			t.Fatalf("failed to mount a small file system: %v", err)
		}
		t.Skipf("failed to mount a small file system, which needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("failed to unmount %s: %v", dir, err)
		}
	})
}

// Fill fills the file system of a folder and returns a function that frees the space again.
func Fill(t testing.TB, dir string) (empty func()) {
	t.Helper()
	filler := filepath.Join(dir, ".filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for block := 1 << 20; block > 0; block /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, block))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("failed to fill %s: %v", dir, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}
