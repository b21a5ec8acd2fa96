// Image writes images of one static program for the nodes of the tests' cluster.
//
//	image NAME:TAG PROGRAM [FILE]
//
// It writes the image as a tar file to standard output. PROGRAM is its entry point, without arguments, and
// each FILE is in its root folder under its own name.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"hutong/internal/pack"
)

func main() {
	if len(os.Args) < 3 {
		fail(errors.New("usage: image NAME:TAG PROGRAM [FILE]"))
	}

	image := pack.Image{Tag: os.Args[1], Arch: runtime.GOARCH, Time: time.Unix(0, 0),
		Entrypoint: []string{"/" + filepath.Base(os.Args[2])}}
	for _, name := range os.Args[2:] {
		data, err := os.ReadFile(name)
		if err != nil {
			fail(err)
		}
		image.Files = append(image.Files, pack.File{Path: "/" + filepath.Base(name), Mode: 0o755, Data: data})
	}
	if _, err := image.Write(os.Stdout); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "image:", err)
	os.Exit(1)
}
