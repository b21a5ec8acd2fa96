package store

import (
	"context"
	"database/sql"
	"errors"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/audit"
)

// Watcher notices what any process of the party has written. It compares states, so a writer needs to do
// nothing, and no change is lost whatever the order of commits is. A change that is undone between two calls
// of [Watcher.Next] is not reported.
//
// A look costs one small query while nobody writes. Otherwise it reads the rows of jobs that have not ended,
// and of the few that ended last. It is not safe for concurrent use.
type Watcher struct {
	s    *Store
	conn *bun.DB // one connection of its own, since SQLite counts changes for each connection

	mark    string // of the database's last commit that was seen
	read    time.Time
	auditID int64
	seed    maphash.Seed
	before  watched
}

// watched holds a hash of each thing that is watched: by kind, and by job id, or "" for the things that are
// not of one job.
type watched struct {
	hashes map[bfia.Change]uint64
	open   map[string]bool // the jobs that have not ended
}

const (
	// watchAtLeast is the longest time without a full look: a runner becomes silent without a write.
	watchAtLeast = 5 * time.Second
	// watchEnded and watchEndedTasks bound the ended jobs that a look reads. A job that was open at the look
	// before is noticed in any case.
	watchEnded, watchEndedTasks = 50, 10
	// watchActs bounds the entries of the audit trail that a look reads.
	watchActs = 500
)

// Watch returns a watcher that reports changes from now on. silentAfter is the time without a heartbeat after
// which a runner is silent.
func (s *Store) Watch(ctx context.Context, silentAfter time.Duration) (*Watcher, error) {
	conn, err := s.openConn()
	if err != nil {
		return nil, wrap(err, "watch for changes")
	}
	w := &Watcher{s: s, conn: bun.NewDB(conn, s.r.Dialect()), seed: maphash.MakeSeed()}
	if err := w.begin(ctx, silentAfter); err != nil {
		return nil, errors.Join(wrap(err, "watch for changes"), conn.Close())
	}
	return w, nil
}

func (w *Watcher) begin(ctx context.Context, silentAfter time.Duration) (err error) {
	if w.mark, err = w.lastCommit(ctx); err != nil {
		return err
	}
	if err := w.conn.QueryRowContext(ctx, "SELECT seq FROM t_audit_head").Scan(&w.auditID); err != nil {
		return err
	}
	w.read = time.Now()
	w.before, err = w.look(ctx, silentAfter)
	return err
}

// Close releases the connection.
func (w *Watcher) Close() error { return w.conn.Close() }

// lastCommit returns a text that differs after each commit of another connection.
func (w *Watcher) lastCommit(ctx context.Context) (mark string, err error) {
	query := "PRAGMA data_version"
	if w.s.pg {
		// The whole snapshot: its end alone stays the same when an older transaction commits last.
		query = "SELECT CAST(txid_current_snapshot() AS TEXT)"
	}
	err = w.conn.QueryRowContext(ctx, query).Scan(&mark)
	return mark, err
}

// Next returns what has changed since the call before, each thing once, in a fixed order. After an error the
// next call reports what this one would have.
func (w *Watcher) Next(ctx context.Context, silentAfter time.Duration) ([]bfia.Change, error) {
	mark, err := w.lastCommit(ctx)
	if err != nil {
		return nil, wrap(err, "look for changes")
	}
	if mark == w.mark && time.Since(w.read) < watchAtLeast {
		return nil, nil
	}
	began := time.Now()
	acts, auditID, err := w.acts(ctx)
	if err != nil {
		return nil, wrap(err, "look for changes in the audit trail")
	}
	now, err := w.look(ctx, silentAfter)
	if err != nil {
		return nil, wrap(err, "look for changes")
	}
	changes := append(acts, now.since(w.before)...)
	w.mark, w.read, w.auditID, w.before = mark, began, auditID, now
	slices.SortFunc(changes, bfia.Change.Compare)
	return slices.Compact(changes), nil
}

// since returns what differs from an earlier look.
func (w watched) since(before watched) (changes []bfia.Change) {
	for c, hash := range w.hashes {
		if old, known := before.hashes[c]; !known || old != hash {
			changes = append(changes, c)
		}
	}
	for c := range before.hashes {
		// Jobs also leave the rows that are read because others have ended since.
		if _, known := w.hashes[c]; !known && before.open[c.JobID] {
			changes = append(changes, c)
		}
	}
	return changes
}

// texts returns an expression that joins columns as text.
func texts(columns ...string) string {
	for i, c := range columns {
		columns[i] = "COALESCE(CAST(" + c + " AS TEXT), '')"
	}
	return strings.Join(columns, " || '|' || ")
}

// jobsWhere selects ids of jobs from a table: the open ones, and at most n that ended last.
func jobsWhere(table, states, n string) string {
	return "SELECT job_id FROM " + table + " WHERE state IN (" + states + ") UNION SELECT job_id FROM " +
		"(SELECT job_id FROM " + table + " WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT " + n +
		") AS ended"
}

const openStates, runningState = "'PENDING', 'READY', 'RUNNING'", "'RUNNING'"

// look reads all that is watched.
func (w *Watcher) look(ctx context.Context, silentAfter time.Duration) (watched, error) {
	now := watched{hashes: map[bfia.Change]uint64{}, open: map[string]bool{}}
	where, silent := "heartbeat_at < ?", any(normalizeTime(time.Now().Add(-silentAfter)))
	if w.s.pg {
		where = "heartbeat_at < clock_timestamp() - make_interval(secs => ?)"
		silent = silentAfter.Seconds()
	}
	ended, endedTasks := strconv.Itoa(watchEnded), strconv.Itoa(watchEndedTasks)
	for _, q := range []struct {
		kind  bfia.ChangeKind
		query string
		args  []any
	}{
		{bfia.ChangedJob, "SELECT job_id, state, " + texts("reason", "outcome", "failure", "waiting",
			"started_at", "ended_at", "removing") + " FROM t_job WHERE job_id IN (" +
			jobsWhere("t_job", openStates, ended) + ")", nil},
		{bfia.ChangedJob, "SELECT job_id, state, " + texts("priority", "reason", "outcome", "failure",
			"waiting", "queued_at", "dequeued_at", "wait_node", "wait_reason", "started_at", "ended_at") +
			" FROM t_schedule_job WHERE job_id IN (" + jobsWhere("t_schedule_job", openStates, ended) + ")",
			nil},
		{bfia.ChangedJob, "SELECT job_id, '', reason FROM t_reservation_request", nil},
		{bfia.ChangedTask, "SELECT job_id, '', " + texts("name", "role", "role_index", "state", "attempt",
			"container_id", "exited_at", "stop_requested", "reason", "failure", "waiting", "progress",
			"started_at", "ended_at") + " FROM t_task WHERE job_id IN (" +
			jobsWhere("t_job", runningState, endedTasks) + ")", nil},
		{bfia.ChangedTask, "SELECT job_id, '', " + texts("name", "state", "attempt", "reason", "started_at",
			"ended_at") + " FROM t_schedule_task WHERE job_id IN (" +
			jobsWhere("t_schedule_job", runningState, endedTasks) + ")", nil},
		{bfia.ChangedTask, "SELECT job_id, '', " + texts("task_id", "role", "role_index", "state", "reason",
			"failure", "waiting", "started_at", "ended_at") + " FROM t_schedule_part WHERE job_id IN (" +
			jobsWhere("t_schedule_job", runningState, endedTasks) + ")", nil},
		{bfia.ChangedRunner, "SELECT '', '', " + texts("runner_id", "devices", "labels", "slots", "cpu_milli",
			"memory", "disk", "gpu", "draining", "CASE WHEN "+where+" THEN 1 ELSE 0 END") + " FROM t_runner",
			[]any{silent}},
		{bfia.ChangedPartner, "SELECT '', '', " + texts("node_id", "state", "updated_at") + " FROM t_partner",
			nil},
		{bfia.ChangedData, "SELECT '', '', " + texts("COUNT(*)", "MAX(updated_at)", "SUM(bytes)") +
			" FROM t_data_table", nil},
	} {
		if err := w.collect(ctx, now, q.kind, q.query, q.args...); err != nil {
			return now, err
		}
	}
	return now, nil
}

// collect adds the hashes of the rows of a query: job id, state and text.
func (w *Watcher) collect(ctx context.Context, now watched, kind bfia.ChangeKind, query string,
	args ...any) error {
	rows, err := w.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var jobID, state, text sql.RawBytes
	var hash maphash.Hash
	hash.SetSeed(w.seed)
	for rows.Next() {
		if err := rows.Scan(&jobID, &state, &text); err != nil {
			return err
		}
		hash.Reset()
		_, _ = hash.Write(state)
		_ = hash.WriteByte(0)
		_, _ = hash.Write(text)
		c := bfia.Change{Kind: kind, JobID: string(jobID)}
		now.hashes[c] += hash.Sum64() | 1 // the order of rows does not count
		switch bfia.JobState(state) {
		case bfia.JobPending:
			now.hashes[bfia.Change{Kind: bfia.ChangedApproval, JobID: c.JobID}] += hash.Sum64() | 1
			now.open[c.JobID] = true
		case bfia.JobReady, bfia.JobRunning:
			now.open[c.JobID] = true
		}
	}
	return rows.Err()
}

// reads are acts that change nothing.
var reads = []string{audit.ReadLog, audit.ReadOutputs, audit.ExportEvidence, audit.Download,
	audit.ExportModel, audit.ReadTrail}

// acts returns what users and partners have changed since the last look, as the audit trail says it: such as
// the deletion of a job that ended long ago.
func (w *Watcher) acts(ctx context.Context) (changes []bfia.Change, last int64, err error) {
	last = w.auditID
	rows, err := w.conn.QueryContext(ctx, "SELECT seq, act, object_kind, object_id FROM t_audit "+
		"WHERE seq > ? AND outcome = ? ORDER BY seq LIMIT ?", w.auditID, string(audit.Allowed), watchActs)
	if err != nil {
		return nil, last, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var act, kind, id string
		if err := rows.Scan(&last, &act, &kind, &id); err != nil {
			return nil, last, err
		}
		if slices.Contains(reads, act) {
			continue
		}
		switch audit.ObjectKind(kind) {
		case audit.Job:
			changes = append(changes, bfia.Change{Kind: bfia.ChangedJob, JobID: id})
		case audit.Dataset, audit.Model:
			changes = append(changes, bfia.Change{Kind: bfia.ChangedData})
		case audit.Runner:
			changes = append(changes, bfia.Change{Kind: bfia.ChangedRunner})
		case audit.Partner:
			changes = append(changes, bfia.Change{Kind: bfia.ChangedPartner})
		}
	}
	return changes, last, rows.Err()
}

// EndedTokens returns which of these tokens are revoked, or unknown.
func (s *Store) EndedTokens(ctx context.Context, tokenIDs []string) (ended []string, err error) {
	valid := map[string]bool{}
	const chunk = 500
	for ids := range slices.Chunk(tokenIDs, chunk) {
		var some []string
		if err := s.r.NewSelect().Model((*Token)(nil)).Column("token_id").
			Where("revoked_at IS NULL AND token_id IN (?)", bun.List(ids)).Scan(ctx, &some); err != nil {
			return nil, wrap(err, "read whether tokens are revoked")
		}
		for _, id := range some {
			valid[id] = true
		}
	}
	for _, id := range tokenIDs {
		if !valid[id] {
			ended = append(ended, id)
		}
	}
	return ended, nil
}
