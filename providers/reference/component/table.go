package component

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Metadata is the document that describes a dataset. It has the format of FATE's tables.
type Metadata struct {
	ColumnInfo  []ColumnInfo   `json:"column_info"`
	Options     string         `json:"options"`
	Partitions  int            `json:"partitions"`
	Description string         `json:"description"`
	DataType    string         `json:"data_type"`
	FileType    string         `json:"file_type"`
	CreateTime  float64        `json:"create_time"` // Unix seconds
	ExpireTime  float64        `json:"expire_time"` // Unix seconds
	Count       int            `json:"count"`
	Metadata    map[string]any `json:"metadata"`
}

// ColumnInfo holds a column's name and type.
type ColumnInfo struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Table is a dataset in memory. Cells hold the text as it was written. All rows have the length of Columns.
type Table struct {
	Columns []string
	Types   map[string]string // by column, where known
	Rows    [][]string
}

// maxPartitions limits how much a corrupt metadata document can make the program read.
const maxPartitions = 1 << 20

// retention is the lifetime in the metadata of outputs. Nothing here removes them.
const retention = 365 * 24 * time.Hour

// ReadTable reads all partitions of a dataset. Every partition must begin with the same header.
func ReadTable(ctx context.Context, s Store, a Address) (*Table, error) {
	t, err := readTable(ctx, s, a)
	if err != nil {
		return nil, fmt.Errorf("failed to read dataset %s#%s: %w", a.Namespace, a.Name, err)
	}
	return t, nil
}

func readTable(ctx context.Context, s Store, a Address) (*Table, error) {
	key, err := a.key("metadata")
	if err != nil {
		return nil, err
	}
	doc, err := s.Read(ctx, key)
	if err != nil {
		return nil, fmt.Errorf(
			"failed to read its metadata (was it uploaded, or did the previous task write it?): %w", err,
		)
	}
	var meta struct {
		Partitions *float64     `json:"partitions"`
		ColumnInfo []ColumnInfo `json:"column_info"`
	}
	if err := json.Unmarshal(doc, &meta); err != nil {
		return nil, fmt.Errorf("failed to parse its metadata: %w", err)
	}
	partitions := 1
	if meta.Partitions != nil && *meta.Partitions > 1 {
		if *meta.Partitions > maxPartitions {
			return nil, fmt.Errorf(
				"its metadata declares %v partitions, more than %d", *meta.Partitions, maxPartitions,
			)
		}
		partitions = int(*meta.Partitions)
	}

	t := &Table{Types: map[string]string{}}
	for _, c := range meta.ColumnInfo {
		t.Types[c.Name] = c.Type
	}
	for i := range partitions {
		key, err := a.key("data_" + strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		data, err := s.Read(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("partition %d of %d: %w", i, partitions, err)
		}
		header, rows, err := parseCSV(data)
		if err != nil {
			return nil, fmt.Errorf("partition %d of %d: %w", i, partitions, err)
		}
		if i == 0 {
			t.Columns = header
		} else if !slices.Equal(t.Columns, header) {
			return nil, fmt.Errorf(
				"partition %d of %d begins with another header than partition 0", i, partitions,
			)
		}

		t.Rows = append(t.Rows, rows...)
	}
	return t, nil
}

func parseCSV(data []byte) (header []string, rows [][]string, err error) {
	records, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff")))).ReadAll()
	if err != nil {
		return nil, nil, err // it names line and column, never a cell
	}
	if len(records) == 0 {
		return nil, nil, fmt.Errorf("no header line")
	}
	header = records[0]
	seen := map[string]bool{}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
		if header[i] == "" || seen[header[i]] {
			return nil, nil, fmt.Errorf("column %d has no name, or the same name as another column", i+1)
		}
		seen[header[i]] = true
	}

	for _, row := range records[1:] {
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
	}
	return header, records[1:], nil
}

// Column returns the position of a column.
func (t *Table) Column(name string) (int, error) {
	i := slices.Index(t.Columns, name)
	if i < 0 {
		return 0, fmt.Errorf(
			"the dataset has no column %q; it has %s", name, truncate(strings.Join(t.Columns, ", ")),
		)
	}
	return i, nil
}

// IDs returns the id column. Ids must be present and unique. An error names the row, but not its content.
func (t *Table) IDs(column string) ([]string, error) {
	c, err := t.Column(column)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(t.Rows))
	first := make(map[string]int, len(t.Rows))
	for i, row := range t.Rows {
		id := row[c]
		if id == "" {
			return nil, fmt.Errorf("row %d has no id in column %q", i+1, column)
		}
		if j, dup := first[id]; dup {
			return nil, fmt.Errorf(
				"rows %d and %d have the same id in column %q; ids must be unique", j+1, i+1, column,
			)
		}
		first[id] = i
		ids[i] = id
	}
	return ids, nil
}

// SelectRows returns a table of the rows at these positions, in their order. It shares the rows with the
// original.
func (t *Table) SelectRows(positions []int) *Table {
	out := &Table{Columns: t.Columns, Types: t.Types, Rows: make([][]string, len(positions))}
	for i, p := range positions {
		out.Rows[i] = t.Rows[p]
	}
	return out
}

// OnlyColumn returns a table of one column.
func (t *Table) OnlyColumn(column string) (*Table, error) {
	c, err := t.Column(column)
	if err != nil {
		return nil, err
	}
	out := &Table{Columns: []string{column}, Types: t.Types, Rows: make([][]string, len(t.Rows))}
	for i, row := range t.Rows {
		out.Rows[i] = row[c : c+1]
	}
	return out, nil
}

// WriteTable writes a dataset of one partition, then its metadata. A reader of the metadata finds a complete
// dataset.
func WriteTable(ctx context.Context, s Store, a Address, t *Table, description string) error {
	var buf bytes.Buffer
	w := csv.NewWriter(&buf)
	_ = w.Write(t.Columns) // a bytes.Buffer doesn't fail
	_ = w.WriteAll(t.Rows)
	meta := Metadata{Description: description, DataType: "dense", FileType: "csv", Count: len(t.Rows)}
	for _, c := range t.Columns {
		typ := t.Types[c]
		if typ == "" {
			typ = "string"
		}
		meta.ColumnInfo = append(meta.ColumnInfo, ColumnInfo{Name: c, Type: typ})
	}
	return writeObject(ctx, s, a, buf.Bytes(), meta)
}

// WriteJSON writes a model or a report as one JSON document. kind is "model" or "report".
func WriteJSON(ctx context.Context, s Store, a Address, kind, description string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("failed to encode %s: %w", kind, err)
	}
	return writeObject(ctx, s, a, append(data, '\n'), Metadata{
		ColumnInfo: []ColumnInfo{}, Description: description, DataType: kind, FileType: "json", Count: 1,
	})
}

// writeObject writes the data, then the metadata.
func writeObject(ctx context.Context, s Store, a Address, data []byte, meta Metadata) error {
	now := time.Now()
	meta.Partitions = 1
	meta.CreateTime = float64(now.Unix())
	meta.ExpireTime = float64(now.Add(retention).Unix())
	meta.Metadata = map[string]any{}
	doc, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		data []byte
	}{{"data_0", data}, {"metadata", doc}} {
		key, err := a.key(part.name)
		if err == nil {
			err = s.Write(ctx, key, part.data)
		}
		if err != nil {
			return fmt.Errorf("failed to write %s of %s#%s: %w", part.name, a.Namespace, a.Name, err)
		}
	}
	return nil
}

// ReadJSON reads a document that [WriteJSON] wrote.
func ReadJSON(ctx context.Context, s Store, a Address, v any) error {
	key, err := a.key("data_0")
	if err != nil {
		return err
	}
	data, err := s.Read(ctx, key)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("failed to read data_0 of %s#%s: %w", a.Namespace, a.Name, err)
	}
	return nil
}
