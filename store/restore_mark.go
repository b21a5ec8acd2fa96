package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/audit"
)

// RestoreMark is the number that the party counts up in its database, in Temporal and in its storage. A part
// whose number lags behind was restored from a backup.
type RestoreMark struct {
	bun.BaseModel `bun:"table:t_restore_mark,alias:rm" json:"-"`

	Singleton  int        `bun:"singleton,pk" json:"-"`
	Number     int64      `bun:"number" json:"number"`
	MarkedAt   time.Time  `bun:"marked_at" json:"marked_at"`
	RestoredAt *time.Time `bun:"restored_at" json:"restored_at,omitempty"` // when a restore was finished last
}

var _ bun.AfterScanRowHook = (*RestoreMark)(nil)

// AfterScanRow normalizes the times.
func (m *RestoreMark) AfterScanRow(context.Context) error {
	normalizeTimes(&m.MarkedAt)
	if m.RestoredAt != nil {
		normalizeTimes(m.RestoredAt)
	}
	return nil
}

// RestoreMark returns the mark of the database. It is zero before the party's first start.
func (s *Store) RestoreMark(ctx context.Context) (RestoreMark, error) {
	var m RestoreMark
	// From the writing connection: the caller compares it with the marks of Temporal and the storage.
	err := s.w.NewSelect().Model(&m).Where("singleton = 1").Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return RestoreMark{}, nil
	}
	return m, wrap(err, "read the restore mark")
}

// AdvanceRestoreMark counts the mark up to number, from the number before. It changes nothing if the database
// has number, and returns CodeConflict if it has any other.
func (s *Store) AdvanceRestoreMark(ctx context.Context, number int64) error {
	now := normalizeTime(time.Now())
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		first := RestoreMark{Singleton: 1, MarkedAt: now}
		_, err := tx.NewInsert().Model(&first).On("CONFLICT (singleton) DO NOTHING").Exec(ctx)
		if err != nil {
			return err
		}
		n, err := affected(tx.NewUpdate().Model((*RestoreMark)(nil)).
			Set("number = ?, marked_at = ?", number, now).
			Where("singleton = 1 AND number IN (?, ?)", number-1, number).Exec(ctx))
		if err == nil && n == 0 {
			err = bfia.Errorf(bfia.CodeConflict, "the database has another restore mark than %d", number-1)
		}
		return err
	})
	return wrap(err, "count up the restore mark")
}

// FinishRestore sets the mark after a restore, forgets which transports held sessions, and records the
// restore in the audit trail.
func (s *Store) FinishRestore(ctx context.Context, number int64, at time.Time, entry *audit.Entry) error {
	at = normalizeTime(at)
	row := RestoreMark{Singleton: 1, Number: number, MarkedAt: at, RestoredAt: &at}
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(&row).On("CONFLICT (singleton) DO UPDATE").
			Set("number = EXCLUDED.number, marked_at = EXCLUDED.marked_at, restored_at = EXCLUDED.restored_at").
			Exec(ctx); err != nil {
			return err
		}
		if err := forgetTransports(ctx, tx); err != nil { // the spools are empty now, with other ids
			return err
		}
		return s.Audit(ctx, tx, entry)
	}), "record the end of a restore")
}

// OutputsAfter returns outputs of this party's ended parts, at most limit, after one in the order of their
// keys. The zero value is before the first.
func (s *Store) OutputsAfter(ctx context.Context, last Output, limit int) ([]Output, error) {
	var outputs []Output
	q := s.r.NewSelect().Model(&outputs).
		Order("job_id", "task_name", "role", "role_index", "type", "key").Limit(limit)
	if last.JobID != "" {
		q.Where("(job_id, task_name, role, role_index, type, key) > (?, ?, ?, ?, ?, ?)", last.JobID,
			last.TaskName, last.Role, last.RoleIndex, last.Type, last.Key)
	}
	return outputs, wrap(q.Scan(ctx), "read the outputs of all jobs")
}

// AppendJobNote appends a line to the note on a job, unless the note has it. It ignores a job that this party
// does not know.
func (s *Store) AppendJobNote(ctx context.Context, jobID, line string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		known, err := tx.NewSelect().Model((*Job)(nil)).Where("job_id = ?", jobID).Exists(ctx)
		if err != nil || !known {
			return err
		}
		row := jobNote{JobID: jobID}
		err = tx.NewSelect().Model(&row).WherePK().Scan(ctx)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		for have := range strings.SplitSeq(row.Note, "\n") {
			if have == line {
				return nil
			}
		}
		row.Note, row.UpdatedAt = strings.TrimPrefix(row.Note+"\n"+line, "\n"), normalizeTime(time.Now())
		_, err = tx.NewInsert().Model(&row).On("CONFLICT (job_id) DO UPDATE").
			Set("note = EXCLUDED.note, updated_at = EXCLUDED.updated_at").Exec(ctx)
		return err
	}), "note something on job %s", jobID)
}
