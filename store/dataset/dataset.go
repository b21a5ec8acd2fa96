package dataset

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
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

// MaxPartitions is how many partitions a dataset may have.
const MaxPartitions = 1024

// Datasets are the datasets of a blob store.
type Datasets struct {
	blobs blob.Store
}

// New makes the datasets of a blob store.
func New(blobs blob.Store) *Datasets { return &Datasets{blobs: blobs} }

// IngestRequest is what an upload says besides its rows; the words are the protocol's.
type IngestRequest struct {
	Namespace, Name string
	Head            bool            // the first line names the columns
	Partitions      int             // 1 to MaxPartitions; 0 is 1
	ExtendSID       bool            // add a first column "sid"
	Meta            json.RawMessage // delimiter, label_name, match_id_name (the first column if missing), header; others are kept
}

// Key is the prefix of a dataset's objects. CodeBadRequest when namespace or name can't be one.
func Key(namespace, name string) (string, error) {
	for _, part := range [][2]string{{"namespace", namespace}, {"name", name}} {
		field, value := part[0], part[1]
		switch {
		case value == "":
			return "", bfia.Errorf(bfia.CodeBadRequest, "%s: is required", field)
		case strings.ContainsAny(value, "/#"):
			return "", bfia.Errorf(bfia.CodeBadRequest, "%s: %q may hold neither '/' nor '#'", field, value)
		}
		if err := blob.CheckKey(value); err != nil {
			return "", bfia.Wrap(bfia.CodeBadRequest, err, "%s: %q must be UTF-8 without control characters and backslashes, at most 255 bytes, and not begin with '.'", field, value)
		}
	}
	return namespace + "/" + name, nil
}

// Ingest reads a CSV file and makes it the dataset of that name, whole, in place of an older one; see the package's
// text. What is wrong with the request or the file is CodeBadRequest with the field or the line. When it fails, for
// whatever reason, nothing has changed. It answers what the store's t_data_table keeps of it.
func (d *Datasets) Ingest(ctx context.Context, req IngestRequest, r io.Reader) (store.DataTable, error) {
	key, err := Key(req.Namespace, req.Name)
	if err != nil {
		return store.DataTable{}, err
	}
	if req.Partitions == 0 {
		req.Partitions = 1
	}
	if req.Partitions < 1 || req.Partitions > MaxPartitions {
		return store.DataTable{}, bfia.Errorf(bfia.CodeBadRequest, "partitions: %d is not between 1 and %d", req.Partitions, MaxPartitions)
	}
	m, err := parseMeta(req.Meta)
	if err != nil {
		return store.DataTable{}, err
	}
	var random [8]byte
	rand.Read(random[:]) // never fails
	t := &table{meta: m, head: req.Head, sid: req.ExtendSID, generation: hex.EncodeToString(random[:])}
	now := time.Now().UTC().Truncate(time.Second)
	var bytes int64
	err = d.blobs.Replace(ctx, key, func(dir string) (err error) {
		bytes, err = fill(ctx, dir, t, req, r, now)
		return err
	})
	if err != nil {
		return store.DataTable{}, fmt.Errorf("upload dataset %s: %w", key, err)
	}
	return store.DataTable{
		Namespace: req.Namespace, Name: req.Name, Columns: t.columns(), Rows: t.rows, Partitions: req.Partitions,
		Bytes: bytes, Meta: req.Meta, CreatedAt: now, UpdatedAt: now,
	}, nil
}

// fill writes the objects of an upload as files in dir, and answers their size.
func fill(ctx context.Context, dir string, t *table, req IngestRequest, r io.Reader, now time.Time) (int64, error) {
	// Beside the objects, and away before they become such.
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
		return 0, bfia.Errorf(bfia.CodeBadRequest, "line %d: has the same id (column %q) as line %d", second, t.names[t.id], first)
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

// Exists tells whether there is a dataset of that name: its metadata, that is.
func (d *Datasets) Exists(ctx context.Context, namespace, name string) (bool, error) {
	key, err := Key(namespace, name)
	if err != nil {
		return false, err
	}
	_, err = d.blobs.Stat(ctx, key+"/"+metadataObject)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return false, nil
	}
	return err == nil, err
}

// Metadata is what a dataset tells of itself; CodeNotFound when there is none.
func (d *Datasets) Metadata(ctx context.Context, namespace, name string) (Metadata, error) {
	m, _, err := d.metadata(ctx, namespace, name)
	return m, err
}

// Delete removes a dataset; there may be none.
func (d *Datasets) Delete(ctx context.Context, namespace, name string) error {
	key, err := Key(namespace, name)
	if err != nil {
		return err
	}
	return d.blobs.DeletePrefix(ctx, key)
}

// Sweep completes or removes what processes that died in an upload left, and removes replaced datasets, if older than
// age; see [blob.Store].
func (d *Datasets) Sweep(ctx context.Context, age time.Duration) error {
	return d.blobs.Sweep(ctx, age)
}
