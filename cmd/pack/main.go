// Command pack builds the images of Hutong and of the reference provider for all architectures, with
// their bills of materials, and the archive with everything. The Makefile calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"hutong/internal/pack"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "pack:", err)
		cancel()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	r := pack.Release{Root: "."}
	out := flag.String("out", "bin/images", "folder to write to")
	arches := flag.String("arch", strings.Join(pack.Architectures(), ","),
		"architectures, separated by commas")
	archive := flag.Bool("archive", false, "write the archive with everything, not only the images")
	flag.StringVar(&r.Version, "version", "", "version of Hutong")
	flag.StringVar(&r.Commit, "commit", "", "commit of Hutong")
	epoch := flag.Int64("date", 0, "time of the commit, in seconds since 1970 (SOURCE_DATE_EPOCH)")
	flag.Parse()
	r.Time = time.Unix(*epoch, 0)

	if *archive {
		file, err := r.Archive(ctx, *out, strings.Split(*arches, ","))
		if err == nil {
			fmt.Println(file)
		}
		return err
	}
	built, err := r.Images(ctx, *out, strings.Split(*arches, ","))
	if err != nil {
		return err
	}
	for _, image := range built {
		fmt.Printf("%s %s %s %s\n", image.File, image.Tag, image.Arch, image.Digest)
	}
	return nil
}
