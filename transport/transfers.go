package transport

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hutong/transport/wire"
)

// Transfer counts the bytes that a session has exchanged with one partner for one task. The bytes are those
// of the bodies of pushes, each message once.
type Transfer struct {
	SessionID string `json:"session_id"`
	NodeID    string `json:"node_id"` // of the partner
	// TaskID is the task of the container that sent the messages, here or at the partner, as the transport
	// there names it. It is empty if that is unknown.
	TaskID string `json:"task_id,omitempty"`
	// Sent counts messages that the partner has accepted, Received those that this transport has accepted.
	Sent             int64 `json:"sent_bytes"`
	SentMessages     int64 `json:"sent_messages"`
	Received         int64 `json:"received_bytes"`
	ReceivedMessages int64 `json:"received_messages"`
	// Unconfirmed counts messages that the partner has refused, or of which it is unknown whether it has
	// accepted them.
	Unconfirmed int64 `json:"unconfirmed_bytes"`
	// Incomplete is set if the transport has crashed meanwhile: the numbers are lower bounds.
	Incomplete bool `json:"incomplete"`
}

// transferFlush is the time after which counts are written to the spool. A crash loses those of this time,
// and is noticed at the next start.
const transferFlush = 2 * time.Second

type transferKey struct{ session, node, task string }

// maxTasks bounds the tasks that a partner can name in one session, and maxTaskID the length of a name.
const (
	maxTasks  = 4096
	maxTaskID = 128
)

// transferRecord is a line of the journal: the counts of a session and a partner, or the end of a process.
type transferRecord struct {
	Transfer
	At     time.Time `json:"at,omitzero"`
	Closed bool      `json:"closed,omitempty"`
}

// transfers counts the transfers of all sessions. They are kept in a journal in the spool, so that they
// survive a restart, and forgotten some time after their last change.
type transfers struct {
	log *slog.Logger

	mu     sync.Mutex
	file   *os.File
	counts map[transferKey]*transferRecord
	tasks  map[transferKey]int // how many tasks a session has counted for a node
	dirty  map[transferKey]bool
	timer  *time.Timer // set while something is dirty
}

// openTransfers reads the journal in a folder, and rewrites it without what is older than keep. The caller
// holds the lock of the folder.
func openTransfers(dir string, keep time.Duration, log *slog.Logger) (*transfers, error) {
	path := filepath.Join(dir, "transfers")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("failed to read the counts of transfers: %w", err)
	}
	t := &transfers{log: log, counts: map[transferKey]*transferRecord{}, dirty: map[transferKey]bool{},
		tasks: map[transferKey]int{}}
	clean := true
	for line := range bytes.Lines(b) {
		var r transferRecord
		if json.Unmarshal(line, &r) != nil {
			continue // the last line may be torn
		}
		if clean = r.Closed; clean {
			continue
		}
		t.counts[transferKey{r.SessionID, r.NodeID, r.TaskID}] = &r
	}
	var rewritten bytes.Buffer
	for key, r := range t.counts {
		if time.Since(r.At) > keep {
			delete(t.counts, key)
			continue
		}
		r.Incomplete = r.Incomplete || !clean
		t.tasks[transferKey{session: r.SessionID, node: r.NodeID}]++
		rewritten.Write(encodeTransfer(r))
	}
	if err := os.WriteFile(path+".new", rewritten.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("failed to rewrite the counts of transfers: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("failed to rewrite the counts of transfers: %w", err)
	}
	if t.file, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("failed to open the counts of transfers: %w", err)
	}
	return t, nil
}

func encodeTransfer(r *transferRecord) []byte {
	line, _ := json.Marshal(r) // strings and numbers always marshal
	return append(line, '\n')
}

// count changes the counts of a session, a partner and a task. The first count of them is written at once, so
// that a crash does not lose that there were any.
func (t *transfers) count(session, node, task string, change func(*Transfer)) {
	if node == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return
	}
	all := transferKey{session: session, node: node}
	key := transferKey{session, node, task}
	r, known := t.counts[key]
	if !known && (len(task) > maxTaskID || t.tasks[all] >= maxTasks) {
		key = all
		r, known = t.counts[key]
	}
	if !known {
		r = &transferRecord{Transfer: Transfer{SessionID: session, NodeID: node, TaskID: key.task}}
		t.counts[key] = r
		t.tasks[all]++
	}
	change(&r.Transfer)
	r.At = time.Now().UTC()
	t.dirty[key] = true
	switch {
	case !known:
		t.flushLocked()
	case t.timer == nil:
		t.timer = time.AfterFunc(transferFlush, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.timer = nil
			t.flushLocked()
		})
	}
}

func (t *transfers) flushLocked() {
	if t.file == nil {
		return
	}
	var lines bytes.Buffer
	for key := range t.dirty {
		if r := t.counts[key]; r != nil {
			lines.Write(encodeTransfer(r))
		}
	}
	clear(t.dirty)
	if _, err := t.file.Write(lines.Bytes()); err != nil {
		t.log.Error("failed to write the counts of transfers; evidence may lack them after a restart",
			"error", err)
	}
}

// of returns the transfers of a session, and with derived also those of the sessions derived from it, by
// session, partner and task. They stay known for a repeated release.
func (t *transfers) of(session string, derived bool) []Transfer {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []Transfer{}
	for key, r := range t.counts {
		if key.session == session || derived && strings.HasPrefix(key.session, session+derivedMark) {
			list = append(list, r.Transfer)
		}
	}
	slices.SortFunc(list, func(a, b Transfer) int {
		return cmp.Or(strings.Compare(a.SessionID, b.SessionID), strings.Compare(a.NodeID, b.NodeID),
			strings.Compare(a.TaskID, b.TaskID))
	})
	return list
}

// forget drops counts that have not changed for some time.
func (t *transfers) forget(keep time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.counts, func(key transferKey, r *transferRecord) bool {
		old := time.Since(r.At) > keep
		if old {
			t.forgetTask(key)
		}
		return old
	})
}

// forgetTask counts one task less of a session and a node.
func (t *transfers) forgetTask(key transferKey) {
	key.task = ""
	if t.tasks[key]--; t.tasks[key] <= 0 {
		delete(t.tasks, key)
	}
}

// close writes all counts and records that they are complete.
func (t *transfers) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.flushLocked()
	_, err := t.file.Write(encodeTransfer(&transferRecord{Closed: true}))
	if err := errors.Join(err, t.file.Close()); err != nil {
		t.log.Error("failed to write the counts of transfers", "error", err)
	}
	t.file = nil
}

// countSent counts a push that was forwarded to a partner. failed is why the partner has not confirmed it.
func (t *Transport) countSent(session, node, task string, n int64, answer wire.Answer, failed error) {
	accepted := false
	t.transfers.count(session, node, task, func(c *Transfer) {
		repeated := strings.HasPrefix(answer.Message, duplicateMark)
		switch {
		case failed != nil, repeated && c.Unconfirmed < n: // it left again, and was accepted once
			c.Unconfirmed += n
			return
		case repeated: // an earlier push, whose answer was lost, is confirmed
			c.Unconfirmed -= n
		}
		c.Sent += n
		c.SentMessages++
		accepted = true
	})
	if accepted {
		t.onTransfer(node, true, n)
	}
}

// countReceived counts a push that was accepted from a partner.
func (t *Transport) countReceived(session, node, task string, n int64) {
	if node == t.nodeID {
		return
	}
	t.transfers.count(session, node, task, func(c *Transfer) {
		c.Received += n
		c.ReceivedMessages++
	})
	t.onTransfer(node, false, n)
}

// releasedTransfers returns the transfers of a session that is released, as JSON for the party.
func (t *Transport) releasedTransfers(session string, derived bool) []byte {
	t.transfers.forget(t.limits.SessionTTL)
	list, _ := json.Marshal(t.transfers.of(session, derived)) // always marshals
	return list
}
