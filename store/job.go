package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Job is the record of a job at a participant.
type Job struct {
	bun.BaseModel `bun:"table:t_job,alias:j" json:"-"`

	JobID         string        `bun:"job_id,pk"`
	FlowID        string        `bun:"flow_id"`
	State         bfia.JobState `bun:"state"`
	Roles         []string      `bun:"roles"` // the roles of this party, such as "guest.0"
	InitiatorNode string        `bun:"initiator_node"`
	SchedulerNode string        `bun:"scheduler_node"`
	OldJobID      string        `bun:"old_job_id"`  // the job whose outputs it may reuse
	PartyNodes    []string      `bun:"party_nodes"` // of all parties of the job
	Reason        string        `bun:"reason"`
	Outcome       bfia.Outcome  `bun:"outcome"`
	Failure       *bfia.Failure `bun:"failure"`
	// Waiting is what the job waits for here, unless other rows say it.
	Waiting   []bfia.Waiting `bun:"waiting"`
	CreatedAt time.Time      `bun:"created_at"`
	StartedAt *time.Time     `bun:"started_at"`
	EndedAt   *time.Time     `bun:"ended_at"`
	// RemovalFailure is why the job could not be removed after its retention.
	RemovalFailure string `bun:"removal_failure"`
	// Project is that of the job, as t_job_project has it.
	Project string `bun:"project"`
}

var _ bun.AfterScanRowHook = (*Job)(nil)

// AfterScanRow normalizes the times.
func (j *Job) AfterScanRow(context.Context) error {
	normalizeTimes(&j.CreatedAt, j.StartedAt, j.EndedAt)
	return nil
}

// CreateJob records a job and this party's parts of its tasks, all or nothing. It fills in the JobID of
// tasks, and the current generations of their datasets. The default state is PENDING for the job and READY
// for tasks, the default CreatedAt is now. Called again with the same content it changes nothing, whatever
// state the job has reached; with other content it returns CodeConflict. It returns CodeNotFound if a
// required dataset is not registered.
func (s *Store) CreateJob(ctx context.Context, job Job, tasks []Task) error {
	job, tasks, err := jobRows(job, tasks)
	if err != nil {
		return err
	}
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		project, recorded, err := jobProject(ctx, tx, job.JobID)
		if err != nil {
			return err
		}
		job.Project = project
		n, err := affected(tx.NewInsert().Model(&job).On("CONFLICT (job_id) DO NOTHING").Exec(ctx))
		if err != nil {
			return err
		}
		if n == 0 {
			return checkSameJob(ctx, tx, job, tasks)
		}
		if err := acceptUses(ctx, tx, job.JobID); err != nil {
			return err
		}
		if err := checkNotRemoving(ctx, tx, job.OldJobID); err != nil || len(tasks) == 0 {
			return err
		}
		ctx = withinProject(ctx, project, recorded)
		if err := s.resolveGenerations(ctx, tx, tasks); err != nil {
			return err
		}
		if err := checkDecidedDatasets(ctx, tx, job.JobID, tasks); err != nil {
			return err
		}
		if err := s.resolveModels(ctx, tx, tasks); err != nil {
			return err
		}
		_, err = tx.NewInsert().Model(&tasks).Exec(ctx)
		return err
	})
	if isDuplicate(err) {
		err = bfia.Wrap(bfia.CodeConflict, err,
			"job_id: a task of job %q has an id or a name that another task has", job.JobID)
	}
	return wrap(err, "create job %s", job.JobID)
}

// withinProject returns a context that knows what the project of a job has. So outputs of a job of another
// project are not reused, as if this party did not know that job: a partner does not know the projects.
func withinProject(ctx context.Context, project string, recorded bool) context.Context {
	if !recorded { // by a process of a version without projects
		return WithProjects(ctx, project, notRecorded)
	}
	return WithProjects(ctx, project)
}

func jobRows(job Job, tasks []Task) (Job, []Task, error) {
	job.State = cmp.Or(job.State, bfia.JobPending)
	job.CreatedAt = timeOrNow(job.CreatedAt)
	job.Reason = cleanReason(job.Reason)
	if job.PartyNodes == nil {
		job.PartyNodes = []string{}
	}
	job.Waiting = cleanWaits(job.Waiting)
	if job.Roles == nil {
		job.Roles = []string{}
	}
	if err := checkJobState(job.State); err != nil {
		return job, nil, err
	}
	if err := checkText(append(fieldValues("roles", job.Roles), "job_id", job.JobID, "flow_id", job.FlowID,
		"initiator.node_id", job.InitiatorNode, "scheduler.node_id", job.SchedulerNode,
		"old_job_id", job.OldJobID)...); err != nil {
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
			"provider", t.Provider, "version", t.Version, "dataset_id", t.Dataset,
			"model_id", t.Model); err != nil {
			return job, nil, err
		}
	}
	return job, tasks, nil
}

// checkSameJob fails if the recorded job has other content than the given one. It ignores times, states,
// reasons and containers.
func checkSameJob(ctx context.Context, tx bun.Tx, job Job, tasks []Task) error {
	var kept Job
	if err := selectOne(ctx, tx.NewSelect().
		Where("job_id = ?", job.JobID), &kept, "job_id: job %q", job.JobID); err != nil {
		return err
	}
	var keptTasks []Task
	if err := tx.NewSelect().Model(&keptTasks).Where("job_id = ?", job.JobID).Scan(ctx); err != nil {
		return err
	}

	same := kept.FlowID == job.FlowID && slices.Equal(kept.Roles, job.Roles) &&
		kept.InitiatorNode == job.InitiatorNode && kept.SchedulerNode == job.SchedulerNode
	byKey := func(a, b Task) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Role, b.Role),
			cmp.Compare(a.RoleIndex, b.RoleIndex))
	}
	slices.SortFunc(keptTasks, byKey)
	slices.SortFunc(tasks, byKey)
	same = same && slices.EqualFunc(keptTasks, tasks, func(a, b Task) bool {
		// The start of a task adds its id: that is no difference.
		return byKey(a, b) == 0 && a.Component == b.Component && a.Provider == b.Provider &&
			a.Version == b.Version && a.Seq == b.Seq && (b.TaskID == "" || a.TaskID == b.TaskID)
	})
	if !same {
		return bfia.Errorf(bfia.CodeConflict, "job_id: job %q already exists with other content", job.JobID)
	}
	return nil
}

// DeleteJob deletes a job with its tasks and outputs; there may be none.
func (s *Store) DeleteJob(ctx context.Context, jobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewDelete().Model((*Job)(nil)).Where("job_id = ?", jobID).Exec(ctx); err != nil {
			return err
		}
		return forgetRuleDecision(ctx, tx, jobID)
	}), "delete job %s", jobID)
}

// UpdateJob moves a job forward to state, as of at. It does nothing if the job is in that state or a later
// one, and returns CodeNotFound for an unknown job. An empty reason leaves the recorded one.
func (s *Store) UpdateJob(ctx context.Context, jobID string, state bfia.JobState, reason string,
	at time.Time, more ...JobChange) error {
	return s.advanceJob(ctx, (*Job)(nil), jobID, state, reason, at, more...)
}

// ReopenJob makes a FINISHED job READY again and clears the reason, failure and times of its end. Its tasks
// keep their rows until they start again. A job in another state stays unchanged. ReopenJob returns
// CodeNotFound for a job that is unknown or being removed, or whose dataset was deleted.
func (s *Store) ReopenJob(ctx context.Context, jobID string) error {
	var n int
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) (err error) {
		if err := lockAdmission(ctx, tx); err != nil { // ClaimRemovableGenerations takes it too
			return err
		}
		n, err = affected(tx.NewUpdate().Model((*Job)(nil)).Set("state = ?", bfia.JobReady).
			Set("reason = '', outcome = '', failure = NULL, started_at = NULL, ended_at = NULL").
			Where("job_id = ? AND state = ? AND NOT removing", jobID, bfia.JobFinished).Exec(ctx))
		if err != nil || n == 0 {
			return err
		}
		project, recorded, err := jobProject(ctx, tx, jobID)
		if err != nil {
			return err
		}
		ctx = withinProject(ctx, project, recorded)
		return s.renewRemovedGenerations(ctx, tx, jobID)
	})
	if err != nil || n > 0 {
		return wrap(err, "reopen job %s", jobID)
	}

	exists, err := s.w.NewSelect().Model((*Job)(nil)).Where("job_id = ? AND NOT removing", jobID).Exists(ctx)
	if err == nil && !exists {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: job %q is not known", jobID)
	}
	return wrap(err, "reopen job %s", jobID)
}

// Job returns the participant's record of a job, or CodeNotFound if there is none.
func (s *Store) Job(ctx context.Context, jobID string) (Job, error) {
	var job Job
	err := selectOne(ctx, jobsOf(ctx, "j.job_id").addTo(s.r.NewSelect().Where("job_id = ?", jobID)), &job,
		"job_id: job %q", jobID)
	return job, err
}
