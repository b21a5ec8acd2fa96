package store

import (
	"context"
	"encoding/json"
	"strings"

	"hutong/bfia"
)

// maxLogLine and maxLogLines bound the log excerpt in a failure.
const (
	maxLogLine  = 1 << 10
	maxLogLines = 50
)

// encodeFailure returns a failure as JSON that both databases accept.
func encodeFailure(f *bfia.Failure) (string, error) {
	b, err := json.Marshal(cleanFailure(f))
	return string(b), err
}

// cleanFailure returns a failure that both databases accept, without its hint.
func cleanFailure(f *bfia.Failure) *bfia.Failure {
	kept := *f
	kept.Hint = ""
	for _, s := range []*string{&kept.NodeID, &kept.Role, &kept.Task, &kept.By, &kept.Message} {
		*s = cleanReason(*s)
	}
	kept.Log = nil
	for _, line := range f.Log[:min(len(f.Log), maxLogLines)] {
		line = cleanReason(line)
		kept.Log = append(kept.Log, strings.ToValidUTF8(line[:min(len(line), maxLogLine)], ""))
	}
	return &kept
}

// setFailure writes a failure into a row that has none: the first one stays. Nil leaves the row unchanged.
func (s *Store) setFailure(ctx context.Context, f *bfia.Failure, model any, where string, args ...any) error {
	if f == nil {
		return nil
	}
	text, err := encodeFailure(f)
	if err != nil {
		return wrap(err, "record the failure of %v", args)
	}
	_, err = s.w.NewUpdate().
		Model(model).
		Set("failure = ?", text).
		Where(where, args...).
		Where("failure IS NULL").
		Exec(ctx)
	return wrap(err, "record the failure of %v", args)
}

// SetTaskFailure records why a part of a task failed, unless another attempt than taskID has followed. The
// first failure stays.
func (s *Store) SetTaskFailure(ctx context.Context, key TaskKey, taskID string, f *bfia.Failure) error {
	return s.setFailure(ctx, f, (*Task)(nil), taskKeyWhere+sameAttempt, append(key.args(), taskID)...)
}

// SetJobFailure records why a job failed, at a participant. The first failure stays.
func (s *Store) SetJobFailure(ctx context.Context, jobID string, f *bfia.Failure) error {
	return s.setFailure(ctx, f, (*Job)(nil), "job_id = ?", jobID)
}

// SetScheduleJobFailure records why a job failed, at its scheduler. The first failure stays.
func (s *Store) SetScheduleJobFailure(ctx context.Context, jobID string, f *bfia.Failure) error {
	return s.setFailure(ctx, f, (*ScheduleJob)(nil), "job_id = ?", jobID)
}

// SetSchedulePartFailure records why a part of a task failed, at its scheduler. The first failure stays.
func (s *Store) SetSchedulePartFailure(ctx context.Context, taskID, role string, index int,
	f *bfia.Failure) error {
	return s.setFailure(ctx, f, (*SchedulePart)(nil), "task_id = ? AND role = ? AND role_index = ?", taskID,
		role, index)
}
