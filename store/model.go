package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Model is this party's part of a model that a task trained: the part of one role. It names what made it, so
// that it outlives its job.
type Model struct {
	bun.BaseModel `bun:"table:t_model,alias:m"`

	JobID     string `bun:"job_id,pk"`
	TaskName  string `bun:"task_name,pk"`
	Role      string `bun:"role,pk"`
	RoleIndex int    `bun:"role_index,pk"`
	Key       string `bun:"key,pk"` // of the output in the DAG
	Type      string `bun:"type"`
	Port      string `bun:"port"` // of the output in the component's description
	Component string `bun:"component"`
	Provider  string `bun:"provider"`
	Version   string `bun:"version"`
	// Images are the ids of the images of which the container ran one, or the reference, or the command.
	Images []string `bun:"images"`
	// Datasets are the uploaded datasets from which this party trained, as namespace#name@generation.
	Datasets []string `bun:"datasets"`
	Document []byte   `bun:"document"` // of the job that trained it
	// Namespace and Name are its address in the storage, which never gets other content.
	Namespace string    `bun:"namespace"`
	Name      string    `bun:"name"`
	Bytes     int64     `bun:"bytes"`
	SHA256    string    `bun:"sha256"` // of its content
	Kept      bool      `bun:"kept"`   // it stays when its job is removed
	Imported  bool      `bun:"imported"`
	Removing  bool      `bun:"removing"`
	CreatedAt time.Time `bun:"created_at"`
}

var _ bun.AfterScanRowHook = (*Model)(nil)

// AfterScanRow normalizes the time.
func (m *Model) AfterScanRow(context.Context) error {
	normalizeTimes(&m.CreatedAt)
	return nil
}

// Ref returns the name by which jobs use the model.
func (m Model) Ref() bfia.ModelRef {
	return bfia.ModelRef{JobID: m.JobID, Task: m.TaskName, Output: m.Key}
}

// Part returns the part of the training task that has it.
func (m Model) Part() bfia.Part { return bfia.Part{Role: m.Role, Index: m.RoleIndex} }

// Address returns where it is stored.
func (m Model) Address() bfia.Address { return bfia.Address{Namespace: m.Namespace, Name: m.Name} }

const modelKeyWhere = "m.job_id = ? AND m.task_name = ? AND m.role = ? AND m.role_index = ? AND m.key = ?"

func (m Model) key() []any { return []any{m.JobID, m.TaskName, m.Role, m.RoleIndex, m.Key} }

// usableModel selects the models that jobs may use: those that are kept, or whose job is.
const usableModel = "NOT m.removing AND (m.kept OR EXISTS (SELECT 1 FROM t_job AS j " +
	"WHERE j.job_id = m.job_id AND NOT j.removing))"

// PutModels records models that a task wrote. It replaces those of an earlier attempt.
func (s *Store) PutModels(ctx context.Context, models []Model) error {
	if len(models) == 0 {
		return nil
	}
	rows := slices.Clone(models)
	for i := range rows {
		m := &rows[i]
		m.CreatedAt = timeOrNow(m.CreatedAt)
		if err := m.check(); err != nil {
			return err
		}
	}
	_, err := s.w.NewInsert().Model(&rows).
		On("CONFLICT (job_id, task_name, role, role_index, key) DO UPDATE").
		Set("namespace = EXCLUDED.namespace, name = EXCLUDED.name, bytes = EXCLUDED.bytes").
		Set("sha256 = EXCLUDED.sha256, created_at = EXCLUDED.created_at").Exec(ctx)
	return wrap(err, "record the models of job %s", rows[0].JobID)
}

func (m *Model) check() error {
	if m.Images == nil {
		m.Images = []string{}
	}
	if m.Datasets == nil {
		m.Datasets = []string{}
	}
	return checkText(append(fieldValues("datasets", m.Datasets), "job_id", m.JobID, "task_name", m.TaskName,
		"role", m.Role, "key", m.Key, "type", m.Type, "port", m.Port, "componentName", m.Component,
		"provider", m.Provider, "version", m.Version, "namespace", m.Namespace, "name", m.Name)...)
}

// Models returns the models of this party, of one job or of all, without their documents: by job, the latest
// id first.
func (s *Store) Models(ctx context.Context, jobID string) ([]Model, error) {
	models := []Model{}
	q := jobsOf(ctx, "m.job_id").addTo(s.r.NewSelect().Model(&models)).ExcludeColumn("document").
		Where(usableModel).OrderExpr("m.job_id DESC, m.task_name, m.key, m.role, m.role_index")
	if jobID != "" {
		if err := checkText("job_id", jobID); err != nil {
			return nil, err
		}
		q.Where("m.job_id = ?", jobID)
	}
	return models, wrap(q.Scan(ctx), "list models")
}

// ModelParts returns this party's parts of a model, one for each of its roles, with their documents. It
// returns CodeNotFound if there are none, and CodeBadRequest if the task has several models and the reference
// names none of them. A task that reused the outputs of an earlier job has that job's model.
func (s *Store) ModelParts(ctx context.Context, ref bfia.ModelRef) ([]Model, error) {
	parts, err := modelParts(ctx, s.r, ref)
	return parts, wrap(err, "read model %s", ref)
}

func modelParts(ctx context.Context, db bun.IDB, ref bfia.ModelRef) ([]Model, error) {
	if err := checkText("model_id", ref.String()); err != nil {
		return nil, err
	}
	var parts []Model
	find := func(where string, args ...any) error {
		q := jobsOf(ctx, "m.job_id").addTo(db.NewSelect().Model(&parts)).Where(where, args...).
			Where(usableModel).
			Order("m.key", "m.role", "m.role_index")
		if ref.Output != "" {
			q.Where("m.key = ?", ref.Output)
		}
		return q.Scan(ctx)
	}
	if err := find("m.job_id = ? AND m.task_name = ?", ref.JobID, ref.Task); err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		reused := jobsOf(ctx, "t.job_id").addTo(db.NewSelect().Model((*Task)(nil))).Column("reused_task_id").
			Where("job_id = ? AND name = ? AND reused_task_id <> ''", ref.JobID, ref.Task)
		if err := find("m.name IN (?)", reused); err != nil {
			return nil, err
		}
	}
	if len(parts) == 0 {
		return nil, bfia.Errorf(bfia.CodeNotFound, "model %s is not known", ref)
	}
	if names := modelKeys(parts); len(names) > 1 {
		return nil, bfia.Errorf(bfia.CodeBadRequest,
			"model %s: the task has several models; name one of them: %s", ref, strings.Join(names, ", "))
	}
	return parts, nil
}

func modelKeys(models []Model) []string {
	var names []string
	for _, m := range models {
		if name := m.Ref().String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// resolveModels sets, for each task that uses a model, the address of this party's part of it. The rows of
// the models are locked until the transaction ends, so that none is removed meanwhile.
func (s *Store) resolveModels(ctx context.Context, tx bun.Tx, tasks []Task) error {
	for i := range tasks {
		t := &tasks[i]
		if t.Model == "" {
			continue
		}
		ref, err := bfia.ParseModelRef(t.Model)
		if err != nil {
			return err
		}
		parts, err := modelParts(ctx, tx, ref)
		if err != nil {
			return err
		}
		j := slices.IndexFunc(parts,
			func(m Model) bool { return m.Role == t.Role && m.RoleIndex == t.RoleIndex })
		if j < 0 {
			return bfia.Errorf(bfia.CodeNotFound, "model_id: this party has no part of model %s as %s.%d",
				ref, t.Role, t.RoleIndex)
		}
		var locked Model
		q := tx.NewSelect().Where(modelKeyWhere, parts[j].key()...).Where(usableModel)
		if s.pg { // SQLite has one writer at a time
			q.For("SHARE OF m")
		}
		if err := selectOne(ctx, q, &locked, "model_id: model %s", ref); err != nil {
			return err
		}
		t.ModelAddress = locked.Address().String()
	}
	return nil
}

// KeepModel makes a model stay when its job is removed. It returns CodeNotFound for an unknown one, and
// CodeConflict if its job has not ended.
func (s *Store) KeepModel(ctx context.Context, ref bfia.ModelRef) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		parts, err := s.lockModel(ctx, tx, ref)
		if err != nil {
			return err
		}
		if err := checkTrainingEnded(ctx, tx, parts[0]); err != nil {
			return err
		}
		for _, m := range parts {
			if _, err := tx.NewUpdate().Model((*Model)(nil)).Set("kept = ?", true).
				Where(modelKeyWhere, m.key()...).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	}), "keep model %s", ref)
}

// lockModel returns the parts of a model, whose rows stay locked until the transaction ends.
func (s *Store) lockModel(ctx context.Context, tx bun.Tx, ref bfia.ModelRef) ([]Model, error) {
	parts, err := modelParts(ctx, tx, ref)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		q := tx.NewSelect().Where(modelKeyWhere, parts[i].key()...).Where(usableModel)
		if s.pg {
			q.For("UPDATE OF m")
		}
		var locked Model
		if err := selectOne(ctx, q, &locked, "model %s", ref); err != nil {
			return nil, err
		}
		parts[i] = locked
	}
	return parts, nil
}

// CheckTrainingEnded returns CodeConflict if the job that trains a model has not ended: another attempt of
// its task may replace the model.
func (s *Store) CheckTrainingEnded(ctx context.Context, m Model) error {
	return checkTrainingEnded(ctx, s.r, m)
}

func checkTrainingEnded(ctx context.Context, db bun.IDB, m Model) error {
	var state []bfia.JobState
	err := db.NewSelect().Model((*Job)(nil)).Column("state").Where("job_id = ?", m.JobID).Scan(ctx, &state)
	if err != nil {
		return wrap(err, "read the state of job %s", m.JobID)
	}
	if len(state) > 0 && !state[0].Terminal() {
		return bfia.Errorf(bfia.CodeConflict,
			"model %s: job %s is %s; its models can be used once it has ended", m.Ref(), m.JobID, state[0])
	}
	return nil
}

// JobsWithModel returns the jobs that use a part of a model: the unfinished and recent ones.
func (s *Store) JobsWithModel(ctx context.Context, parts []Model) ([]JobUse, error) {
	uses, err := jobsWithModel(ctx, s.r, parts, false)
	return uses, wrap(err, "find the jobs that use model %s", parts[0].Ref())
}

func jobsWithModel(ctx context.Context, db bun.IDB, parts []Model, unfinished bool) ([]JobUse, error) {
	var addresses []string
	for _, m := range parts {
		addresses = append(addresses, m.Address().String())
	}
	return jobUses(ctx, db, "t_job", unfinished,
		"EXISTS (SELECT 1 FROM t_task AS t WHERE t.job_id = j.job_id AND t.model_address IN (?))",
		bun.List(addresses))
}

// ClaimModelRemoval marks a model as being removed, because a user deletes it, and returns its parts. It
// returns CodeConflict, with the jobs, while an unfinished job uses it, or trains it, or reuses the outputs
// of its job.
func (s *Store) ClaimModelRemoval(ctx context.Context, ref bfia.ModelRef) ([]Model, error) {
	var claimed []Model
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		parts, err := s.lockModel(ctx, tx, ref)
		if err != nil {
			return err
		}
		if err := checkTrainingEnded(ctx, tx, parts[0]); err != nil {
			return err
		}
		everywhere := WithoutProjects(ctx) // a job of any project may use it
		users, err := jobsWithModel(everywhere, tx, parts, true)
		if err != nil {
			return err
		}
		reusing, err := jobUses(everywhere, tx, "t_job", true, `j.old_job_id = ? OR EXISTS (SELECT 1 FROM t_task AS t
			WHERE t.job_id = j.job_id AND t.reused_task_id = ?)`, parts[0].JobID, parts[0].Name)
		if err != nil {
			return err
		}
		if users = append(users, reusing...); len(users) > 0 {
			text, err := describeUses(ctx, tx, users)
			if err != nil {
				return err
			}
			return bfia.Errorf(bfia.CodeConflict,
				"model %s is used by %s; delete it when no unfinished job uses it", ref, text)
		}
		claimed = parts
		return markModelsRemoving(ctx, tx, parts)
	})
	return claimed, wrap(err, "delete model %s", ref)
}

func markModelsRemoving(ctx context.Context, tx bun.Tx, models []Model) error {
	for _, m := range models {
		if _, err := tx.NewUpdate().Model((*Model)(nil)).Set("removing = ?", true).
			Where(modelKeyWhere, m.key()...).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ClaimUnusedModels marks the models that nobody needs as being removed, of one job or of all, and returns
// them: those that are not kept and whose job is gone, unless an unfinished job uses them or another job
// reuses them; and those whose removal, or import, began before a time and was never completed.
func (s *Store) ClaimUnusedModels(ctx context.Context, jobID string, before time.Time) ([]Model, error) {
	var candidates, claimed []Model
	q := s.w.NewSelect().Model(&candidates).ExcludeColumn("document").
		WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("m.removing AND m.created_at < ?", normalizeTime(before)).
				WhereOr("NOT m.removing AND NOT m.kept AND NOT EXISTS (SELECT 1 FROM t_job AS j " +
					"WHERE j.job_id = m.job_id)")
		})
	if jobID != "" {
		q.Where("m.job_id = ?", jobID)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, wrap(err, "find unused models")
	}
	for _, m := range candidates {
		free, err := s.claimUnusedModel(ctx, m)
		if err != nil {
			return claimed, wrap(err, "claim model %s", m.Ref())
		}
		if free {
			claimed = append(claimed, m)
		}
	}
	return claimed, nil
}

// claimUnusedModel marks a model as being removed unless a job needs it.
func (s *Store) claimUnusedModel(ctx context.Context, m Model) (free bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		free = false
		// The row comes first: it locks the model against jobs that are being created.
		q := tx.NewSelect().Model((*Model)(nil)).Column("job_id").Where(modelKeyWhere, m.key()...).
			Where("m.removing OR NOT m.kept")
		if s.pg {
			q.For("UPDATE")
		}
		var found []string
		if err := q.Scan(ctx, &found); err != nil || len(found) == 0 {
			return err
		}
		users, err := jobsWithModel(ctx, tx, []Model{m}, true)
		if err != nil || len(users) > 0 {
			return err
		}
		reused, err := tx.NewSelect().Model((*Task)(nil)).Join("JOIN t_job AS j ON j.job_id = t.job_id").
			Where("NOT j.removing AND t.reused_task_id = ?", m.Name).Exists(ctx)
		if err != nil || reused {
			return err
		}
		free = true
		return markModelsRemoving(ctx, tx, []Model{m})
	})
	return free, err
}

// DeleteModelRow deletes the row of a part of a model whose objects are removed, and the project of a job of
// which nothing else was ever recorded: that of an import.
func (s *Store) DeleteModelRow(ctx context.Context, m Model) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, _, err := s.lockJobProject(ctx, tx, m.JobID); err != nil {
			return err
		}
		if _, err := tx.NewDelete().Model((*Model)(nil)).Where(modelKeyWhere, m.key()...).
			Exec(ctx); err != nil {
			return err
		}
		return unassignUnusedJob(ctx, tx, m.JobID, m.CreatedAt)
	}), "delete model %s", m.Ref())
}

// BeginModelImport records a part of a model that is about to be stored, as one that is being removed, so
// that housekeeping finds what a dead process left. It returns the part that this party already has, if any.
// The model is of the project of its job. An unknown job becomes one of the given project, or of default. If
// the job is of another project than the given one, the answer is CodeConflict.
func (s *Store) BeginModelImport(ctx context.Context, m Model, project string) (existing *Model, err error) {
	m.CreatedAt, m.Removing, m.Kept, m.Imported = timeOrNow(m.CreatedAt), true, true, true
	if err := m.check(); err != nil {
		return nil, err
	}
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		existing = nil
		if err := s.assignModel(ctx, tx, m, project); err != nil {
			return err
		}
		n, err := affected(tx.NewInsert().Model(&m).
			On("CONFLICT (job_id, task_name, role, role_index, key) DO NOTHING").Exec(ctx))
		if err != nil {
			return err
		}
		if n == 1 {
			project, _, err := jobProject(ctx, tx, m.JobID)
			if err != nil {
				return err
			}
			return s.holdStorage(ctx, tx, project)
		}
		existing = &Model{}
		return selectOne(ctx, tx.NewSelect().Where(modelKeyWhere, m.key()...), existing, "model %s", m.Ref())
	})
	return existing, wrap(err, "import model %s", m.Ref())
}

// assignModel records to which project the job of an imported model belongs, also if this party has never had
// the job: its later owner would own the model.
func (s *Store) assignModel(ctx context.Context, tx bun.Tx, m Model, project string) error {
	if project == "" {
		var err error
		if project, _, err = jobProject(ctx, tx, m.JobID); err != nil {
			return err
		}
	}
	err := s.assignJob(ctx, tx, m.JobID, project, m.CreatedAt)
	if bfia.CodeOf(err) == bfia.CodeConflict {
		return bfia.Wrap(bfia.CodeConflict, err, "model %s: the name is in use at this party", m.Ref())
	}
	return err
}

// CompleteModelImport makes parts of a model usable whose objects are stored.
func (s *Store) CompleteModelImport(ctx context.Context, parts []Model) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, m := range parts {
			n, err := affected(tx.NewUpdate().Model((*Model)(nil)).Set("removing = ?", false).
				Where(modelKeyWhere, m.key()...).Where("m.name = ?", m.Name).Exec(ctx))
			if err != nil {
				return err
			}
			if n == 0 {
				return bfia.Errorf(bfia.CodeConflict,
					"model %s: housekeeping removed the import, which took too long; import it again", m.Ref())
			}
		}
		return nil
	}), "import model %s", parts[0].Ref())
}

// HoldsModel reports whether an address is that of a model, which outlives the outputs of its job.
func (s *Store) HoldsModel(ctx context.Context, at bfia.Address) (bool, error) {
	held, err := s.w.NewSelect().Model((*Model)(nil)).
		Where("namespace = ? AND name = ?", at.Namespace, at.Name).Exists(ctx)
	return held, wrap(err, "look for a model at %s", at)
}
