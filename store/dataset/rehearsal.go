package dataset

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"

	"hutong/bfia"
	"hutong/store"
)

const (
	// rehearsalRows is the number of the rows from which each party's synthetic rows are taken. It says
	// nothing about the number of the real rows.
	rehearsalRows = 500
	// rehearsedField is the field in a synthetic dataset's meta that names the generation whose columns it
	// has.
	rehearsedField = "rehearses"
)

// Rehearse makes the synthetic dataset of a dataset the current generation under that address, if it is not.
// It has the columns, types, id and label of the dataset, and no value of it. Synthetic datasets at different
// parties have about four fifths of their ids in common. It returns CodeNotFound if there is no such dataset.
func (d *Datasets) Rehearse(ctx context.Context, real bfia.Address) error {
	table, err := d.rows.DataTable(ctx, real.Namespace, real.Name)
	if err != nil {
		return err
	}
	rehearsal := real.Rehearsal()
	if made, err := d.rows.DataTable(ctx, rehearsal.Namespace, rehearsal.Name); err == nil {
		if m, err := parseMeta(made.Meta); err == nil && text(m.rest[rehearsedField]) == table.Generation {
			return nil
		}
	} else if bfia.CodeOf(err) != bfia.CodeNotFound {
		return err
	}
	m, err := d.Metadata(ctx, real.Namespace, real.Name)
	if err != nil {
		return err
	}

	request, rows, err := synthesize(table, m, rehearsal)
	if err != nil {
		return fmt.Errorf("failed to make the synthetic dataset of dataset %s: %w", real, err)
	}
	request.Project = table.Project
	_, err = d.Ingest(ctx, request, bytes.NewReader(rows))
	return err
}

// synthesize returns an upload of synthetic rows for a dataset.
func synthesize(table store.DataTable, m Metadata, rehearsal bfia.Address) (IngestRequest, []byte, error) {
	id, label := text(m.Metadata["match_id_name"]), text(m.Metadata["label_name"])
	extended := text(m.Metadata["sample_id_name"]) != ""

	meta := maps.Clone(m.Metadata)
	for _, field := range []string{"generation", "sample_id_name"} { // the upload makes them
		delete(meta, field)
	}
	meta[rehearsedField], _ = json.Marshal(table.Generation) // a string always marshals
	raw, err := json.Marshal(meta)
	if err != nil {
		return IngestRequest{}, nil, err
	}

	columns := m.ColumnInfo
	if extended {
		columns = columns[1:] // the upload adds it
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	record := make([]string, len(columns))
	for i, c := range columns {
		record[i] = c.Name
	}
	_ = w.Write(record) // a buffer takes everything
	for row := range rehearsalRows {
		if draw(rehearsal.Namespace, rehearsal.Name, row)%10 == 0 {
			continue // other parties have this row
		}
		for i, c := range columns {
			record[i] = syntheticValue(c, row, c.Name == id, c.Name == label)
		}
		_ = w.Write(record)
	}
	w.Flush()
	return IngestRequest{Namespace: rehearsal.Namespace, Name: rehearsal.Name, Head: true,
		Partitions: table.Partitions,
		ExtendSID:  extended, Meta: raw}, out.Bytes(), w.Error()
}

// syntheticValue returns the value of a row in a column. All parties have the same ids for the same rows, and
// the label depends on the row alone, so that features of every party say something about it.
func syntheticValue(c store.Column, row int, id, label bool) string {
	const classes = 2
	class := draw("label", "", row) % classes
	noise := draw("value", c.Name, row)
	switch {
	case id && c.Type == typeString.String():
		return fmt.Sprintf("row-%06d", row)
	case id && c.Type == typeInt.String():
		return strconv.Itoa(100_000 + row)
	case id:
		return strconv.Itoa(100_000+row) + ".5"
	case label && c.Type == typeInt.String():
		return strconv.Itoa(int(class))
	case label && c.Type == typeFloat.String():
		return strconv.Itoa(int(class)) + ".0"
	case label:
		return string(rune('a' + class))
	case c.Type == typeInt.String(): // also a label that the upload does not name, so it has two values
		if noise%4 == 0 {
			class = 1 - class
		}
		return strconv.Itoa(int(class))
	case c.Type == typeFloat.String():
		return strconv.FormatFloat(float64(class)+float64(noise%10_000)/5_000, 'f', 4, 64)
	}
	return string(rune('a' + noise%5))
}

// draw returns a number that looks random and is always the same for a name and a row.
func draw(kind, name string, row int) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s\x00%d", kind, name, row) // a hash takes everything
	n := h.Sum64()
	n ^= n >> 33 // the lowest bits of FNV follow its input closely
	n *= 0xff51afd7ed558ccd
	return n ^ n>>33
}

// text returns a JSON string, or an empty one if raw is something else.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
