package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// TaskKey names one part of a task at a participant.
type TaskKey struct {
	JobID     string
	Name      string
	Role      string
	RoleIndex int
}

// String formats the key for messages.
func (k TaskKey) String() string {
	return fmt.Sprintf("%s/%s %s.%d", k.JobID, k.Name, k.Role, k.RoleIndex)
}

// Task is the record of one part of a task, at the participant that plays the role.
type Task struct {
	bun.BaseModel `bun:"table:t_task,alias:t" json:"-"`

	JobID         string         `bun:"job_id,pk"`
	Name          string         `bun:"name,pk"`
	Role          string         `bun:"role,pk"`
	RoleIndex     int            `bun:"role_index,pk"`
	Seq           int            `bun:"seq"`     // the task's position in the DAG's list
	TaskID        string         `bun:"task_id"` // the scheduler's; empty until the task starts
	Component     string         `bun:"component"`
	Provider      string         `bun:"provider"`
	Version       string         `bun:"version"`
	State         bfia.TaskState `bun:"state"`
	Attempt       int            `bun:"attempt"` // the attempt that the following fields describe
	RunnerID      string         `bun:"runner_id"`
	ContainerName string         `bun:"container_name"`
	ContainerID   string         `bun:"container_id"`
	ExitCode      *int           `bun:"exit_code"`
	ExitedAt      *time.Time     `bun:"exited_at"`
	StopRequested bool           `bun:"stop_requested"`
	Reason        string         `bun:"reason"`
	Progress      string         `bun:"progress"` // as the container reports it
	Failure       *bfia.Failure  `bun:"failure"`
	Waiting       *bfia.Waiting  `bun:"waiting"`        // what it waits for, if its container does not run
	Waits         []bfia.Waited  `bun:"waits"`          // those that have ended
	WaitingShown  bool           `bun:"waiting_shown"`  // whether the job's workflow shows a wait
	ReusedJobID   string         `bun:"reused_job_id"`  // the earlier job whose outputs it reuses
	ReusedTaskID  string         `bun:"reused_task_id"` // the task id under which they are stored
	// Dataset is the dataset that it reads, as namespace#name, and DatasetGeneration the generation that was
	// current when the job was created. All attempts read the same.
	Dataset           string `bun:"dataset"`
	RequireDataset    bool   `bun:"-"` // refuse to create the task if Dataset is not registered
	DatasetGeneration string `bun:"dataset_generation"`
	// Model is the model of an earlier job that it uses (bfia.ModelRef), and ModelAddress, as namespace#name,
	// that of this party's part when the job was created.
	Model        string     `bun:"model"`
	ModelAddress string     `bun:"model_address"`
	StartedAt    *time.Time `bun:"started_at"`
	EndedAt      *time.Time `bun:"ended_at"`
	// ReportedState is the end that the container of the attempt ReportedTaskID has reported: see
	// [Task.Reported].
	ReportedState  bfia.TaskState `bun:"reported_state"`
	ReportedTaskID string         `bun:"reported_task_id"`
}

var _ bun.AfterScanRowHook = (*Task)(nil)

// AfterScanRow normalizes the times.
func (t *Task) AfterScanRow(context.Context) error {
	normalizeTimes(t.ExitedAt, t.StartedAt, t.EndedAt)
	return nil
}

// Reported returns the end that the container of the row's attempt has reported, or "".
func (t Task) Reported() bfia.TaskState {
	if t.ReportedTaskID != t.TaskID {
		return "" // of an earlier attempt
	}
	return t.ReportedState
}

// Key returns the key of the row.
func (t Task) Key() TaskKey {
	return TaskKey{JobID: t.JobID, Name: t.Name, Role: t.Role, RoleIndex: t.RoleIndex}
}

const taskKeyWhere = "job_id = ? AND name = ? AND role = ? AND role_index = ?"

// sameAttempt selects the attempt that a task id names, and a task that has no attempt yet.
const sameAttempt = " AND task_id IN ('', ?)"

func (k TaskKey) args() []any { return []any{k.JobID, k.Name, k.Role, k.RoleIndex} }

// Tasks returns this party's parts of a job's tasks, in the DAG's order; none for an unknown job.
func (s *Store) Tasks(ctx context.Context, jobID string) ([]Task, error) {
	return s.tasks(ctx, s.r, "job_id = ?", jobID)
}

// TasksNamed returns this party's parts of the tasks of these names. It leaves out tasks of which this party
// has no part.
func (s *Store) TasksNamed(ctx context.Context, jobID string, names ...string) ([]Task, error) {
	var tasks []Task
	const chunk = 500 // databases limit the length of a statement
	for names := range slices.Chunk(names, chunk) {
		some, err := s.tasks(ctx, s.r, "job_id = ? AND name IN (?)", jobID, bun.List(names))
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, some...)
	}
	return tasks, nil
}

// TasksByID returns this party's parts of one task, one for each role that it plays; none for an unknown id.
func (s *Store) TasksByID(ctx context.Context, taskID string) ([]Task, error) {
	if taskID == "" { // the id of all tasks that have not started
		return nil, nil
	}
	return s.tasks(ctx, s.r, "task_id = ?", taskID)
}

func (s *Store) tasks(ctx context.Context, db bun.IDB, where string, args ...any) ([]Task, error) {
	var tasks []Task
	err := jobsOf(ctx, "t.job_id").addTo(db.NewSelect().Model(&tasks)).
		Where(where, args...).
		Order("seq", "name", "role", "role_index").
		Scan(ctx)
	return tasks, wrap(err, "read tasks of %v", args)
}

// Task returns one part of a task, or CodeNotFound if there is none.
func (s *Store) Task(ctx context.Context, key TaskKey) (Task, error) {
	var task Task
	err := selectOne(ctx, s.r.NewSelect().Where(taskKeyWhere, key.args()...), &task, "task %s", key)
	return task, err
}

// StartTask makes this party's parts of a task RUNNING under the scheduler's task id, and returns them.
// Called again with the same id it changes nothing, also after the task's end. A later attempt, under an id
// of its own, replaces the one before, of which nothing stays but its dataset generation.
//
// It returns CodeConflict if the task has another id for this attempt, or a later attempt, or if the id
// belongs to another task. It returns CodeNotFound if the job has no such task at this party.
func (s *Store) StartTask(ctx context.Context, jobID, name, taskID string, attempt int,
	at time.Time) ([]Task, error) {
	if taskID == "" {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "task_id: is required")
	}
	if err := checkText("task_id", taskID, "job_id", jobID, "task_name", name); err != nil {
		return nil, err
	}
	var tasks []Task
	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		taken, err := tx.NewSelect().
			Model((*Task)(nil)).
			Where("task_id = ? AND NOT (job_id = ? AND name = ?)", taskID, jobID, name).
			Exists(ctx)
		if err != nil {
			return err
		}
		if taken {
			return bfia.Errorf(bfia.CodeConflict, "task_id: %q belongs to another task", taskID)
		}
		if attempt > 1 {
			if err := resetEarlierAttempts(ctx, tx, jobID, name, taskID, attempt, at); err != nil {
				return err
			}
		}
		q := tx.NewUpdate().Model((*Task)(nil)).
			Set("state = ?", bfia.TaskRunning).Set("task_id = ?", taskID).Set("attempt = ?", attempt).
			Where("job_id = ? AND name = ? AND task_id IN ('', ?)", jobID, name, taskID).
			Where("state IN (?)", bun.List(taskStatesBefore(bfia.TaskRunning)))
		setTransition(q, "", at, true, false)
		if _, err := q.Exec(ctx); err != nil {
			return err
		}
		tasks, err = s.tasks(ctx, tx, "job_id = ? AND name = ?", jobID, name)
		if err != nil {
			return err
		}
		if len(tasks) == 0 {
			return bfia.Errorf(bfia.CodeNotFound, "task_name: job %q has no task %q at this party", jobID,
				name)
		}
		for _, t := range tasks {
			// A part that ended before it started has no id.
			if t.TaskID != taskID && (t.TaskID != "" || !t.State.Terminal()) {
				return bfia.Errorf(bfia.CodeConflict, "task_id: task %q of job %q runs as %q", name, jobID,
					t.TaskID)
			}
		}
		return nil
	})
	if isDuplicate(err) {
		err = bfia.Wrap(bfia.CodeConflict, err, "task_id: %q belongs to another task", taskID)
	}
	if err != nil {
		return nil, wrap(err, "start task %s of job %s", name, jobID)
	}
	return tasks, nil
}

// resetEarlierAttempts makes this party's parts of a task READY again, with nothing of an attempt before the
// given one but its dataset generation.
func resetEarlierAttempts(ctx context.Context, tx bun.Tx, jobID, name, taskID string, attempt int,
	at time.Time) error {
	if err := recordEarlierAttempts(ctx, tx, jobID, name, taskID, attempt, at); err != nil {
		return err
	}
	if _, err := tx.NewUpdate().Model((*Task)(nil)).
		Set("state = ?, task_id = '', stop_requested = ?", bfia.TaskReady, false).
		Set("runner_id = '', container_name = '', container_id = '', exit_code = NULL, exited_at = NULL").
		Set("reason = '', progress = '', failure = NULL, waiting = NULL, waits = NULL").
		Set("waiting_shown = ?, reused_job_id = '', reused_task_id = ''", false).
		Set("started_at = NULL, ended_at = NULL").
		Where("job_id = ? AND name = ? AND task_id <> ? AND attempt < ?", jobID, name, taskID,
			attempt).Exec(ctx); err != nil {
		return err
	}
	if _, err := tx.NewDelete().Model((*Output)(nil)).
		Where("job_id = ? AND task_name = ? AND task_id <> ?", jobID, name, taskID).
		Exec(ctx); err != nil {
		return err
	}
	return nil
}

// EndTask moves one attempt of a part of a task, named by taskID, forward to state, as of at. SUCCESS and
// FAILED end it. It does nothing if the part is in that state or has ended, or if another attempt has
// followed. It returns CodeNotFound for an unknown part. An empty reason leaves the recorded one.
func (s *Store) EndTask(ctx context.Context, key TaskKey, taskID string, state bfia.TaskState, reason string,
	at time.Time) error {
	if err := checkTaskState(state); err != nil {
		return err
	}
	changed, err := advanceTask(ctx, s.w, (*Task)(nil), state, reason, at, taskKeyWhere+sameAttempt,
		append(key.args(), taskID)...)
	if changed {
		s.observePartEnd(ctx, key, state)
	}
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		_, err = s.Task(ctx, key) // a row of another attempt is no error
	}
	return wrap(err, "end task %s as %s", key, state)
}

// FailRunningTasks makes all parts of the job's tasks that are RUNNING here FAILED, and returns how many.
// Parts that have not started keep their state, as the protocol requires for a stopped job.
func (s *Store) FailRunningTasks(ctx context.Context, jobID, reason string, at time.Time) (int, error) {
	q := s.w.NewUpdate().Model((*Task)(nil)).Set("state = ?", bfia.TaskFailed).
		Where("job_id = ? AND state = ?", jobID, bfia.TaskRunning)
	setTransition(q, reason, at, false, true)
	n, err := affected(q.Exec(ctx))
	return n, wrap(err, "fail the running tasks of job %s", jobID)
}

// SetTaskContainer records the container of an attempt. It does nothing if the task has ended or has a later
// attempt. It returns CodeNotFound for an unknown task.
func (s *Store) SetTaskContainer(ctx context.Context, key TaskKey, attempt int,
	runnerID, containerName, containerID string) error {
	if err := checkText("runner_id", runnerID, "container_name", containerName, "container_id",
		containerID); err != nil {
		return err
	}
	// A new attempt has not exited. The same one, recorded again, may have.
	return s.updateTask(ctx, key, "record the container of", s.w.NewUpdate().
		Set("exit_code = CASE WHEN attempt = ? THEN exit_code END", attempt).
		Set("exited_at = CASE WHEN attempt = ? THEN exited_at END", attempt).
		Set("attempt = ?", attempt).
		Set("runner_id = ?", runnerID).
		Set("container_name = ?", containerName).Set("container_id = ?", containerID).
		Where("attempt <= ?", attempt).Where("state NOT IN (?, ?)", bfia.TaskSuccess, bfia.TaskFailed))
}

// SetTaskExit records the exit code of an attempt's container, once: it ignores a second report, and those of
// other attempts. It does not end the task; a callback may have ended it before. It sets the reason if there
// is none.
func (s *Store) SetTaskExit(ctx context.Context, key TaskKey, attempt, code int, reason string,
	at time.Time) error {
	return s.updateTask(ctx, key, "record the exit of", s.w.NewUpdate().
		Set("exit_code = ?", code).Set("exited_at = ?", normalizeTime(at)).
		Set("reason = CASE WHEN reason = '' THEN ? ELSE reason END", cleanReason(reason)).
		Where("attempt = ?", attempt).Where("exit_code IS NULL"))
}

// SetTaskProgress records the progress that an attempt's container reports. It does nothing if the task has
// ended or has another attempt.
func (s *Store) SetTaskProgress(ctx context.Context, key TaskKey, attempt int, progress string) error {
	if err := checkText("progress", progress); err != nil {
		return err
	}
	return s.updateTask(ctx, key, "record the progress of", s.w.NewUpdate().Set("progress = ?", progress).
		Where("attempt = ?", attempt).Where("state NOT IN (?, ?)", bfia.TaskSuccess, bfia.TaskFailed))
}

// SetTaskReport records the end that the container of one attempt of a part, named by taskID, has reported.
// It does nothing if the part has ended or has another attempt.
func (s *Store) SetTaskReport(ctx context.Context, key TaskKey, taskID string, state bfia.TaskState) error {
	return s.updateTask(ctx, key, "record the reported end of", s.w.NewUpdate().
		Set("reported_state = ?", state).Set("reported_task_id = ?", taskID).
		Where("task_id = ?", taskID).Where("state NOT IN (?, ?)", bfia.TaskSuccess, bfia.TaskFailed))
}

// RequestTaskStop records that one attempt of a part, named by taskID, must stop. It does nothing if the part
// has ended.
func (s *Store) RequestTaskStop(ctx context.Context, key TaskKey, taskID string) error {
	return s.updateTask(ctx, key, "request the stop of", s.w.NewUpdate().Set("stop_requested = ?", true).
		Where("task_id IN ('', ?)", taskID).Where("state NOT IN (?, ?)", bfia.TaskSuccess, bfia.TaskFailed))
}

// updateTask runs an update of one row. If the update's conditions exclude the row, that is no error; an
// unknown row is.
func (s *Store) updateTask(ctx context.Context, key TaskKey, doing string, q *bun.UpdateQuery) error {
	n, err := affected(q.Model((*Task)(nil)).Where(taskKeyWhere, key.args()...).Exec(ctx))
	if err != nil || n > 0 {
		return wrap(err, "%s task %s", doing, key)
	}
	exists, err := s.w.NewSelect().Model((*Task)(nil)).Where(taskKeyWhere, key.args()...).Exists(ctx)
	if err == nil && !exists {
		return bfia.Errorf(bfia.CodeNotFound, "task %s is not known", key)
	}
	return wrap(err, "%s task %s", doing, key)
}
