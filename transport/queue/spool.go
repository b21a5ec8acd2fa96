package queue

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"hutong/transport/status"
)

// spool is the folder that holds the messages:
//
//	lock            locked by the process that uses the folder
//	volume          the folder's id, which it keeps when another process uses it
//	epoch           a number that grows while it is used; a folder with a lower one is an old copy
//	released        ids of released sessions, one in a line
//	tmp/            bodies that are being received or are in transit to partners
//	s<n>/           a session
//	s<n>/<m>.log    a segment of one queue's log
//	s<n>/<m>.blob   the bytes of a message that is too large for a log
//
// All numbers are from one counter, so a name is never reused and the order of the names is the order of a
// queue's segments. Only volume and epoch are synced (fsync): what was written survives the process, but
// after a crash of the machine, what its kernel had not yet written to the disk is lost.
type spool struct {
	dir    string
	log    *slog.Logger
	lock   *os.File
	volume string
	number atomic.Int64

	mu       sync.Mutex // guards the file of released sessions
	released *os.File
}

// ErrInUse reports that another process uses a spool.
var ErrInUse = errors.New("it is in use by another transport; each needs a folder of its own")

// openSpool locks a folder for this process, and creates it if necessary, unless it must be known.
func openSpool(dir string, known bool, log *slog.Logger) (*spool, error) {
	if dir == "" {
		return nil, errors.New("failed to open the spool: its folder is not set")
	}
	if known {
		if _, err := os.Stat(filepath.Join(dir, volumeFile)); err != nil {
			return nil, fmt.Errorf("the folder %s holds no spool that could be taken over; is its disk mounted? "+
				"The first transport that uses it starts without standby: %w", dir, err)
		}
	}
	sp := &spool{dir: dir, log: log}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("failed to create the spool's folder: %w", err)
	}

	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("failed to open the spool's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("failed to lock the spool %s: %w", dir, err)
	}
	sp.lock = lock

	// Bodies that the last process was receiving were never answered.
	if err := os.RemoveAll(sp.tmp()); err != nil {
		sp.close()
		return nil, fmt.Errorf("failed to clear the spool: %w", err)
	}
	if err := os.Mkdir(sp.tmp(), 0o700); err != nil {
		sp.close()
		return nil, fmt.Errorf("failed to clear the spool: %w", err)
	}
	if sp.volume, err = readVolume(dir); err != nil {
		sp.close()
		return nil, err
	}
	return sp, nil
}

const (
	volumeFile = "volume"
	epochFile  = "epoch"
)

// readVolume returns the id of a locked folder, and makes it at the first time.
func readVolume(dir string) (string, error) {
	path := filepath.Join(dir, volumeFile)
	b, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(b)) > 0 {
		return string(bytes.TrimSpace(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("failed to read the id of the spool: %w", err)
	}
	id := rand.Text()
	if err := writeSynced(path, id); err != nil {
		return "", fmt.Errorf("failed to write the id of the spool: %w", err)
	}
	return id, nil
}

// epoch returns the epoch that was written last, 0 at first. Another process may have written it, to a folder
// without a lock.
func (sp *spool) epoch() (int64, error) {
	b, err := os.ReadFile(filepath.Join(sp.dir, epochFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("failed to read the epoch of the spool: %w", err)
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("failed to read the epoch of the spool, from its file %s: %w", epochFile, err)
	}
	return n, nil
}

func (sp *spool) setEpoch(n int64) error {
	if err := writeSynced(filepath.Join(sp.dir, epochFile), strconv.FormatInt(n, 10)); err != nil {
		return fmt.Errorf("failed to write the epoch of the spool: %w", err)
	}
	return nil
}

// writeSynced replaces a file that holds one line. After a crash of the machine the file holds the one or the
// other, and not the older one once this has returned.
func writeSynced(path, line string) (err error) {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

// close unlocks the folder. Everything in it stays.
func (sp *spool) close() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.released != nil {
		_ = sp.released.Close()
		sp.released = nil
	}
	_ = sp.lock.Close()
}

func (sp *spool) tmp() string { return filepath.Join(sp.dir, "tmp") }

// nextNumber returns a number that was never used in this folder.
func (sp *spool) nextNumber() int64 { return sp.number.Add(1) }

// advanceTo raises the counter to a number that is in use.
func (sp *spool) advanceTo(n int64) {
	if n > sp.number.Load() {
		sp.number.Store(n)
	}
}

func (sp *spool) newSessionDir() string {
	return filepath.Join(sp.dir, "s"+strconv.FormatInt(sp.nextNumber(), 10))
}

// remove deletes files and folders to which nothing refers any more. It only logs what it cannot delete.
func (sp *spool) remove(paths []string) {
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			sp.log.Warn("failed to remove a spool file", "error", err)
		}
	}
}

// loadReleased returns the last n released sessions, and opens the file for more.
func (sp *spool) loadReleased(n int) ([]string, error) {
	path := filepath.Join(sp.dir, "released")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("failed to read the released sessions: %w", err)
	}
	var ids []string
	for line := range bytes.Lines(b) {
		var id string
		if json.Unmarshal(line, &id) == nil { // the last line may be torn
			ids = append(ids, id)
		}
	}
	ids = ids[max(0, len(ids)-n):]

	rewritten := path + ".new"
	if err := os.WriteFile(rewritten, encodeLines(ids), 0o600); err != nil {
		return nil, fmt.Errorf("failed to rewrite the released sessions: %w", err)
	}
	if err := os.Rename(rewritten, path); err != nil {
		return nil, fmt.Errorf("failed to rewrite the released sessions: %w", err)
	}
	sp.released, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("failed to open the released sessions: %w", err)
	}
	return ids, nil
}

// recordReleased appends released sessions to their file.
func (sp *spool) recordReleased(ids []string) {
	if len(ids) == 0 {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.released == nil {
		return
	}
	if _, err := sp.released.Write(encodeLines(ids)); err != nil {
		sp.log.Warn("failed to record a released session", "error", err)
	}
}

// encodeLines returns each string as a line of JSON.
func encodeLines(lines []string) (out []byte) {
	for _, line := range lines {
		b, _ := json.Marshal(line) // strings never fail to marshal
		out = append(append(out, b...), '\n')
	}
	return out
}

// spoolError returns the error of a failed write as callers see it: a full disk is status.BufferFull.
func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return status.Errorf(status.BufferFull,
			"the disk of this transport's spool is full; contact the operator")
	}
	return fmt.Errorf("failed to write to the spool: %w", err)
}
