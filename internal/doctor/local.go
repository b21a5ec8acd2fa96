package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"hutong/internal/party"
)

// lowSpace is the free space below which the checks of folders and runners warn.
const lowSpace = 1 << 30

// lowFiles is the number of files that still fit, below which they warn.
const lowFiles = 1000

// Fixes that several checks suggest.
const (
	fixCreate  = "nothing if the party's user may create it; otherwise create it and make that user its owner"
	fixMigrate = "run hutong migrate with this configuration"
)

// localChecks returns the checks of this machine's files.
func localChecks(cfg *party.Config) []check {
	checks := []check{
		folderCheck("data_dir", cfg.DataDir),
		folderCheck("upload.dir", cfg.Upload.Dir),
		folderCheck("transport.spool_dir", cfg.Transport.SpoolDir),
	}
	if cfg.Security.Mode == party.SecurityStrict {
		checks = append(checks, check{"ops.listen", func(context.Context) Check { return checkOps(cfg) }})
	}
	for i, program := range cfg.Runner.Process.Allow {
		checks = append(checks, check{fmt.Sprintf("runner.process.allow[%d]", i),
			func(context.Context) Check {
				if _, err := exec.LookPath(program); err != nil {
					return failed("install the program and make it executable (chmod +x), or remove it from "+
						"the list", "%v", err)
				}
				return ok("%s is executable", program)
			}})
	}
	if key := cfg.Temporal.TLS.KeyFile; key != "" {
		checks = append(checks, check{"temporal.tls.key_file", func(context.Context) Check {
			return checkPrivate(key)
		}})
	}

	return checks
}

// checkOps checks that somebody can watch the party.
func checkOps(cfg *party.Config) Check {
	if cfg.Ops.Listen == "" {
		return warning("set ops.listen of each process, and let Prometheus read /metrics there "+
			"(docs/operators/monitoring.md)", "nothing watches this party: it serves no metrics")
	}
	return ok("%s serves metrics", cfg.Ops.Listen)
}

// Private checks that other users can't read a file that holds secrets.
func Private(name, path string) Check {
	c := checkPrivate(path)
	c.Name = name

	return c
}

func checkPrivate(path string) Check {
	info, err := os.Stat(path)
	if err != nil {
		return failed("create the file, readable for the party's user", "%v", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return warning("chmod o-rwx "+path,
			"%s may hold secrets, but every user of this machine can access it (%s)", path, mode)
	}

	return ok("%s is private", path)
}

func folderCheck(name, dir string) check {
	return check{name, func(context.Context) Check {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return warning(fixCreate, "%s does not exist; the party creates it when it starts", dir)
		case err != nil:
			return failed("give the party's user access to the folder", "%v", err)
		case !info.IsDir():
			return failed("set "+name+" to a folder", "%s is not a folder", dir)
		}

		probe, err := os.CreateTemp(dir, ".doctor-*")
		if err != nil {
			return failed("give the current user write access, and check that the disk is neither full nor "+
				"read-only",
				"failed to write to %s: %v", dir, err)
		}
		_ = probe.Close()
		if err := os.Remove(probe.Name()); err != nil {
			return failed("remove the file manually and check the folder's permissions",
				"failed to remove the probe file: %v", err)
		}

		return checkSpace(dir)
	}}
}

func checkSpace(dir string) Check {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Clean(dir), &s); err != nil {
		return warning("check that the disk is mounted", "failed to read the free space of %s: %v", dir, err)
	}

	if s.Files > 0 && s.Ffree < lowFiles {
		return warning("remove files from the disk", "%s can hold only %d more files", dir, s.Ffree)
	}
	free := s.Bavail * uint64(s.Bsize)
	if free < lowSpace {
		return warning("free space on the disk", "%s has only %s free", dir, humanize.IBytes(free))
	}

	return ok("%s is writable, %s free", dir, humanize.IBytes(free))
}
