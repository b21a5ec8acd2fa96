package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// PartnerSilence is a partner for whose answers jobs wait.
type PartnerSilence struct {
	Since time.Time // the oldest wait
	Jobs  int
}

// PartnerSilences returns for whose answers open jobs of this party and parts of their tasks wait, by node
// id.
func (s *Store) PartnerSilences(ctx context.Context, self string) (map[string]PartnerSilence, error) {
	jobs, err := s.WaitingJobs(ctx, bfia.WaitsForPartner)
	if err != nil {
		return nil, err
	}
	var parts []SchedulePart
	err = s.r.NewSelect().Model(&parts).Column("p.job_id", "p.node_id", "p.waiting").
		Join("JOIN t_schedule_job AS j ON j.job_id = p.job_id").
		Where("j.state = ? AND p.state = ?", bfia.JobRunning, bfia.TaskRunning).
		Where("p.waiting LIKE ? ESCAPE '!'",
			"%"+likeEscape.Replace(`"kind":`+encode(bfia.WaitsForPartner))+"%").Scan(ctx)
	if err != nil {
		return nil, wrap(err, "list parts that wait for partners")
	}

	found := map[string]PartnerSilence{}
	counted := map[[2]string]bool{}
	add := func(jobID string, w bfia.Waiting) {
		if w.Kind != bfia.WaitsForPartner || w.NodeID == "" || w.NodeID == self {
			return
		}
		p, known := found[w.NodeID]
		if !known || w.Since.Before(p.Since) {
			p.Since = w.Since
		}
		if at := [2]string{jobID, w.NodeID}; !counted[at] {
			counted[at] = true
			p.Jobs++
		}
		found[w.NodeID] = p
	}
	for _, j := range jobs {
		for _, w := range j.Waiting {
			add(j.JobID, w)
		}
	}
	for _, p := range parts {
		if p.Waiting != nil {
			add(p.JobID, *p.Waiting)
		}
	}
	return found, nil
}

// OpenSilences returns since when partners are silent that were considered and are not back, by node id.
func (s *Store) OpenSilences(ctx context.Context) (map[string]time.Time, error) {
	var rows []Occurrence
	err := s.r.NewSelect().Model(&rows).Where("o.subject = ?", SubjectPartner).Scan(ctx)
	open := map[string]time.Time{}
	for _, o := range rows {
		open[o.ObjectID] = normalizeTime(o.OccurredAt)
	}
	return open, wrap(err, "list silent partners")
}

// NoticeReturn records that a partner whose silence was considered is back, with the notifications that
// follow from it. It does nothing, and returns false, if that was recorded before.
func (s *Store) NoticeReturn(ctx context.Context, node string, since time.Time, notifications []Notification,
) (bool, error) {
	o := Occurrence{Subject: SubjectPartner, ObjectID: node, OccurredAt: normalizeTime(since)}
	rows, err := newNotifications(o, notifications)
	if err != nil {
		return false, err
	}
	noticed := false
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewDelete().Model(&o).WherePK().Exec(ctx))
		if noticed = n > 0; err != nil || !noticed || len(rows) == 0 {
			return err
		}
		_, err = tx.NewInsert().Model(&rows).Exec(ctx)
		return err
	})
	return noticed && err == nil, wrap(err, "record that %s is back", node)
}
