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

// Metadata is the document beside a dataset, in the form that FATE's tables have.
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

// ColumnInfo is a column's name and type.
type ColumnInfo struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Table is a dataset in memory: every cell as it was written. All rows are as long as Columns.
type Table struct {
	Columns []string
	Types   map[string]string // by column, where known
	Rows    [][]string
}

// maxPartitions bounds what a broken metadata document can make us read.
const maxPartitions = 1 << 20

// retention is how long outputs are said to be of use; nothing here removes them.
const retention = 365 * 24 * time.Hour

// ReadTable reads all partitions of a dataset. Every partition begins with the same header.
func ReadTable(ctx context.Context, s Store, a Address) (*Table, error) {
	t, err := readTable(ctx, s, a)
	if err != nil {
		return nil, fmt.Errorf("read dataset %s#%s: %w", a.Namespace, a.Name, err)
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
		return nil, fmt.Errorf("its metadata (was it uploaded, or did the task before it write it?): %w", err)
	}
	var meta struct {
		Partitions *float64     `json:"partitions"`
		ColumnInfo []ColumnInfo `json:"column_info"`
	}
	if err := json.Unmarshal(doc, &meta); err != nil {
		return nil, fmt.Errorf("its metadata: %w", err)
	}
	partitions := 1
	if meta.Partitions != nil && *meta.Partitions > 1 {
		if *meta.Partitions > maxPartitions {
			return nil, fmt.Errorf("its metadata says %v partitions, more than %d", *meta.Partitions, maxPartitions)
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
			return nil, fmt.Errorf("partition %d of %d begins with another header than partition 0", i, partitions)
		}
		t.Rows = append(t.Rows, rows...)
	}
	return t, nil
}

func parseCSV(data []byte) (header []string, rows [][]string, err error) {
	records, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff")))).ReadAll()
	if err != nil {
		return nil, nil, err // names line and column, never a cell
	}
	if len(records) == 0 {
		return nil, nil, fmt.Errorf("no header line")
	}
	header = records[0]
	seen := map[string]bool{}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
		if header[i] == "" || seen[header[i]] {
			return nil, nil, fmt.Errorf("column %d has no name or one that another column has", i+1)
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

// Column finds a column by its name.
func (t *Table) Column(name string) (int, error) {
	i := slices.Index(t.Columns, name)
	if i < 0 {
		return 0, fmt.Errorf("the dataset has no column %q; it has %s", name, clip(strings.Join(t.Columns, ", ")))
	}
	return i, nil
}

// IDs reads the id column. Ids must be there and be unique; the error says in which row, not what was in it.
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
			return nil, fmt.Errorf("rows %d and %d have the same id in column %q; ids must be unique", j+1, i+1, column)
		}
		first[id] = i
		ids[i] = id
	}
	return ids, nil
}

// Pick is the table of the rows at these positions, in their order. Rows are shared with the original.
func (t *Table) Pick(positions []int) *Table {
	out := &Table{Columns: t.Columns, Types: t.Types, Rows: make([][]string, len(positions))}
	for i, p := range positions {
		out.Rows[i] = t.Rows[p]
	}
	return out
}

// Only is the table with one column left.
func (t *Table) Only(column string) (*Table, error) {
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

// WriteTable writes a dataset of one partition, then its metadata, so that who sees the metadata sees a whole dataset.
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
	return write(ctx, s, a, buf.Bytes(), meta)
}

// WriteJSON writes a model or a report as one JSON document. kind is what it is: "model" or "report".
func WriteJSON(ctx context.Context, s Store, a Address, kind, description string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", kind, err)
	}
	return write(ctx, s, a, append(data, '\n'), Metadata{
		ColumnInfo: []ColumnInfo{}, Description: description, DataType: kind, FileType: "json", Count: 1,
	})
}

func write(ctx context.Context, s Store, a Address, data []byte, meta Metadata) error {
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
			return fmt.Errorf("write %s of %s#%s: %w", part.name, a.Namespace, a.Name, err)
		}
	}
	return nil
}

// ReadJSON reads what [WriteJSON] wrote.
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
		return fmt.Errorf("read data_0 of %s#%s: %w", a.Namespace, a.Name, err)
	}
	return nil
}
