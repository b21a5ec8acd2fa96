package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Transfer holds the bytes that a session of the transport has exchanged with one partner for one task, until
// its release.
type Transfer struct {
	bun.BaseModel `bun:"table:t_transfer,alias:t" json:"-"`

	SessionID string `bun:"session_id,pk"     json:"session_id"`
	// NodeID is the partner. It is empty in the record that the transfers of a session are complete.
	NodeID string `bun:"node_id,pk"        json:"node_id"`
	// TaskID is the task of the container that sent the messages, as its party names it; empty if unknown.
	TaskID string `bun:"task_id,pk"        json:"task_id,omitempty"`
	// Sent and Received are bytes of messages (bodies of pushes) that the receiver has accepted, each once.
	Sent             int64 `bun:"sent"              json:"sent_bytes"`
	SentMessages     int64 `bun:"sent_messages"     json:"sent_messages"`
	Received         int64 `bun:"received"          json:"received_bytes"`
	ReceivedMessages int64 `bun:"received_messages" json:"received_messages"`
	// Unconfirmed are bytes of messages that were sent, and of which it is unknown whether the
	// partner has accepted them.
	Unconfirmed int64 `bun:"unconfirmed"       json:"unconfirmed_bytes"`
	// Incomplete is set if the transport crashed during the session: the numbers are lower bounds.
	Incomplete bool      `bun:"incomplete"        json:"incomplete"`
	RecordedAt time.Time `bun:"recorded_at"       json:"-"`
}

// RecordTransfers records the transfers of a session of a job at its release, and that they are complete. A
// repeated call replaces them. Those of several transports for one task are added up. They stay after the
// deletion of the job: they are evidence.
func (s *Store) RecordTransfers(ctx context.Context, sessionID string, transfers []Transfer) error {
	rows := []Transfer{{SessionID: sessionID}}
	at := map[[3]string]int{}
	for _, t := range transfers {
		key := [3]string{t.SessionID, t.NodeID, t.TaskID}
		if i, found := at[key]; found {
			rows[i].add(t)
			continue
		}
		at[key] = len(rows)
		rows = append(rows, t)
	}
	now := normalizeTime(time.Now())
	for i := range rows {
		rows[i].RecordedAt = now
		if err := checkText("session_id", rows[i].SessionID, "node_id", rows[i].NodeID,
			"task_id", rows[i].TaskID); err != nil {
			return err
		}
	}
	_, err := s.w.NewInsert().Model(&rows).On("CONFLICT (session_id, node_id, task_id) DO UPDATE").
		Set("recorded_at = EXCLUDED.recorded_at").
		Set("sent = EXCLUDED.sent, sent_messages = EXCLUDED.sent_messages").
		Set("received = EXCLUDED.received, received_messages = EXCLUDED.received_messages").
		Set("unconfirmed = EXCLUDED.unconfirmed, incomplete = EXCLUDED.incomplete").Exec(ctx)
	return wrap(err, "record the transfers of session %s", sessionID)
}

// Transfers returns the transfers of a job, by session and partner. complete reports whether the job's
// session was released: before, there are none.
func (s *Store) Transfers(ctx context.Context, jobID string) (transfers []Transfer, complete bool,
	err error) {
	byTask, complete, err := s.TaskTransfers(ctx, jobID)
	transfers = []Transfer{}
	for _, t := range byTask {
		last := len(transfers) - 1
		if last < 0 || transfers[last].SessionID != t.SessionID || transfers[last].NodeID != t.NodeID {
			t.TaskID = ""
			transfers = append(transfers, t)
			continue
		}
		transfers[last].add(t)
	}
	return transfers, complete, err
}

func (t *Transfer) add(other Transfer) {
	t.Sent += other.Sent
	t.SentMessages += other.SentMessages
	t.Received += other.Received
	t.ReceivedMessages += other.ReceivedMessages
	t.Unconfirmed += other.Unconfirmed
	t.Incomplete = t.Incomplete || other.Incomplete
}

// TaskTransfers returns the transfers of a job, by session, partner and task; see [Store.Transfers].
func (s *Store) TaskTransfers(ctx context.Context, jobID string) (transfers []Transfer, complete bool,
	err error) {
	var rows []Transfer
	if err := checkJobProject(ctx, s.r, jobID); err != nil {
		if bfia.CodeOf(err) == bfia.CodeNotFound {
			return []Transfer{}, false, nil
		}
		return nil, false, wrap(err, "read the transfers of job %s", jobID)
	}
	session := bfia.SessionID(jobID)
	if err := s.r.NewSelect().Model(&rows).
		Where("session_id = ? OR session_id LIKE ? ESCAPE '!'", session,
			likeEscape.Replace(session+bfia.DerivedSession)+"%").Order("session_id", "node_id", "task_id").
		Scan(ctx); err != nil {
		return nil, false, wrap(err, "read the transfers of job %s", jobID)
	}
	others, err := s.sessionsOfLongerIDs(ctx, jobID, rows)
	if err != nil {
		return nil, false, wrap(err, "read the transfers of job %s", jobID)
	}
	transfers = []Transfer{}
	for _, r := range rows {
		if others[r.SessionID] {
			continue
		}
		if r.NodeID == "" {
			complete = complete || r.SessionID == session
			continue
		}
		transfers = append(transfers, r)
	}
	return transfers, complete, nil
}

// sessionsOfLongerIDs returns which sessions are those of other jobs, whose ids begin with that of the given
// one: session_a_1 is that of job a_1 if there is one, and else derived by job a.
func (s *Store) sessionsOfLongerIDs(ctx context.Context, jobID string, rows []Transfer) (map[string]bool,
	error) {
	sessions := map[string][]string{} // by the ids of jobs that may exist
	for _, r := range rows {
		for _, id := range bfia.SessionJobs(r.SessionID) {
			if len(id) > len(jobID) && !slices.Contains(sessions[id], r.SessionID) {
				sessions[id] = append(sessions[id], r.SessionID)
			}
		}
	}
	others := map[string]bool{}
	if len(sessions) == 0 {
		return others, nil
	}
	// The project of a job outlives it, as its transfers do.
	for _, model := range []any{(*Job)(nil), (*jobProjectRow)(nil)} {
		var exist []string
		if err := s.r.NewSelect().Model(model).Column("job_id").
			Where("job_id IN (?)", bun.List(slices.Collect(maps.Keys(sessions)))).
			Scan(ctx, &exist); err != nil {
			return nil, err
		}
		for _, id := range exist {
			for _, session := range sessions[id] {
				others[session] = true
			}
		}
	}
	return others, nil
}
