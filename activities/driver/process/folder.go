package process

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"hutong/activities/driver"
)

// folder is the folder of a container. Its files define the container's state:
//
//	spec.json   the command, without the environment
//	env.json    the environment, deleted at the start
//	started     created before the command is started, so that it is started at most once
//	pid.json    the process
//	output.log  the output; output.1.log: the earlier output
//	exit.json   how it ended, or that it must not start; never overwritten by another state
//	storage/    links to the mounts
//	logs/       for the command's own log files
type folder string

const (
	specFile    = "spec.json"
	envFile     = "env.json"
	startedFile = "started"
	pidFile     = "pid.json"
	outputFile  = "output.log"
	olderFile   = "output.1.log"
	exitFile    = "exit.json"
)

type specRecord struct {
	ID        string            `json:"id"`
	Command   []string          `json:"command"`
	Labels    map[string]string `json:"labels"`
	CreatedAt time.Time         `json:"created_at"`
	MaxLog    int64             `json:"max_log"`

	// Boot detects a reboot of the machine since. Files are not synced to disk, so the file startedFile may
	// be lost then.
	Boot string `json:"boot"`
}

// pidRecord identifies a process. A process id alone does not, because it is reused.
type pidRecord struct {
	PID   int    `json:"pid"`
	Ticks string `json:"start_ticks"` // field 22 of /proc/<pid>/stat
	Boot  string `json:"boot"`
}

type exitRecord struct {
	driver.Exit
	StartFailed bool
	// Usage is what the command has used, if the supervisor has observed its end.
	Usage *usageRecord `json:",omitempty"`
}

func (f folder) name() string            { return filepath.Base(string(f)) }
func (f folder) path(file string) string { return filepath.Join(string(f), file) }

func (f folder) spec() (spec specRecord, err error) {
	for {
		err = readJSON(f.path(specFile), &spec)
		if !errors.Is(err, fs.ErrNotExist) {
			return spec, err
		}

		// Either there is no such container, or the folder is not ours. Containers are created and removed
		// concurrently, so the second case is certain only if the folder is the same before and after.
		before, err := os.Stat(string(f))
		if errors.Is(err, fs.ErrNotExist) {
			return spec, driver.ErrNotFound
		}

		_, specErr := os.Stat(f.path(specFile))
		after, err := os.Stat(string(f))
		if err == nil && os.SameFile(before, after) && errors.Is(specErr, fs.ErrNotExist) {
			return spec, driver.NonRetryablef("the folder %s was not created by Hutong; rename or remove it",
				f)
		}
	}
}

// state returns the container's state according to its files, and the exit of one that has ended. Running
// includes containers whose end nobody has observed.
func (f folder) state() (driver.State, exitRecord, error) {
	if _, err := f.spec(); err != nil {
		return "", exitRecord{}, err
	}

	var exit exitRecord
	err := readJSON(f.path(exitFile), &exit)
	if err == nil {
		return driver.Exited, exit, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", exit, err
	}

	if _, err := os.Stat(f.path(startedFile)); err == nil {
		return driver.Running, exit, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", exit, err
	}

	return driver.Created, exit, nil
}

// recordExit records how the container ended.
func (f folder) recordExit(exit exitRecord) error {
	_ = os.Remove(f.path(envFile))

	return writeJSON(f.path(exitFile), exit)
}

// process finds the container's process if it is alive. If the supervisor was killed before it wrote pidFile,
// it searches by the working directory.
func (f folder) process() (pid int, alive bool) {
	var record pidRecord
	switch err := readJSON(f.path(pidFile), &record); {
	case err == nil:
		return record.PID, record.alive()
	case errors.Is(err, fs.ErrNotExist):
		return f.searchProcess()
	}

	return 0, false
}

// searchProcess finds the container's process among all of the machine: a session leader whose working
// directory is the folder.
func (f folder) searchProcess() (pid int, alive bool) {
	dirs, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, dir := range dirs {
		if cwd, err := os.Readlink(dir); err != nil || cwd != string(f) {
			continue
		}

		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil {
			continue
		}

		if stat, err := readStat(pid); err == nil && stat.session == strconv.Itoa(pid) && !stat.zombie {
			return pid, true
		}
	}

	return 0, false
}

func (r pidRecord) alive() bool {
	stat, err := readStat(r.PID)

	return err == nil && r.Boot == bootID() && stat.ticks == r.Ticks && !stat.zombie
}

type procStat struct {
	session, ticks string
	zombie         bool
	cpu            time.Duration // also of ended children
}

// readStat reads /proc/<pid>/stat, see proc(5). The second field is the program's name in parentheses, which
// may contain any character.
func readStat(pid int) (procStat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}

	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 20 {
		return procStat{}, fmt.Errorf("/proc/%d/stat has too few fields", pid)
	}

	var cpu time.Duration
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return procStat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		cpu += time.Duration(ticks) * clockTick
	}

	return procStat{
		session: fields[3], ticks: fields[19], zombie: fields[0] == "Z" || fields[0] == "X", cpu: cpu,
	}, nil
}

var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")

	return strings.TrimSpace(string(id))
})

func readJSON(file string, v any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}

	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}

	return nil
}

// writeJSON writes a file atomically.
func writeJSON(file string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}

	tmp := file + "." + rand.Text()
	if err = os.WriteFile(tmp, raw, 0o600); err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}

	return err
}
