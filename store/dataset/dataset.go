package dataset

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// MaxPartitions is the maximal number of partitions of a dataset.
const MaxPartitions = 1024

// Datasets reads and writes the datasets of a party: their objects in a blob store, their rows in the
// database.
type Datasets struct {
	blobs blob.Store
	rows  *store.Store
}

// New returns the datasets of a blob store whose rows are in a database.
func New(blobs blob.Store, rows *store.Store) *Datasets { return &Datasets{blobs: blobs, rows: rows} }

// IngestRequest holds the parameters of an upload; the names are the protocol's.
type IngestRequest struct {
	Namespace, Name string
	// Project is the project of the dataset. Empty: that which it has, or default if it is new.
	Project    string
	Head       bool // the first line names the columns
	Partitions int  // 1 to MaxPartitions; 0 is 1
	ExtendSID  bool // add a first column "sid"
	// Encoding is the encoding of the file, such as gbk. Empty: UTF-8. The dataset is UTF-8.
	Encoding string
	// Meta has delimiter, label_name, match_id_name (default: the first column) and header. It may have
	// other fields.
	Meta json.RawMessage
}

// Key returns the prefix of a dataset's objects; CodeBadRequest for an invalid namespace or name.
func Key(namespace, name string) (string, error) {
	for _, part := range [][2]string{{"namespace", namespace}, {"name", name}} {
		field, value := part[0], part[1]
		switch {
		case value == "":
			return "", bfia.Errorf(bfia.CodeBadRequest, "%s: is required", field)
		case strings.ContainsAny(value, "/#"):
			return "", bfia.Errorf(bfia.CodeBadRequest, "%s: %q must contain neither '/' nor '#'", field,
				value)
		}
		if err := blob.CheckKey(value); err != nil {
			return "", bfia.Wrap(
				bfia.CodeBadRequest,
				err,
				"%s: %q must be UTF-8 without control characters and backslashes, at most 255 bytes, and "+
					"not begin with '.'",
				field,
				value,
			)
		}
	}
	return namespace + "/" + name, nil
}

// GenerationAddress returns the address of one generation of an uploaded dataset, as containers get it: the
// generation is part of the name. Without a generation it is the dataset's own address.
func GenerationAddress(namespace, name, generation string) bfia.Address {
	if generation != "" {
		name += "." + generation
	}
	return bfia.Address{Namespace: namespace, Name: name}
}

// Ingest reads a CSV file, writes it as a new generation of the dataset, and makes that the current one.
// Readers of an older generation keep reading it. If the request or the file is invalid, it returns
// CodeBadRequest with the field or the line. When Ingest fails, the current generation stays the same. It
// returns the dataset's row.
func (d *Datasets) Ingest(ctx context.Context, req IngestRequest, r io.Reader) (store.DataTable, error) {
	if _, err := Key(req.Namespace, req.Name); err != nil {
		return store.DataTable{}, err
	}
	generation := newGeneration()

	// The row comes first: with it, housekeeping finds the objects if this process dies.
	if err := d.rows.CreateGeneration(ctx, req.Namespace, req.Name, generation, time.Now()); err != nil {
		return store.DataTable{}, err
	}
	table, err := Write(ctx, d.blobs, req, generation, r)
	if err == nil {
		table.Project = req.Project
		err = d.rows.PutDataTable(ctx, table)
	}
	if err != nil {
		return store.DataTable{}, errors.Join(err, d.discard(ctx, req, generation))
	}
	return table, nil
}

func newGeneration() string {
	var random [8]byte
	rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// discard removes a generation that did not become current. It leaves it to Sweep if it can't find out.
func (d *Datasets) discard(ctx context.Context, req IngestRequest, generation string) error {
	// With a context of its own: the caller's may be the reason of the failure.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()

	current, err := d.rows.DataTable(ctx, req.Namespace, req.Name)
	switch {
	case err != nil && bfia.CodeOf(err) != bfia.CodeNotFound:
		return nil // housekeeping removes it, if it is not current
	case err == nil && current.Generation == generation:
		return nil
	}
	return d.removeGeneration(ctx,
		store.DataGeneration{Namespace: req.Namespace, Name: req.Name, Generation: generation})
}

// removeGeneration removes the objects of a generation, then its row.
func (d *Datasets) removeGeneration(ctx context.Context, g store.DataGeneration) error {
	address := GenerationAddress(g.Namespace, g.Name, g.Generation)
	key, err := Key(address.Namespace, address.Name)
	if err != nil {
		return err
	}
	if err := d.blobs.DeletePrefix(ctx, key); err != nil {
		return err
	}
	return d.rows.DeleteGeneration(ctx, g.Generation)
}

// Write reads a CSV file and writes it under the address of a generation, which must have no objects. Without
// a generation it writes under the dataset's own address, where other platforms look for their datasets. The
// package's documentation describes the file.
func Write(ctx context.Context, blobs blob.Store, req IngestRequest, generation string, r io.Reader,
) (store.DataTable, error) {
	address := GenerationAddress(req.Namespace, req.Name, generation)
	key, err := Key(address.Namespace, address.Name)
	if err != nil {
		return store.DataTable{}, err
	}
	if req.Partitions == 0 {
		req.Partitions = 1
	}
	if req.Partitions < 1 || req.Partitions > MaxPartitions {
		return store.DataTable{}, bfia.Errorf(bfia.CodeBadRequest,
			"partitions: %d is not between 1 and %d", req.Partitions, MaxPartitions)
	}
	m, err := parseMeta(req.Meta)
	if err != nil {
		return store.DataTable{}, err
	}

	t := &table{encoding: req.Encoding, meta: m, head: req.Head, sid: req.ExtendSID,
		generation: cmp.Or(generation, newGeneration())}
	now := time.Now().UTC().Truncate(time.Second)
	var bytes int64
	err = blobs.Create(ctx, key, func(dir string) (err error) {
		bytes, err = fill(ctx, dir, t, req, r, now)
		return err
	})
	if err != nil {
		return store.DataTable{}, fmt.Errorf("failed to upload dataset %s/%s: %w", req.Namespace, req.Name,
			err)
	}
	return store.DataTable{
		Namespace: req.Namespace, Name: req.Name, Generation: generation, Columns: t.columns(), Rows: t.rows,
		Partitions: req.Partitions, Bytes: bytes, Meta: req.Meta, CreatedAt: now, UpdatedAt: now,
	}, nil
}

// fill writes the objects of an upload as files in dir, and returns their total size.
func fill(ctx context.Context, dir string, t *table, req IngestRequest, r io.Reader, now time.Time,
) (int64, error) {
	// Temporary files are in the same folder as the objects, and are removed before these are published.
	work := filepath.Join(dir, ".work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return 0, err
	}

	ids := newIDs(work)
	parts := newPartitions(dir, req.Partitions)
	if err := t.read(ctx, r, parts, ids); err != nil {
		return 0, err
	}
	size, err := parts.flush()
	if err != nil {
		return 0, err
	}

	first, second, err := ids.duplicate(ctx)
	if err != nil {
		return 0, err
	}
	if second > 0 {
		return 0, bfia.Errorf(bfia.CodeBadRequest, "line %d: has the same id (column %q) as line %d; "+
			"remove one of them, or upload with extend_sid, which permits repeated ids",
			second, t.names[t.id], first)
	}

	if err := os.RemoveAll(work); err != nil {
		return 0, err
	}
	metadata, err := newMetadata(t, req, now)
	if err != nil {
		return 0, err
	}
	raw, err := json.Marshal(metadata)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(dir, metadataObject), raw, 0o644); err != nil {
		return 0, err
	}
	return size + int64(len(raw)), nil
}

// Locate returns the address of a dataset. If it was uploaded to this party, that is the address of its
// current generation. Outputs of tasks, and datasets that other platforms put into the storage, have no row
// and no generations.
func (d *Datasets) Locate(ctx context.Context, namespace, name string) (bfia.Address, error) {
	if _, err := Key(namespace, name); err != nil {
		return bfia.Address{}, err
	}
	table, err := d.rows.DataTable(ctx, namespace, name)
	if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
		return bfia.Address{}, err
	}
	return GenerationAddress(namespace, name, table.Generation), nil
}

// locateKey returns the prefix of a dataset's objects; see [Datasets.Locate].
func (d *Datasets) locateKey(ctx context.Context, namespace, name string) (string, error) {
	address, err := d.Locate(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	return Key(address.Namespace, address.Name)
}

// Exists reports whether there is a dataset of that name: whether its metadata exists.
func (d *Datasets) Exists(ctx context.Context, namespace, name string) (bool, error) {
	key, err := d.locateKey(ctx, namespace, name)
	if err != nil {
		return false, err
	}
	_, err = d.blobs.Stat(ctx, key+"/"+metadataObject)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return false, nil
	}
	return err == nil, err
}

// Metadata returns the metadata of a dataset, or CodeNotFound if there is none.
func (d *Datasets) Metadata(ctx context.Context, namespace, name string) (Metadata, error) {
	key, err := d.locateKey(ctx, namespace, name)
	if err != nil {
		return Metadata{}, err
	}
	m, _, err := d.metadata(ctx, namespace, name, key)
	return m, err
}

// Delete removes an uploaded dataset with all its generations. It returns CodeNotFound if there is none, and
// CodeConflict, with the jobs, if unfinished jobs read it. If it fails after that, [Datasets.Sweep] removes
// the rest.
func (d *Datasets) Delete(ctx context.Context, namespace, name string) error {
	if _, err := Key(namespace, name); err != nil {
		return err
	}
	generations, err := d.rows.DeleteDataTable(ctx, namespace, name)
	if err != nil {
		return err
	}
	for _, g := range generations {
		if err := d.removeGeneration(ctx, g); err != nil {
			return fmt.Errorf("failed to remove generation %s of dataset %s#%s: %w", g.Generation, namespace,
				name, err)
		}
	}
	return nil
}

// Sweep removes what is older than age: half-written objects of dead processes, superseded generations that
// no job needs, and generations that never became current. See [blob.Store] and
// [store.Store.ClaimRemovableGenerations].
func (d *Datasets) Sweep(ctx context.Context, age time.Duration) error {
	failed := []error{d.blobs.Sweep(ctx, age)}

	removable, err := d.rows.ClaimRemovableGenerations(ctx, time.Now().Add(-age))
	failed = append(failed, err)
	for _, g := range removable {
		if err := d.removeGeneration(ctx, g); err != nil {
			failed = append(failed, fmt.Errorf("failed to remove generation %s of dataset %s#%s: %w",
				g.Generation, g.Namespace, g.Name, err))
		}
	}
	return errors.Join(failed...)
}
