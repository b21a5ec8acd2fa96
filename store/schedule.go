package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// ScheduleJob is the record of a job at its scheduler.
type ScheduleJob struct {
	bun.BaseModel `bun:"table:t_schedule_job,alias:j" json:"-"`

	JobID         string        `bun:"job_id,pk"`
	FlowID        string        `bun:"flow_id"`
	State         bfia.JobState `bun:"state"`
	InitiatorRole string        `bun:"initiator_role"`
	InitiatorNode string        `bun:"initiator_node"`
	SyncType      string        `bun:"sync_type"`
	Priority      int           `bun:"priority"`
	Reason        string        `bun:"reason"`
	Outcome       bfia.Outcome  `bun:"outcome"`
	Failure       *bfia.Failure `bun:"failure"`
	// Waiting is what the job waits for, unless the queue says it.
	Waiting []bfia.Waiting `bun:"waiting"`
	// Parallelism is how many tasks of the job its reservation lets run at once, by node id.
	Parallelism map[string]int `bun:"parallelism"`
	Project     string         `bun:"project"` // at this party, as t_job_project has it
	CreatedAt   time.Time      `bun:"created_at"`
	StartedAt   *time.Time     `bun:"started_at"`
	EndedAt     *time.Time     `bun:"ended_at"`

	// The scheduler's queue: when the job entered and left it, and which party denied a reservation last,
	// with its reason.
	QueuedAt         *time.Time `bun:"queued_at"`
	DequeuedAt       *time.Time `bun:"dequeued_at"`
	WaitNode         string     `bun:"wait_node"`
	WaitReason       string     `bun:"wait_reason"`
	WaitQuota        bool       `bun:"wait_quota"` // the reason is a quota, see [bfia.Grant]
	ParticipantNodes []string   `bun:"participant_nodes"`
	// QueueLine and QueueRank order the queue, once the job has entered it.
	QueueLine string `bun:"queue_line"`
	QueueRank int64  `bun:"queue_rank"`
}

// ScheduleTask is the record of a task at its scheduler, over all parties.
type ScheduleTask struct {
	bun.BaseModel `bun:"table:t_schedule_task,alias:t" json:"-"`

	TaskID    string         `bun:"task_id,pk"`
	JobID     string         `bun:"job_id"`
	Name      string         `bun:"name"`
	Component string         `bun:"component"`
	Provider  string         `bun:"provider"`
	Version   string         `bun:"version"`
	Seq       int            `bun:"seq"` // the task's position in the DAG's list
	DependsOn []string       `bun:"depends_on"`
	Attempt   int            `bun:"attempt"` // the attempt that TaskID names, from 1
	State     bfia.TaskState `bun:"state"`
	Reason    string         `bun:"reason"`
	StartedAt *time.Time     `bun:"started_at"`
	EndedAt   *time.Time     `bun:"ended_at"`
}

// SchedulePart is the record of one part of a task at its scheduler.
type SchedulePart struct {
	bun.BaseModel `bun:"table:t_schedule_part,alias:p" json:"-"`

	TaskID    string         `bun:"task_id,pk"`
	Role      string         `bun:"role,pk"`
	RoleIndex int            `bun:"role_index,pk"`
	JobID     string         `bun:"job_id"`
	NodeID    string         `bun:"node_id"`
	State     bfia.TaskState `bun:"state"`
	Reason    string         `bun:"reason"`
	Failure   *bfia.Failure  `bun:"failure"`
	Waiting   *bfia.Waiting  `bun:"waiting"`
	Waits     []bfia.Waited  `bun:"waits"` // those that have ended
	StartedAt *time.Time     `bun:"started_at"`
	EndedAt   *time.Time     `bun:"ended_at"`
}

// ScheduleTaskChange is a change of a task and of some of its parts. An empty State or Reason leaves the
// recorded one.
type ScheduleTaskChange struct {
	TaskID string
	State  bfia.TaskState
	Reason string
	Parts  []SchedulePartChange
}

// SchedulePartChange is a change of one part of a task.
type SchedulePartChange struct {
	Role      string
	RoleIndex int
	State     bfia.TaskState
	Reason    string
}

var (
	_ bun.AfterScanRowHook = (*ScheduleJob)(nil)
	_ bun.AfterScanRowHook = (*ScheduleTask)(nil)
	_ bun.AfterScanRowHook = (*SchedulePart)(nil)
)

// AfterScanRow normalizes the times.
func (j *ScheduleJob) AfterScanRow(context.Context) error {
	normalizeTimes(&j.CreatedAt, j.StartedAt, j.EndedAt, j.QueuedAt, j.DequeuedAt)
	return nil
}

// AfterScanRow normalizes the times.
func (t *ScheduleTask) AfterScanRow(context.Context) error {
	normalizeTimes(t.StartedAt, t.EndedAt)
	return nil
}

// AfterScanRow normalizes the times.
func (p *SchedulePart) AfterScanRow(context.Context) error {
	normalizeTimes(p.StartedAt, p.EndedAt)
	return nil
}

// CreateScheduleJob records a job with its tasks and their parts, all or nothing. It fills in the JobID of
// tasks and parts. The default state is PENDING, the default CreatedAt is now. Called again with the same
// content it changes nothing, whatever state the job has reached; with other content it returns
// CodeConflict.
func (s *Store) CreateScheduleJob(ctx context.Context, job ScheduleJob, tasks []ScheduleTask,
	parts []SchedulePart) error {
	job, tasks, parts, err := scheduleRows(job, tasks, parts)
	if err != nil {
		return err
	}
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if job.Project, _, err = jobProject(ctx, tx, job.JobID); err != nil {
			return err
		}
		n, err := affected(tx.NewInsert().Model(&job).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
		if err != nil {
			return err
		}
		if n == 0 {
			return checkSameScheduleJob(ctx, tx, job, tasks, parts)
		}
		if len(tasks) > 0 {
			if _, err := tx.NewInsert().Model(&tasks).Exec(ctx); err != nil {
				return err
			}
		}
		if len(parts) > 0 {
			if _, err := tx.NewInsert().Model(&parts).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case isDuplicate(err):
		err = bfia.Wrap(bfia.CodeConflict, err,
			"job_id: a task of job %q has an id or a name that another task has", job.JobID)
	case isMissingParent(err):
		err = bfia.Wrap(bfia.CodeBadRequest, err,
			"job_id: a part of job %q names a task that the job doesn't have", job.JobID)
	}
	return wrap(err, "create schedule job %s", job.JobID)
}

// scheduleRows returns the rows to insert for a job: with defaults, and with the job's id in the rows of its
// tasks and parts. It fails if a value is not valid.
func scheduleRows(job ScheduleJob, tasks []ScheduleTask,
	parts []SchedulePart) (ScheduleJob, []ScheduleTask, []SchedulePart, error) {
	job.State = cmp.Or(job.State, bfia.JobPending)
	job.CreatedAt = timeOrNow(job.CreatedAt)
	job.Reason = cleanReason(job.Reason)
	if job.ParticipantNodes == nil {
		job.ParticipantNodes = []string{}
	}
	if job.Parallelism == nil {
		job.Parallelism = map[string]int{}
	}
	job.Waiting = cleanWaits(job.Waiting)
	if err := checkJobState(job.State); err != nil {
		return job, nil, nil, err
	}
	if err := checkText("job_id", job.JobID, "flow_id", job.FlowID, "initiator.role", job.InitiatorRole,
		"initiator.node_id", job.InitiatorNode, "sync_type", job.SyncType); err != nil {
		return job, nil, nil, err
	}

	tasks, parts = slices.Clone(tasks), slices.Clone(parts)
	for i := range tasks {
		t := &tasks[i]
		t.JobID, t.State = job.JobID, cmp.Or(t.State, bfia.TaskPending)
		t.Reason, t.Attempt = cleanReason(t.Reason), max(t.Attempt, 1)
		if t.DependsOn == nil {
			t.DependsOn = []string{}
		}
		if err := checkTaskState(t.State); err != nil {
			return job, nil, nil, err
		}
		texts := append(fieldValues("depends_on", t.DependsOn), "task_id", t.TaskID, "name", t.Name,
			"componentName", t.Component, "provider", t.Provider, "version", t.Version)
		if err := checkText(texts...); err != nil {
			return job, nil, nil, err
		}
	}

	for i := range parts {
		p := &parts[i]
		p.JobID, p.State, p.Reason = job.JobID, cmp.Or(p.State, bfia.TaskPending), cleanReason(p.Reason)
		if err := checkTaskState(p.State); err != nil {
			return job, nil, nil, err
		}
		if err := checkText("task_id", p.TaskID, "role", p.Role, "node_id", p.NodeID); err != nil {
			return job, nil, nil, err
		}
	}
	return job, tasks, parts, nil
}

// checkSameScheduleJob fails if the recorded job has other content than the given one. It ignores times,
// states and reasons.
func checkSameScheduleJob(ctx context.Context, tx bun.Tx, job ScheduleJob, tasks []ScheduleTask,
	parts []SchedulePart) error {
	var kept ScheduleJob
	if err := selectOne(ctx, tx.NewSelect().
		Where("job_id = ?", job.JobID), &kept, "job_id: job %q", job.JobID); err != nil {
		return err
	}
	keptTasks, err := scheduleTasks(ctx, tx, job.JobID)
	if err != nil {
		return err
	}
	keptParts, err := scheduleParts(ctx, tx, job.JobID)
	if err != nil {
		return err
	}
	same := kept.FlowID == job.FlowID && kept.InitiatorRole == job.InitiatorRole &&
		kept.InitiatorNode == job.InitiatorNode &&
		kept.SyncType == job.SyncType // not the priority, which may have changed
	byTask := func(a, b ScheduleTask) int { return cmp.Compare(a.TaskID, b.TaskID) }
	slices.SortFunc(keptTasks, byTask)
	slices.SortFunc(tasks, byTask)
	same = same && slices.EqualFunc(keptTasks, tasks, func(a, b ScheduleTask) bool {
		return a.TaskID == b.TaskID && a.Name == b.Name && a.Component == b.Component &&
			a.Provider == b.Provider &&
			a.Version == b.Version && a.Seq == b.Seq &&
			slices.Equal(a.DependsOn, b.DependsOn)
	})
	byPart := func(a, b SchedulePart) int {
		return cmp.Or(cmp.Compare(a.TaskID, b.TaskID), cmp.Compare(a.Role, b.Role),
			cmp.Compare(a.RoleIndex, b.RoleIndex))
	}
	slices.SortFunc(keptParts, byPart)
	slices.SortFunc(parts, byPart)
	same = same && slices.EqualFunc(keptParts, parts, func(a, b SchedulePart) bool {
		return byPart(a, b) == 0 && a.NodeID == b.NodeID
	})
	if !same {
		return bfia.Errorf(bfia.CodeConflict, "job_id: job %q already exists with other content", job.JobID)
	}
	return nil
}

// DeleteScheduleJob deletes a job with its tasks and parts; there may be none.
func (s *Store) DeleteScheduleJob(ctx context.Context, jobID string) error {
	_, err := s.w.NewDelete().Model((*ScheduleJob)(nil)).Where("job_id = ?", jobID).Exec(ctx)
	return wrap(err, "delete schedule job %s", jobID)
}

// UpdateScheduleJob moves a job forward to state, as of at. It does nothing if the job is in that state or a
// later one, and returns CodeNotFound for an unknown job. An empty reason leaves the recorded one.
func (s *Store) UpdateScheduleJob(ctx context.Context, jobID string, state bfia.JobState, reason string,
	at time.Time, more ...JobChange) error {
	return s.advanceJob(ctx, (*ScheduleJob)(nil), jobID, state, reason, at, more...)
}

// JobChange is a further change of a job's row that is written with a new state.
type JobChange func(q *bun.UpdateQuery)

// EndsAs records a job's outcome.
func EndsAs(outcome bfia.Outcome) JobChange {
	return func(q *bun.UpdateQuery) {
		if outcome != "" {
			q.Set("outcome = ?", outcome)
		}
	}
}

// RunsWith records how many tasks of a job its reservations let run at once, by node id.
func RunsWith(parallelism map[string]int) JobChange {
	return func(q *bun.UpdateQuery) {
		if len(parallelism) > 0 {
			q.Set("parallelism = ?", encode(parallelism))
		}
	}
}

// advanceJob moves a job's row forward, on either side. All changes of a job's state but a reopening use it.
func (s *Store) advanceJob(ctx context.Context, model any, jobID string, state bfia.JobState, reason string,
	at time.Time, more ...JobChange) error {
	if err := checkJobState(state); err != nil {
		return err
	}
	if before := jobStatesBefore(state); len(before) > 0 {
		q := s.w.NewUpdate().
			Model(model).
			Set("state = ?", state).
			Where("job_id = ?", jobID).
			Where("state IN (?)", bun.List(before))
		setTransition(q, reason, at, state == bfia.JobRunning, state.Terminal())
		for _, change := range more {
			change(q)
		}
		if n, err := affected(q.Exec(ctx)); err != nil || n > 0 {
			if err == nil && state.Terminal() {
				s.observeJobEnd(ctx, model, jobID)
			}
			return wrap(err, "update job %s to %s", jobID, state)
		}
	}
	exists, err := s.w.NewSelect().Model(model).Where("job_id = ?", jobID).Exists(ctx)
	if err == nil && !exists {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: job %q is not known", jobID)
	}
	return wrap(err, "update job %s to %s", jobID, state)
}

// setTransition adds the reason and the times of a new state to an update.
func setTransition(q *bun.UpdateQuery, reason string, at time.Time, started, ended bool) {
	if reason != "" {
		q.Set("reason = ?", cleanReason(reason))
	}
	if started {
		q.Set("started_at = COALESCE(started_at, ?)", normalizeTime(at))
	}
	if ended {
		q.Set("ended_at = ?", normalizeTime(at))
	}
}

// ScheduleJob returns the scheduler's record of a job, or CodeNotFound if there is none.
func (s *Store) ScheduleJob(ctx context.Context, jobID string) (ScheduleJob, error) {
	var job ScheduleJob
	err := selectOne(ctx, jobsOf(ctx, "j.job_id").addTo(s.r.NewSelect().Where("job_id = ?", jobID)), &job,
		"job_id: job %q", jobID)
	return job, err
}

// fieldValues returns alternating fields and values for checkText, for a list of values.
func fieldValues(field string, values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, field, v)
	}
	return out
}
