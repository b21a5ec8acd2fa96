package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// Metadata is the object "metadata" of a dataset, in the form of FATE's S3 tables.
type Metadata struct {
	ColumnInfo  []store.Column             `json:"column_info"`
	Options     string                     `json:"options"`
	Partitions  int                        `json:"partitions"` // 0: the metadata has no number
	Description string                     `json:"description"`
	DataType    string                     `json:"data_type"`   // dense
	FileType    string                     `json:"file_type"`   // csv
	CreateTime  float64                    `json:"create_time"` // Unix seconds
	ExpireTime  float64                    `json:"expire_time"`
	Count       int64                      `json:"count"`    // rows
	Metadata    map[string]json.RawMessage `json:"metadata"` // match_id_name, label_name, delimiter, and other fields of the upload's meta
}

const (
	metadataObject = "metadata"
	// The expire_time of an upload, as in FATE. Nothing in Hutong enforces it.
	expiresAfter = 365 * 24 * time.Hour
	// The limit for metadata, which containers write too.
	maxMetadata = 32 << 20
)

// newMetadata returns the metadata of a file that has been read.
func newMetadata(t *table, req IngestRequest, now time.Time) (Metadata, error) {
	m := Metadata{
		ColumnInfo: t.columns(), Partitions: req.Partitions, DataType: "dense", FileType: "csv",
		CreateTime: float64(now.Unix()), ExpireTime: float64(now.Add(expiresAfter).Unix()),
		Count: t.rows, Metadata: maps.Clone(t.meta.rest),
	}
	fields := map[string]string{"match_id_name": t.names[t.id], "delimiter": ",", "generation": t.generation}
	if t.meta.labelName != "" {
		fields["label_name"] = t.meta.labelName
	}
	if t.sid {
		fields["sample_id_name"] = sidColumn
	}
	for field, value := range fields {
		raw, err := json.Marshal(value)
		if err != nil {
			return m, err
		}
		m.Metadata[field] = raw
	}
	return m, nil
}

// metadata reads the metadata under a key, and returns it also byte for byte. namespace and name are for
// errors.
func (d *Datasets) metadata(ctx context.Context, namespace, name, key string) (Metadata, []byte, error) {
	m, raw, err := readMetadata(ctx, d.blobs, key)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return Metadata{}, nil, bfia.Wrap(bfia.CodeNotFound, err, "dataset %q in namespace %q is not known",
			name, namespace)
	}
	return m, raw, err
}

// readMetadata reads the metadata under a key, and returns it also byte for byte. It returns CodeNotFound if
// there is none, and CodeConflict if it is not valid.
func readMetadata(ctx context.Context, blobs blob.Store, key string) (Metadata, []byte, error) {
	r, err := blobs.Get(ctx, key+"/"+metadataObject)
	if err != nil {
		return Metadata{}, nil, err
	}
	defer r.Close()

	raw, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err != nil {
		return Metadata{}, nil, fmt.Errorf("failed to read the metadata of dataset %s: %w", key, err)
	}
	m, err := parseMetadata(key, raw)
	return m, raw, err
}

// parseMetadata parses the metadata under a key. Containers write it too, so only the fields that are needed
// to read the dataset must be right. A field of another type than expected stays empty.
func parseMetadata(key string, raw []byte) (m Metadata, err error) {
	var needed struct {
		Partitions *float64 `json:"partitions"`
		FileType   string   `json:"file_type"`
	}
	switch err := json.Unmarshal(raw, &needed); {
	case len(raw) > maxMetadata:
		return m, invalid(key, "is larger than %d bytes", maxMetadata)
	case len(raw) == 0:
		return m, invalid(key, "is empty")
	case err != nil:
		return m, invalid(key, "can't be parsed: %v", err)
	}
	var otherType *json.UnmarshalTypeError
	if err := json.Unmarshal(raw, &m); err != nil && !errors.As(err, &otherType) {
		return m, invalid(key, "can't be parsed: %v", err)
	}
	m.FileType, m.Partitions = needed.FileType, 0
	if n := needed.Partitions; n != nil {
		m.Partitions = int(*n)
		if *n < 1 || *n > MaxPartitions || float64(m.Partitions) != *n {
			return m, invalid(key, "has partitions %v, not 1 to %d", *n, MaxPartitions)
		}
	}
	return m, nil
}

// CheckWritten checks an output that a container wrote: if it has metadata, that is valid, and every
// partition that it names is among the output's objects. Otherwise it returns CodeConflict.
func CheckWritten(ctx context.Context, blobs blob.Store, key string, objects []blob.Info) error {
	exists := keysOf(objects)
	if !exists[key+"/"+metadataObject] {
		return nil
	}
	m, _, err := readMetadata(ctx, blobs, key)
	if err != nil {
		return err
	}
	for i := range m.Partitions {
		if !exists[partitionKey(key, i)] {
			return invalid(key, "has partitions %d, but the object %s does not exist", m.Partitions,
				partitionKey(key, i))
		}
	}
	return nil
}

// countPartitions returns the number of partitions under a key: those that the metadata names, or if it has
// no number, those that exist.
func (d *Datasets) countPartitions(ctx context.Context, key string, m Metadata) (int, error) {
	if m.Partitions > 0 {
		return m.Partitions, nil
	}
	objects, err := d.blobs.List(ctx, key)
	if err != nil {
		return 0, err
	}
	exists, n := keysOf(objects), 0
	for exists[partitionKey(key, n)] {
		n++
	}
	if n == 0 {
		return 0, invalid(key, "has no partitions, and the object %s does not exist", partitionKey(key, 0))
	}
	return n, nil
}

func partitionKey(key string, i int) string { return fmt.Sprintf("%s/data_%d", key, i) }

func keysOf(objects []blob.Info) map[string]bool {
	keys := make(map[string]bool, len(objects))
	for _, o := range objects {
		keys[o.Key] = true
	}
	return keys
}

// invalid is an error about the metadata under a key. It is for people to see: usually a container wrote it.
func invalid(key, format string, args ...any) error {
	return bfia.Errorf(bfia.CodeConflict, "the object %s/%s, as the algorithm wrote it, %s", key,
		metadataObject, fmt.Sprintf(format, args...))
}
