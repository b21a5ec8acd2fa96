package store

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

// Column is a column of a dataset.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"` // int64, float64 or string
}

// DataTable describes the current generation of an uploaded dataset. store/dataset has the keys of its
// objects.
type DataTable struct {
	Namespace  string
	Name       string
	Project    string
	Generation string
	Columns    []Column
	Rows       int64
	Partitions int
	Bytes      int64           // of all objects
	Meta       json.RawMessage // the meta of the upload, byte for byte
	CreatedAt  time.Time       // of the first upload under this name
	UpdatedAt  time.Time
}

type dataTableRow struct {
	bun.BaseModel `bun:"table:t_data_table,alias:d"`

	Namespace  string    `bun:"namespace,pk"`
	Name       string    `bun:"name,pk"`
	Project    string    `bun:"project"`
	Generation string    `bun:"generation"`
	Columns    []Column  `bun:"columns"`
	Rows       int64     `bun:"rows"`
	Partitions int       `bun:"partitions"`
	Bytes      int64     `bun:"bytes"`
	Meta       string    `bun:"meta"`
	CreatedAt  time.Time `bun:"created_at"`
	UpdatedAt  time.Time `bun:"updated_at"`
}

func (r dataTableRow) table() DataTable {
	normalizeTimes(&r.CreatedAt, &r.UpdatedAt)
	t := DataTable{
		Namespace: r.Namespace, Name: r.Name, Project: r.Project, Generation: r.Generation,
		Columns: r.Columns, Rows: r.Rows, Partitions: r.Partitions, Bytes: r.Bytes,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	if r.Meta != "" {
		t.Meta = json.RawMessage(r.Meta)
	}
	return t
}

// PutDataTable makes a generation of a dataset the current one. Without a project, a new dataset belongs to
// default, and a known one stays in its own. It returns CodeConflict if housekeeping has removed the
// generation, or if the dataset belongs to another project, which it does not name.
func (s *Store) PutDataTable(ctx context.Context, t DataTable) error {
	texts := []string{"namespace", t.Namespace, "name", t.Name, "generation", t.Generation, "meta",
		string(t.Meta), "project", t.Project}
	for _, c := range t.Columns {
		texts = append(texts, "columns", c.Name, "columns", c.Type)
	}
	if err := checkText(texts...); err != nil {
		return err
	}

	row := dataTableRow{
		Namespace: t.Namespace, Name: t.Name, Project: cmp.Or(t.Project, identity.DefaultProject),
		Generation: t.Generation, Columns: t.Columns, Rows: t.Rows,
		Partitions: t.Partitions, Bytes: t.Bytes, Meta: string(t.Meta),
		CreatedAt: timeOrNow(t.CreatedAt), UpdatedAt: normalizeTime(time.Now()),
	}
	if row.Columns == nil {
		row.Columns = []Column{}
	}

	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.holdProject(ctx, tx, row.Project); err != nil {
			return err
		}
		// The row comes first: it also locks the dataset against another upload.
		q := tx.NewInsert().Model(&row).On("CONFLICT (namespace, name) DO UPDATE").
			Set("generation = EXCLUDED.generation, columns = EXCLUDED.columns, rows = EXCLUDED.rows").
			Set("partitions = EXCLUDED.partitions, bytes = EXCLUDED.bytes, meta = EXCLUDED.meta").
			Set("updated_at = EXCLUDED.updated_at")
		if t.Project != "" {
			q.Where("d.project = EXCLUDED.project")
		}
		n, err := affected(q.Exec(ctx))
		if err != nil {
			return err
		}
		if n == 0 {
			return nameTaken(t.Namespace, t.Name)
		}
		if err := supersedeGenerations(ctx, tx, t.Namespace, t.Name, t.Generation,
			row.UpdatedAt); err != nil {
			return err
		}
		var kept dataTableRow // a known dataset stays in its project
		if err := selectOne(ctx, tx.NewSelect().Where("namespace = ? AND name = ?", t.Namespace, t.Name),
			&kept, "dataset %s#%s", t.Namespace, t.Name); err != nil {
			return err
		}
		return s.holdStorage(ctx, tx, kept.Project)
	}), "record dataset %s#%s", t.Namespace, t.Name)
}

func nameTaken(namespace, name string) error {
	return bfia.Errorf(bfia.CodeConflict, "namespace, name: the name %s#%s is in use at this party; choose "+
		"another one", namespace, name)
}

// CheckDataName returns CodeConflict if a dataset of that name belongs to another project than the given one.
// An empty project is any.
func (s *Store) CheckDataName(ctx context.Context, namespace, name, project string) error {
	if project == "" {
		return nil
	}
	if err := checkText("namespace", namespace, "name", name); err != nil {
		return err
	}
	taken, err := s.r.NewSelect().Model((*dataTableRow)(nil)).
		Where("namespace = ? AND name = ? AND project <> ?", namespace, name, project).Exists(ctx)
	if err == nil && taken {
		return nameTaken(namespace, name)
	}
	return wrap(err, "read the project of dataset %s#%s", namespace, name)
}

// DataTable returns the row of a dataset, or CodeNotFound if there is none.
func (s *Store) DataTable(ctx context.Context, namespace, name string) (DataTable, error) {
	var row dataTableRow
	err := selectOne(ctx, rowsOf(ctx, "d.project").addTo(s.r.NewSelect().
		Where("namespace = ? AND name = ?", namespace, name)), &row,
		"dataset %q in namespace %q", name, namespace)
	return row.table(), err
}

// DataTables returns the datasets of a namespace, or all if it is empty, by namespace and name.
func (s *Store) DataTables(ctx context.Context, namespace string) ([]DataTable, error) {
	if err := checkText("namespace", namespace); err != nil {
		return nil, err
	}
	var rows []dataTableRow
	q := rowsOf(ctx, "d.project").addTo(s.r.NewSelect().Model(&rows)).Order("namespace", "name")
	if namespace != "" {
		q.Where("namespace = ?", namespace)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, wrap(err, "list datasets")
	}
	tables := make([]DataTable, 0, len(rows))
	for _, r := range rows {
		tables = append(tables, r.table())
	}
	return tables, nil
}

// DeleteDataTable deletes a dataset's row and claims its generations for removal, which it returns. An upload
// that has not ended is no part of the dataset yet. It returns CodeNotFound if there is no such dataset, and
// CodeConflict, with the jobs, if unfinished jobs read it.
func (s *Store) DeleteDataTable(ctx context.Context, namespace, name string) ([]DataGeneration, error) {
	var claimed []DataGeneration
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		claimed = nil
		// The row comes first: it locks the dataset against new jobs and uploads.
		var row dataTableRow
		q := rowsOf(ctx, "d.project").addTo(tx.NewSelect().
			Where("namespace = ? AND name = ?", namespace, name))
		if s.pg { // SQLite has one writer at a time
			q.For("UPDATE")
		}
		if err := selectOne(ctx, q, &row, "dataset %q in namespace %q", name, namespace); err != nil {
			return err
		}

		users, err := jobsWithDataset(WithoutProjects(ctx), tx, namespace, name, true)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			text, err := describeUses(ctx, tx, users)
			if err != nil {
				return err
			}
			return bfia.Errorf(bfia.CodeConflict,
				"dataset %s#%s is read by %s; delete it when no unfinished job reads it", namespace, name, text)
		}

		if _, err := tx.NewDelete().Model(&row).WherePK().Exec(ctx); err != nil {
			return err
		}
		const ended = "namespace = ? AND name = ? AND (generation = ? OR superseded_at IS NOT NULL)"
		if _, err := tx.NewUpdate().Model((*DataGeneration)(nil)).Set("removing = ?", true).
			Where(ended, namespace, name, row.Generation).Exec(ctx); err != nil {
			return err
		}
		return tx.NewSelect().Model(&claimed).Where(ended, namespace, name, row.Generation).Scan(ctx)
	})
	return claimed, wrap(err, "delete dataset %s#%s", namespace, name)
}
