package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hutong/internal/party"
)

// lowSpace is the free space below which a folder is warned of.
const lowSpace = 1 << 30

func local(cfg *party.Config) []check {
	checks := []check{folder("data_dir", cfg.DataDir), folder("upload.dir", cfg.Upload.Dir), folder("transport.spool_dir", cfg.Transport.SpoolDir)}
	for i, program := range cfg.Runner.Process.Allow {
		checks = append(checks, check{fmt.Sprintf("runner.process.allow[%d]", i), func(context.Context) Check {
			if _, err := exec.LookPath(program); err != nil {
				return failed("install it there and make it executable (chmod +x), or take it off the list", "%v", err)
			}
			return ok("%s can be run", program)
		}})
	}
	if cfg.Temporal.TLS.KeyFile != "" {
		checks = append(checks, check{"temporal.tls.key_file", func(context.Context) Check { return private(cfg.Temporal.TLS.KeyFile) }})
	}
	return checks
}

// Private is the check of a file that holds secrets.
func Private(name, path string) Check {
	c := private(path)
	c.Name = name
	return c
}

func private(path string) Check {
	info, err := os.Stat(path)
	if err != nil {
		return failed("put the file there, readable for the party's user", "%v", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return warning("chmod o-rwx "+path, "%s may hold secrets, and every user of this machine can use it (%s)", path, info.Mode().Perm())
	}
	return ok("%s is closed to other users", path)
}

func folder(name, dir string) check {
	return check{name, func(context.Context) Check {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return warning("nothing, if the party's user may make it; else make it and give it to that user", "%s is not there; the party makes it when it starts", dir)
		case err != nil:
			return failed("let the party's user reach the folder", "%v", err)
		case !info.IsDir():
			return failed("name a folder in "+name, "%s is no folder", dir)
		}
		probe, err := os.CreateTemp(dir, ".doctor-*")
		if err != nil {
			return failed("let the user who runs this write there, and see that the disk is neither full nor read-only", "can't write to %s: %v", dir, err)
		}
		_ = probe.Close()
		if err := os.Remove(probe.Name()); err != nil {
			return failed("remove it by hand and look at the folder's permissions", "the probe file can't be removed: %v", err)
		}
		return space(dir)
	}}
}

func space(dir string) Check {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Clean(dir), &s); err != nil {
		return warning("see that the disk is mounted", "%s: free space can't be told: %v", dir, err)
	}
	free := int64(s.Bavail) * int64(s.Bsize)
	if free < lowSpace {
		return warning("make room on the disk", "%s has only %d MiB free", dir, free>>20)
	}
	return ok("%s can be written to, %d GiB free", dir, free>>30)
}
