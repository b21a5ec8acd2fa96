package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// AdmissionJob is a job as a participant records it.
type Job struct {
	bun.BaseModel `bun:"table:t_job,alias:j" json:"-"`

	JobID         string        `bun:"job_id,pk"`
	FlowID        string        `bun:"flow_id"`
	State         bfia.JobState `bun:"state"`
	Roles         []string      `bun:"roles"` // what this node plays, such as "guest.0"
	InitiatorNode string        `bun:"initiator_node"`
	SchedulerNode string        `bun:"scheduler_node"`
	Reason        string        `bun:"reason"`
	Failure       *bfia.Failure `bun:"failure"`
	CreatedAt     time.Time     `bun:"created_at"`
	StartedAt     *time.Time    `bun:"started_at"`
	EndedAt       *time.Time    `bun:"ended_at"`
}

var _ bun.AfterScanRowHook = (*Job)(nil)

// AfterScanRow puts the times into UTC.
func (j *Job) AfterScanRow(context.Context) error {
	truncateTimes(&j.CreatedAt, j.StartedAt, j.EndedAt)
	return nil
}

// Cursor is the place of a job in the list of jobs.
func (j Job) Cursor() JobCursor { return JobCursor{CreatedAt: j.CreatedAt, JobID: j.JobID} }

// JobCursor is a place in the list of jobs: jobs come newest first, and those of one microsecond by falling id.
type JobCursor struct {
	CreatedAt time.Time
	JobID     string
}

// String is the cursor as it can stand in a URL; [ParseJobCursor] reads it.
func (c JobCursor) String() string {
	return strconv.FormatInt(c.CreatedAt.UnixMicro(), 10) + "-" + c.JobID
}

// ParseJobCursor reads a cursor; what is none is CodeBadRequest.
func ParseJobCursor(s string) (JobCursor, error) {
	micros, id, ok := strings.Cut(s, "-")
	n, err := strconv.ParseInt(micros, 10, 64)
	if !ok || err != nil || id == "" || checkText("cursor", id) != nil {
		return JobCursor{}, bfia.Errorf(bfia.CodeBadRequest, "cursor: %q is not a place in the list of jobs", s)
	}
	return JobCursor{CreatedAt: time.UnixMicro(n).UTC(), JobID: id}, nil
}

// MaxJobs is how many jobs a page has at most, and when [JobFilter] names no limit.
const MaxJobs = 1000

// JobFilter says which jobs to list. The zero value is all of them.
type JobFilter struct {
	FlowID *string
	States []bfia.JobState
	Limit  int        // 1 to MaxJobs; 0 is MaxJobs
	Before *JobCursor // only what comes after this place in the list: the cursor of the last job of the page before
}

// CreateJob records a job and this node's parts of its tasks, all or nothing. The JobID of tasks is filled in; an empty
// state is PENDING for the job and READY for tasks, a missing CreatedAt is now. Made again with the same content it
// changes nothing, whatever state the job has reached; with other content it is CodeConflict.
func (s *Store) CreateJob(ctx context.Context, job Job, tasks []Task) error {
	job, tasks, err := jobRows(job, tasks)
	if err != nil {
		return err
	}
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewInsert().Model(&job).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
		if err != nil {
			return err
		}
		if n == 0 {
			return checkSameJob(ctx, tx, job, tasks)
		}
		if len(tasks) > 0 {
			_, err = tx.NewInsert().Model(&tasks).Exec(ctx)
		}
		return err
	})
	if isDuplicate(err) {
		err = bfia.Wrap(bfia.CodeConflict, err, "job_id: a task of job %q has an id or a name that another task has", job.JobID)
	}
	return wrap(err, "create job %s", job.JobID)
}

func jobRows(job Job, tasks []Task) (Job, []Task, error) {
	job.State = cmp.Or(job.State, bfia.JobPending)
	job.CreatedAt = timeOrNow(job.CreatedAt)
	job.Reason = cleanReason(job.Reason)
	if job.Roles == nil {
		job.Roles = []string{}
	}
	if err := checkJobState(job.State); err != nil {
		return job, nil, err
	}
	if err := checkText(append(fieldValues("roles", job.Roles), "job_id", job.JobID, "flow_id", job.FlowID,
		"initiator.node_id", job.InitiatorNode, "scheduler.node_id", job.SchedulerNode)...); err != nil {
		return job, nil, err
	}
	tasks = slices.Clone(tasks)
	for i := range tasks {
		t := &tasks[i]
		t.JobID, t.State, t.Reason = job.JobID, cmp.Or(t.State, bfia.TaskReady), cleanReason(t.Reason)
		if err := checkTaskState(t.State); err != nil {
			return job, nil, err
		}
		if err := checkText("name", t.Name, "role", t.Role, "task_id", t.TaskID, "componentName", t.Component,
			"provider", t.Provider, "version", t.Version); err != nil {
			return job, nil, err
		}
	}
	return job, tasks, nil
}

// checkSameJob tells whether the recorded job is the one that is created again: all but times, states and what ran.
func checkSameJob(ctx context.Context, tx bun.Tx, job Job, tasks []Task) error {
	var kept Job
	if err := selectOne(ctx, tx.NewSelect().Where("job_id = ?", job.JobID), &kept, "job_id: job %q", job.JobID); err != nil {
		return err
	}
	var keptTasks []Task
	if err := tx.NewSelect().Model(&keptTasks).Where("job_id = ?", job.JobID).Scan(ctx); err != nil {
		return err
	}
	same := kept.FlowID == job.FlowID && slices.Equal(kept.Roles, job.Roles) &&
		kept.InitiatorNode == job.InitiatorNode && kept.SchedulerNode == job.SchedulerNode
	byKey := func(a, b Task) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Role, b.Role), cmp.Compare(a.RoleIndex, b.RoleIndex))
	}
	slices.SortFunc(keptTasks, byKey)
	slices.SortFunc(tasks, byKey)
	same = same && slices.EqualFunc(keptTasks, tasks, func(a, b Task) bool {
		// A task id that came with the start of the task is no difference.
		return byKey(a, b) == 0 && a.Component == b.Component && a.Provider == b.Provider && a.Version == b.Version &&
			a.Seq == b.Seq && (b.TaskID == "" || a.TaskID == b.TaskID)
	})
	if !same {
		return bfia.Errorf(bfia.CodeConflict, "job_id: job %q is known with other content", job.JobID)
	}
	return nil
}

// DeleteJob forgets a job with its tasks and outputs; there may be none.
func (s *Store) DeleteJob(ctx context.Context, jobID string) error {
	_, err := s.w.NewDelete().Model((*Job)(nil)).Where("job_id = ?", jobID).Exec(ctx)
	return wrap(err, "delete job %s", jobID)
}

// UpdateJob moves a job forward to state, as of at. A job that is there already, or further, stays as it is and is no
// error; an unknown one is CodeNotFound. An empty reason keeps the one that is recorded.
func (s *Store) UpdateJob(ctx context.Context, jobID string, state bfia.JobState, reason string, at time.Time) error {
	return s.advanceJob(ctx, (*Job)(nil), jobID, state, reason, at)
}

// ReopenJob makes a job that is FINISHED READY again, without what its end told; its tasks stay as they are until they are
// started anew. A job that is in another state stays as it is; one that is not known, or is being removed, is CodeNotFound.
func (s *Store) ReopenJob(ctx context.Context, jobID string) error {
	var n int
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		if err := lockAdmission(ctx, tx); err != nil { // ClaimRemovableGenerations takes it too
			return err
		}
		n, err = affected(tx.NewUpdate().Model((*Job)(nil)).Set("state = ?", bfia.JobReady).
			Set("reason = '', failure = NULL, started_at = NULL, ended_at = NULL").
			Where("job_id = ? AND state = ? AND NOT removing", jobID, bfia.JobFinished).Exec(ctx))
		if err != nil || n == 0 {
			return err
		}
		return forgetRemovedGenerations(ctx, tx, jobID)
	})
	if err != nil || n > 0 {
		return wrap(err, "reopen job %s", jobID)
	}

	known, err := s.w.NewSelect().Model((*Job)(nil)).Where("job_id = ? AND NOT removing", jobID).Exists(ctx)
	if err == nil && !known {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: job %q is not known", jobID)
	}
	return wrap(err, "reopen job %s", jobID)
}

// AdmissionJob is the participant's record of a job; CodeNotFound when there is none.
func (s *Store) Job(ctx context.Context, jobID string) (Job, error) {
	var job Job
	err := selectOne(ctx, s.r.NewSelect().Where("job_id = ?", jobID), &job, "job_id: job %q", jobID)
	return job, err
}

// Jobs is a page of the list of jobs, newest first. A page costs the same wherever it is in the list; the next one
// begins Before the cursor of this one's last job.
func (s *Store) Jobs(ctx context.Context, f JobFilter) ([]Job, error) {
	if f.Limit < 0 || f.Limit > MaxJobs {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "limit: %d is not between 1 and %d", f.Limit, MaxJobs)
	}
	var jobs []Job
	q := s.r.NewSelect().Model(&jobs).OrderExpr("created_at DESC, job_id DESC").Limit(cmp.Or(f.Limit, MaxJobs))
	if f.FlowID != nil {
		if err := checkText("flow_id", *f.FlowID); err != nil {
			return nil, err
		}
		q.Where("flow_id = ?", *f.FlowID)
	}
	if len(f.States) > 0 {
		q.Where("state IN (?)", bun.List(f.States))
	}
	if f.Before != nil {
		q.Where("(created_at, job_id) < (?, ?)", truncateTime(f.Before.CreatedAt), f.Before.JobID)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, wrap(err, "list jobs")
	}
	return jobs, nil
}
