package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Subject is a kind of thing that notifications consider. Each one is considered once.
type Subject string

// The subjects of notifications.
const (
	SubjectApproval     Subject = "approval"      // a job that waits for an approval, since its creation
	SubjectEnd          Subject = "end"           // of a job
	SubjectGrantRequest Subject = "grant_request" // of a partner
	SubjectRunner       Subject = "runner"        // its silence, since its last heartbeat
	// SubjectPartner is a partner's silence, since the oldest wait for its answer. The record is removed when
	// the partner is back.
	SubjectPartner Subject = "partner"
)

// Occurrence is something that notifications consider: to what it happened, and when.
type Occurrence struct {
	bun.BaseModel `bun:"table:t_noticed,alias:o"`

	Subject    Subject   `bun:"subject,pk"`
	ObjectID   string    `bun:"object_id,pk"`
	OccurredAt time.Time `bun:"occurred_at,pk"`
}

type notificationMark struct {
	bun.BaseModel `bun:"table:t_notification_mark,alias:m"`

	Singleton int       `bun:"singleton,pk"`
	Since     time.Time `bun:"since"`
}

// noticeOverlap is how far before the last complete look the mark stays. The times of ends are those of
// workflows, which retry for a day to record them.
const noticeOverlap = 25 * time.Hour

// StartNotifications switches notifications on: what happens from now on is considered. It does nothing if
// they are on.
func (s *Store) StartNotifications(ctx context.Context) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	_, err = s.w.NewInsert().Model(&notificationMark{Singleton: 1, Since: now}).
		On("CONFLICT (singleton) DO NOTHING").Exec(ctx)
	return wrap(err, "switch notifications on")
}

// StopNotifications switches notifications off, so that what happens until they are on again is never
// considered.
func (s *Store) StopNotifications(ctx context.Context) error {
	_, err := s.w.NewDelete().Model((*notificationMark)(nil)).Where("singleton = 1").Exec(ctx)
	return wrap(err, "switch notifications off")
}

// NotificationsSince returns the time before which nothing is considered. on is false while notifications are
// off.
func (s *Store) NotificationsSince(ctx context.Context) (since time.Time, on bool, err error) {
	var marks []notificationMark
	if err := s.w.NewSelect().Model(&marks).Scan(ctx); err != nil || len(marks) == 0 {
		return since, false, wrap(err, "read since when notifications are on")
	}
	return normalizeTime(marks[0].Since), true, nil
}

// NoticedUntil records that a complete look at a time has considered all that had happened. What is older
// than the mark is forgotten.
func (s *Store) NoticedUntil(ctx context.Context, at time.Time) error {
	since := normalizeTime(at.Add(-noticeOverlap))
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewUpdate().Model((*notificationMark)(nil)).Set("since = ?", since).
			Where("since < ?", since).Exec(ctx))
		if err != nil || n == 0 {
			return err
		}
		_, err = tx.NewDelete().Model((*Occurrence)(nil)).
			Where("occurred_at < ? AND subject <> ?", since, SubjectPartner).Exec(ctx)
		return err
	}), "record what notifications have considered")
}

// Notice records that something was considered, with the notifications that follow from it, all in one
// transaction. It does nothing, and returns false, if it was considered before.
func (s *Store) Notice(ctx context.Context, o Occurrence, notifications []Notification) (bool, error) {
	o.OccurredAt = normalizeTime(o.OccurredAt)
	rows, err := newNotifications(o, notifications)
	if err != nil {
		return false, err
	}
	noticed := false
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewInsert().Model(&o).
			On("CONFLICT (subject, object_id, occurred_at) DO NOTHING").Exec(ctx))
		if noticed = n > 0; err != nil || !noticed || len(rows) == 0 {
			return err
		}
		_, err = tx.NewInsert().Model(&rows).Exec(ctx)
		return err
	})
	return noticed && err == nil, wrap(err, "record what happened to %s", o.ObjectID)
}

// newNotifications returns the rows of new notifications of something that happened.
func newNotifications(o Occurrence, notifications []Notification) ([]Notification, error) {
	rows := make([]Notification, len(notifications))
	for i, n := range notifications {
		n.ObjectID, n.OccurredAt, n.State, n.Round = o.ObjectID, o.OccurredAt, bfia.NotificationNew, 1
		n.CreatedAt = normalizeTime(time.Now())
		n.UpdatedAt = n.CreatedAt
		rows[i] = n
		if err := checkText("event", n.Event, "object_id", n.ObjectID, "receiver", n.Receiver, "job_id",
			n.JobID, "content", n.Content); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// noticed is the condition that something was considered, for the columns of its id and of its time.
func noticed(subject Subject, id, at string) (string, Subject) {
	return "NOT EXISTS (SELECT 1 FROM t_noticed AS o WHERE o.subject = ? AND o.object_id = " + id +
		" AND o.occurred_at = " + at + ")", subject
}

// UnnoticedApprovals returns jobs created since a time that wait for a person of this party, and which were
// not considered yet, oldest first.
func (s *Store) UnnoticedApprovals(ctx context.Context, since time.Time, node string, limit int,
) ([]Job, error) {
	where, subject := noticed(SubjectApproval, "j.job_id", "j.created_at")
	var jobs, waiting []Job
	err := s.r.NewSelect().Model(&jobs).Where("j.state = ? AND NOT j.removing", bfia.JobPending).
		Where("j.created_at > ?", normalizeTime(since)).
		Where("j.waiting LIKE ? ESCAPE '!'",
			"%"+likeEscape.Replace(`"kind":`+encode(bfia.WaitsForApproval))+"%").
		Where(where, subject).Order("j.created_at", "j.job_id").Limit(limit).Scan(ctx)
	for _, j := range jobs {
		for _, w := range j.Waiting {
			if w.Kind == bfia.WaitsForApproval && w.NodeID == node {
				waiting = append(waiting, j)
				break
			}
		}
	}
	return waiting, wrap(err, "list jobs that wait for an approval")
}

// UnnoticedEnds returns jobs that ended since a time and were not considered yet, those that ended first
// first. A job that this party schedules ends when its scheduler says so.
func (s *Store) UnnoticedEnds(ctx context.Context, since time.Time, limit int) ([]Job, error) {
	since = normalizeTime(since)
	where, subject := noticed(SubjectEnd, "j.job_id", "j.ended_at")
	var jobs []Job
	var scheduled []ScheduleJob
	if err := s.r.NewSelect().Model(&scheduled).Where("j.ended_at > ? AND NOT j.removing", since).
		Where(where, subject).Order("j.ended_at", "j.job_id").Limit(limit).Scan(ctx); err != nil {
		return nil, wrap(err, "list scheduled jobs that ended")
	}
	if err := s.r.NewSelect().Model(&jobs).Where("j.ended_at > ? AND NOT j.removing", since).
		Where("NOT EXISTS (SELECT 1 FROM t_schedule_job AS s WHERE s.job_id = j.job_id)").
		Where(where, subject).Order("j.ended_at", "j.job_id").Limit(limit).Scan(ctx); err != nil {
		return nil, wrap(err, "list jobs that ended")
	}
	roles, err := s.rolesOf(ctx, scheduled)
	if err != nil {
		return nil, err
	}
	for _, j := range scheduled {
		jobs = append(jobs, Job{JobID: j.JobID, FlowID: j.FlowID, Project: j.Project, State: j.State,
			Roles: roles[j.JobID], InitiatorNode: j.InitiatorNode, Reason: j.Reason, Outcome: j.Outcome,
			Failure: j.Failure, CreatedAt: j.CreatedAt, EndedAt: j.EndedAt})
	}
	return jobs, nil
}

// rolesOf returns the roles of this party in jobs that it schedules, by job id.
func (s *Store) rolesOf(ctx context.Context, scheduled []ScheduleJob) (map[string][]string, error) {
	var ids []string
	for _, j := range scheduled {
		ids = append(ids, j.JobID)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var parts []Job
	if err := s.r.NewSelect().Model(&parts).Column("job_id", "roles").Where("job_id IN (?)", bun.List(ids)).
		Scan(ctx); err != nil {
		return nil, wrap(err, "read the roles of this party in jobs")
	}
	roles := map[string][]string{}
	for _, p := range parts {
		roles[p.JobID] = p.Roles
	}
	return roles, nil
}

// UnnoticedGrantRequests returns requests of partners since a time that are not decided and were not
// considered yet, oldest first.
func (s *Store) UnnoticedGrantRequests(ctx context.Context, since time.Time, limit int,
) ([]GrantRequest, error) {
	where, subject := noticed(SubjectGrantRequest, "q.partner || '/' || q.audit_id", "q.created_at")
	var requests []GrantRequest
	err := s.r.NewSelect().Model(&requests).
		Where("NOT q.sent AND q.state = ? AND q.created_at > ?", bfia.RequestApplied, normalizeTime(since)).
		Where(where, subject).Order("q.created_at", "q.audit_id").Limit(limit).Scan(ctx)
	return requests, wrap(err, "list requests for grants")
}

// UnnoticedSilence returns the runners that were online since a time, have been silent for a while and are
// not drained, and whose silence was not considered yet.
func (s *Store) UnnoticedSilence(ctx context.Context, since time.Time, silence time.Duration,
) ([]Runner, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	where, subject := noticed(SubjectRunner, "r.runner_id", "r.heartbeat_at")
	var runners []Runner
	err = s.r.NewSelect().Model(&runners).Where("r.heartbeat_at > ? AND r.heartbeat_at < ?",
		normalizeTime(since), normalizeTime(now.Add(-silence))).
		Where("NOT r.draining").Where(where, subject).Order("r.runner_id").Scan(ctx)
	return runners, wrap(err, "list silent runners")
}
