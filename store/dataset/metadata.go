package dataset

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// Metadata is the object "metadata" of a dataset, in the form of FATE's S3 tables.
type Metadata struct {
	ColumnInfo  []store.Column             `json:"column_info"`
	Options     string                     `json:"options"`
	Partitions  int                        `json:"partitions"`
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
	r, err := d.blobs.Get(ctx, key+"/"+metadataObject)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return Metadata{}, nil, bfia.Wrap(bfia.CodeNotFound, err, "dataset %q in namespace %q is not known",
			name, namespace)
	}
	if err != nil {
		return Metadata{}, nil, err
	}
	defer r.Close()

	raw, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err != nil {
		return Metadata{}, nil, fmt.Errorf("failed to read the metadata of dataset %s: %w", key, err)
	}
	var m Metadata
	switch err := json.Unmarshal(raw, &m); {
	case len(raw) > maxMetadata:
		return m, nil, invalid(key, "is larger than %d bytes", maxMetadata)
	case len(raw) == 0:
		return m, nil, invalid(key, "is empty")
	case err != nil:
		return m, nil, invalid(key, "can't be parsed: %v", err)
	case m.Partitions < 1 || m.Partitions > MaxPartitions:
		return m, nil, invalid(key, "has partitions %d, not 1 to %d", m.Partitions, MaxPartitions)
	}
	return m, raw, nil
}

// invalid is an error about the metadata under a key. It is for people to see: usually a container wrote it.
func invalid(key, format string, args ...any) error {
	return bfia.Errorf(bfia.CodeConflict, "the object %s/%s, as the algorithm wrote it, %s", key,
		metadataObject, fmt.Sprintf(format, args...))
}
