package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

// JobCounts returns how many jobs are in each state.
func (s *Store) JobCounts(ctx context.Context) (map[bfia.JobState]int, error) {
	return s.countJobs(ctx, (*Job)(nil), append(slices.Clone(openJobs), terminalJobs...))
}

// QueueLength returns how many jobs wait in this scheduler's queue.
func (s *Store) QueueLength(ctx context.Context) (int, error) {
	inQueue := queued
	if !InProject(ctx, identity.DefaultProject) {
		// An expression keeps the databases from the index of the whole queue.
		inQueue = "state = 'READY' AND (queued_at IS NOT NULL) = (1 = 1)"
	}
	n, err := ofJobRows(ctx, s.r.NewSelect().Model((*ScheduleJob)(nil))).Where(inQueue).Count(ctx)
	return n, wrap(err, "count the queue")
}

// IsQueueEmpty reports whether no job, of any project, waits in this scheduler's queue.
func (s *Store) IsQueueEmpty(ctx context.Context) (bool, error) {
	waits, err := s.r.NewSelect().Model((*ScheduleJob)(nil)).Where(queued).Exists(ctx)
	return !waits, wrap(err, "read whether a job is queued")
}

// FailedJobs returns jobs that have failed since a time, the last ones first, at most limit, and how many
// there are.
func (s *Store) FailedJobs(ctx context.Context, since time.Time, limit int) (jobs []Job, all int, err error) {
	all, err = ofJobRows(ctx, s.r.NewSelect().Model(&jobs)).
		Where("ended_at >= ? AND outcome = ?", normalizeTime(since), bfia.OutcomeFailed).
		Order("ended_at DESC", "job_id").Limit(limit).ScanAndCount(ctx)
	if err != nil {
		return nil, 0, wrap(err, "list failed jobs")
	}
	return jobs, all, s.preferScheduler(ctx, jobs)
}

// preferScheduler replaces why jobs failed by what their scheduler knows, where that is this party: its own
// part may have failed only because a partner's did.
func (s *Store) preferScheduler(ctx context.Context, jobs []Job) error {
	at := map[string]int{}
	var ids []string
	for i, j := range jobs {
		if j.Outcome == bfia.OutcomeFailed {
			at[j.JobID] = i
			ids = append(ids, j.JobID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var scheduled []ScheduleJob
	if err := s.r.NewSelect().Model(&scheduled).Column("job_id", "reason", "failure").
		Where("job_id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return wrap(err, "read why scheduled jobs failed")
	}
	for _, j := range scheduled {
		if j.Failure != nil {
			job := &jobs[at[j.JobID]]
			job.Failure, job.Reason = j.Failure, cmp.Or(j.Reason, job.Reason)
		}
	}
	return nil
}

// WaitingJobs returns the open jobs of which a row of this party records a wait of a kind, oldest first, with
// all their waits.
func (s *Store) WaitingJobs(ctx context.Context, kind bfia.WaitingKind) ([]Job, error) {
	open := bun.List(openJobs)
	pattern := "%" + likeEscape.Replace(`"kind":`+encode(kind)) + "%"
	var jobs []Job
	if err := ofJobRows(ctx, s.r.NewSelect().Model(&jobs)).
		Where("state IN (?) AND waiting LIKE ? ESCAPE '!'", open, pattern).
		Order("created_at", "job_id").Scan(ctx); err != nil {
		return nil, wrap(err, "list jobs that wait")
	}
	var scheduled []ScheduleJob
	if err := ofJobRows(ctx, s.r.NewSelect().Model(&scheduled)).
		Where("state IN (?) AND waiting LIKE ? ESCAPE '!'", open, pattern).
		Order("created_at", "job_id").Scan(ctx); err != nil {
		return nil, wrap(err, "list scheduled jobs that wait")
	}
	at := map[string]int{}
	for i, j := range jobs {
		at[j.JobID] = i
	}
	for _, j := range scheduled {
		if i, both := at[j.JobID]; both {
			jobs[i].Waiting = append(jobs[i].Waiting, j.Waiting...)
			continue
		}
		jobs = append(jobs, Job{JobID: j.JobID, FlowID: j.FlowID, State: j.State,
			InitiatorNode: j.InitiatorNode, PartyNodes: j.ParticipantNodes, Project: j.Project,
			Waiting: j.Waiting, CreatedAt: normalizeTime(j.CreatedAt)})
	}
	return jobs, nil
}

type partnerContact struct {
	bun.BaseModel `bun:"table:t_partner_contact,alias:pc"`

	NodeID    string    `bun:"node_id,pk"`
	ContactAt time.Time `bun:"contact_at"`
}

// PutContact records that a partner has made a request, or answers again. An earlier time changes nothing.
func (s *Store) PutContact(ctx context.Context, node string, at time.Time) error {
	if err := checkText("node_id", node); err != nil {
		return err
	}
	row := partnerContact{NodeID: node, ContactAt: normalizeTime(at)}
	_, err := s.w.NewInsert().Model(&row).On("CONFLICT (node_id) DO UPDATE").
		Set("contact_at = EXCLUDED.contact_at").Where("pc.contact_at < EXCLUDED.contact_at").Exec(ctx)
	return wrap(err, "record a request of %s", node)
}

// Contacts returns when partners were last in contact, by node id.
func (s *Store) Contacts(ctx context.Context) (map[string]time.Time, error) {
	var rows []partnerContact
	err := s.r.NewSelect().Model(&rows).Scan(ctx)
	contacts := map[string]time.Time{}
	for _, r := range rows {
		contacts[r.NodeID] = normalizeTime(r.ContactAt)
	}
	return contacts, wrap(err, "list the last requests of partners")
}

// ApprovedJob returns the job of a flow and an initiator that clients of this party approved last. Of a job
// that was approved itself, it returns the one that was approved before it.
func (s *Store) ApprovedJob(ctx context.Context, before, flowID, initiator string) (jobID string, found bool,
	err error) {
	if flowID == "" { // such jobs have nothing in common
		return "", false, nil
	}
	approvals := func() *bun.SelectQuery {
		return jobsOf(ctx, "a.object_id").addTo(s.r.NewSelect().Model((*auditRow)(nil))).
			Where("a.object_kind = ?", audit.Job).
			Where("a.act = ? AND a.outcome = ?", audit.Approve, audit.Allowed)
	}
	var ids []string
	err = approvals().Column("a.object_id").
		Join("JOIN t_job AS j ON j.job_id = a.object_id").
		Where("j.flow_id = ? AND j.initiator_node = ? AND j.job_id <> ?", flowID, initiator, before).
		Where("j.state IN (?)", bun.List([]bfia.JobState{bfia.JobReady, bfia.JobRunning, bfia.JobFinished})).
		Where("a.seq < COALESCE((?), a.seq + 1)", approvals().ColumnExpr("MIN(a.seq)").
			Where("a.object_id = ?", before)).
		OrderExpr("a.seq DESC").Limit(1).Scan(ctx, &ids)
	if err != nil || len(ids) == 0 {
		return "", false, wrap(err, "read the job of flow %s that was approved last", flowID)
	}
	return ids[0], true, nil
}
