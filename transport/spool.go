package transport

import (
	"bytes"
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
)

// spool is the folder in which messages live:
//
//	lock            held by the process that uses the folder
//	released        ids of sessions that were released, one a line
//	tmp/            bodies that are being read or under way to partners
//	s<n>/           a session
//	s<n>/<m>.log    a part of one queue's log
//	s<n>/<m>.blob   the bytes of a message that is too large for a log
//
// All numbers are from one counter, so a name is never used twice and the logs
// of a queue are in the order of their names. Nothing is synced to the disk: what was written
// survives the process, and the host's crash only as far as its kernel got.
type spool struct {
	dir  string
	log  *slog.Logger
	lock *os.File
	next atomic.Int64

	mu       sync.Mutex // guards the file of released sessions
	released *os.File
}

// openSpool takes a folder for this process; it is made if need be.
func openSpool(dir string, log *slog.Logger) (*spool, error) {
	if dir == "" {
		return nil, errors.New("a transport needs a folder for its spool")
	}
	sp := &spool{dir: dir, log: log}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool's folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the spool's lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("the spool %s is in use by another transport (%w); a party has one transport", dir, err)
	}
	sp.lock = lock
	// What was being read when the last process ended was never answered.
	if err := os.RemoveAll(sp.tmp()); err != nil {
		sp.close()
		return nil, fmt.Errorf("clear the spool: %w", err)
	}
	if err := os.Mkdir(sp.tmp(), 0o700); err != nil {
		sp.close()
		return nil, fmt.Errorf("clear the spool: %w", err)
	}
	return sp, nil
}

// close gives the folder free; all that is in it stays.
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

// number is one that was never used in this folder.
func (sp *spool) number() int64 { return sp.next.Add(1) }

// used tells the counter of a number that was found in the folder.
func (sp *spool) used(n int64) {
	if n > sp.next.Load() {
		sp.next.Store(n)
	}
}

func (sp *spool) newSessionDir() string {
	return filepath.Join(sp.dir, "s"+strconv.FormatInt(sp.number(), 10))
}

// remove deletes files and folders that nothing refers to any more.
func (sp *spool) remove(paths []string) {
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			sp.log.Warn("a spool file could not be removed", "error", err)
		}
	}
}

// loadReleased reads which sessions were released, at most the last n, and
// keeps the file open for more.
func (sp *spool) loadReleased(n int) ([]string, error) {
	path := filepath.Join(sp.dir, "released")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	var ids []string
	for line := range bytes.Lines(b) {
		var id string
		if json.Unmarshal(line, &id) == nil { // the last one may be torn
			ids = append(ids, id)
		}
	}
	ids = ids[max(0, len(ids)-n):]
	var out []byte
	for _, id := range ids {
		out = append(out, jsonLine(id)...)
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, out, 0o600); err != nil {
		return nil, fmt.Errorf("write the spool: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return nil, fmt.Errorf("write the spool: %w", err)
	}
	sp.released, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	return ids, nil
}

// noteReleased writes down that sessions were released.
func (sp *spool) noteReleased(ids []string) {
	if len(ids) == 0 {
		return
	}
	var out []byte
	for _, id := range ids {
		out = append(out, jsonLine(id)...)
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.released == nil {
		return
	}
	if _, err := sp.released.Write(out); err != nil {
		sp.log.Warn("the release of a session could not be written down", "error", err)
	}
}

func jsonLine(s string) []byte {
	b, _ := json.Marshal(s) // a string can't fail to marshal
	return append(b, '\n')
}

// spoolError is what a failure to write means to a caller.
func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return refuse(CodeBufferFull, "the disk of this transport's spool is full; tell the operator")
	}
	return fmt.Errorf("write the spool: %w", err)
}
