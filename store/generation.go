package store

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

// DataGeneration is one upload of a dataset. Its objects never change; the current one is that of
// [DataTable.Generation].
type DataGeneration struct {
	bun.BaseModel `bun:"table:t_data_generation,alias:g"`

	Generation   string     `bun:"generation,pk"`
	Namespace    string     `bun:"namespace"`
	Name         string     `bun:"name"`
	Removing     bool       `bun:"removing"`
	CreatedAt    time.Time  `bun:"created_at"`
	SupersededAt *time.Time `bun:"superseded_at"`
}

var _ bun.AfterScanRowHook = (*DataGeneration)(nil)

// AfterScanRow normalizes the times.
func (g *DataGeneration) AfterScanRow(context.Context) error {
	normalizeTimes(&g.CreatedAt, g.SupersededAt)
	return nil
}

// CreateGeneration records an upload before its first object is written. Housekeeping removes it if it never
// becomes current.
func (s *Store) CreateGeneration(ctx context.Context, namespace, name, generation string,
	at time.Time) error {
	if err := checkText("namespace", namespace, "name", name, "generation", generation); err != nil {
		return err
	}

	row := DataGeneration{Generation: generation, Namespace: namespace, Name: name, CreatedAt: timeOrNow(at)}
	_, err := s.w.NewInsert().Model(&row).Exec(ctx)
	return wrap(err, "create generation %s of dataset %s#%s", generation, namespace, name)
}

// Generation returns one upload of a dataset, or CodeNotFound if there is none, or housekeeping has removed
// it.
func (s *Store) Generation(ctx context.Context, generation string) (DataGeneration, error) {
	var row DataGeneration
	q := s.r.NewSelect().Where("g.generation = ?", generation)
	if known := rowsOf(ctx, "d.project"); known.text != knowsAll {
		q.Where("EXISTS (SELECT 1 FROM t_data_table AS d WHERE d.namespace = g.namespace AND "+
			"d.name = g.name AND "+known.text+")", known.args...)
	}
	err := selectOne(ctx, q, &row, "upload %q", generation)
	return row, err
}

// supersedeGenerations marks all generations of a dataset but the current one as superseded. The caller holds
// the lock of the dataset's row.
func supersedeGenerations(ctx context.Context, tx bun.Tx, namespace, name, current string,
	at time.Time) error {
	if current != "" {
		n, err := affected(tx.NewUpdate().Model((*DataGeneration)(nil)).Set("superseded_at = NULL").
			Where("generation = ? AND NOT removing", current).Exec(ctx))
		if err != nil {
			return err
		}
		if n == 0 {
			return bfia.Errorf(bfia.CodeConflict, "dataset %q in namespace %q: "+
				"housekeeping removed the upload, which took too long; upload it again", name, namespace)
		}
	}

	_, err := tx.NewUpdate().Model((*DataGeneration)(nil)).Set("superseded_at = ?", normalizeTime(at)).
		Where("namespace = ? AND name = ? AND generation <> ? AND superseded_at IS NULL", namespace, name,
			current).
		Exec(ctx)
	return err
}

// ClaimRemovableGenerations marks the generations that housekeeping may remove, and returns them. They were
// superseded, or begun and never completed, before a time, and no job reads them that is unfinished or ended
// after that time. A claimed generation stays claimed until [Store.DeleteGeneration].
func (s *Store) ClaimRemovableGenerations(ctx context.Context, before time.Time) ([]DataGeneration, error) {
	var claimed []DataGeneration
	before = normalizeTime(before)

	err := s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		claimed = nil
		if err := lockAdmission(ctx, tx); err != nil { // ReopenJob takes it too
			return err
		}

		removable := tx.NewSelect().Model((*DataGeneration)(nil)).Column("generation").
			Where("COALESCE(g.superseded_at, g.created_at) < ?", before).
			Where("NOT EXISTS (SELECT 1 FROM t_data_table AS d WHERE d.namespace = g.namespace "+
				"AND d.name = g.name AND d.generation = g.generation)").
			Where("NOT EXISTS (SELECT 1 FROM t_task AS t JOIN t_job AS j ON j.job_id = t.job_id "+
				"WHERE t.dataset_generation = g.generation AND (j.ended_at IS NULL OR j.ended_at >= ?))",
				before)
		if _, err := tx.NewUpdate().Model((*DataGeneration)(nil)).Set("removing = ?", true).
			Where("generation IN (?)", removable).Exec(ctx); err != nil {
			return err
		}

		return tx.NewSelect().
			Model(&claimed).
			Where("removing").
			Order("namespace", "name", "generation").
			Scan(ctx)
	})
	return claimed, wrap(err, "claim removable generations")
}

// DeleteGeneration deletes the row of a generation whose objects are removed; there may be none.
func (s *Store) DeleteGeneration(ctx context.Context, generation string) error {
	_, err := s.w.NewDelete().Model((*DataGeneration)(nil)).Where("generation = ?", generation).Exec(ctx)
	return wrap(err, "delete generation %s", generation)
}

// resolveGenerations sets the dataset generation of each task that names a dataset to the current one. It
// stays empty for a dataset that is not registered, unless the task requires that. The datasets are locked
// until the transaction ends, so that none is deleted meanwhile.
func (s *Store) resolveGenerations(ctx context.Context, tx bun.Tx, tasks []Task) error {
	current := map[string]string{} // parts of one job read the same
	for i := range tasks {
		t := &tasks[i]
		if t.Dataset == "" {
			continue
		}
		if _, found := current[t.Dataset]; !found {
			namespace, name, _ := strings.Cut(t.Dataset, "#")
			q := rowsOf(ctx, "d.project").addTo(tx.NewSelect().Where("namespace = ? AND name = ?", namespace,
				name))
			if s.pg { // SQLite has one writer at a time
				q.For("SHARE")
			}
			var row dataTableRow
			err := selectOne(ctx, q, &row, "dataset_id: dataset %q", t.Dataset)
			if err != nil && (t.RequireDataset || bfia.CodeOf(err) != bfia.CodeNotFound) {
				return err
			}
			if err != nil {
				if err := s.checkUnregistered(ctx, tx, namespace, name); err != nil {
					return err
				}
			}
			current[t.Dataset] = row.Generation
		}
		t.DatasetGeneration = current[t.Dataset]
	}
	return nil
}

// checkUnregistered refuses a dataset that is registered in a project which the context does not know, and
// any that is not registered unless the context knows default: what has no row belongs to default. The
// address at which a generation of a dataset is stored belongs to the dataset's project.
func (s *Store) checkUnregistered(ctx context.Context, tx bun.Tx, namespace, name string) error {
	unknown := bfia.Errorf(bfia.CodeNotFound, "dataset_id: dataset %q is not known", namespace+"#"+name)
	if !InProject(ctx, identity.DefaultProject) {
		return unknown
	}
	named := func(name string) *bun.SelectQuery {
		return tx.NewSelect().Model((*dataTableRow)(nil)).Where("namespace = ? AND name = ?", namespace, name)
	}
	registered, err := named(name).Exists(ctx)
	if err != nil {
		return err
	}
	if registered {
		return unknown
	}
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return nil
	}
	generation, err := tx.NewSelect().Model((*DataGeneration)(nil)).
		Where("generation = ? AND namespace = ? AND name = ?", name[dot+1:], namespace, name[:dot]).
		Exists(ctx)
	if err != nil || !generation {
		return err
	}
	known, err := rowsOf(ctx, "d.project").addTo(named(name[:dot])).Exists(ctx)
	if err == nil && !known {
		return unknown
	}
	return err
}

// renewRemovedGenerations makes the tasks of a reopened job read the current generation where that which they
// read before was removed.
func (s *Store) renewRemovedGenerations(ctx context.Context, tx bun.Tx, jobID string) error {
	var tasks []Task
	err := tx.NewSelect().Model(&tasks).Where("job_id = ? AND dataset_generation <> ''", jobID).
		Where("NOT EXISTS (SELECT 1 FROM t_data_generation AS g WHERE g.generation = t.dataset_generation " +
			"AND NOT g.removing)").
		Scan(ctx)
	if err != nil {
		return err
	}
	for i := range tasks {
		tasks[i].RequireDataset = true
	}
	if err := s.resolveGenerations(ctx, tx, tasks); err != nil {
		return err
	}
	for _, t := range tasks {
		if _, err := tx.NewUpdate().Model((*Task)(nil)).Set("dataset_generation = ?", t.DatasetGeneration).
			Where(taskKeyWhere, t.Key().args()...).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}
