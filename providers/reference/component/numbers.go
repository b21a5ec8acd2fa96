package component

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// sidColumn is the column that a scheduler adds during an upload with extend_sid. It numbers rows and is no
// feature.
const sidColumn = "sid"

// NumericColumn holds one column of a table as numbers.
type NumericColumn struct {
	Name   string
	Values []float64
}

// Features returns all columns as numbers, except the excluded ones and the column "sid". An error names the
// column and the row, but not the cell's content.
func (t *Table) Features(exclude ...string) ([]NumericColumn, error) {
	var features []NumericColumn
	for c, name := range t.Columns {
		if name == sidColumn || slices.Contains(exclude, name) {
			continue
		}
		values := make([]float64, len(t.Rows))
		for i, row := range t.Rows {
			v, err := strconv.ParseFloat(row[c], 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf(
					"column %q, row %d: not a number; fill missing values and encode text before", name, i+1,
				)
			}
			values[i] = v
		}

		features = append(features, NumericColumn{name, values})
	}
	return features, nil
}

// Labels returns a column whose values are 0 and 1. Both must occur.
func (t *Table) Labels(column string) ([]uint8, error) {
	labels, both, err := t.LabelValues(column)
	if err == nil && !both {
		return nil, fmt.Errorf("label column %q: all %d rows have the same label; both 0 and 1 must occur",
			column, len(labels))
	}
	return labels, err
}

// LabelValues returns a column whose values are 0 and 1, and whether both occur.
func (t *Table) LabelValues(column string) (labels []uint8, both bool, err error) {
	c, err := t.Column(column)
	if err != nil {
		return nil, false, err
	}
	labels = make([]uint8, len(t.Rows))
	ones := 0
	for i, row := range t.Rows {
		v, err := strconv.ParseFloat(row[c], 64)
		if err != nil || v != 0 && v != 1 {
			return nil, false, fmt.Errorf("label column %q, row %d: neither 0 nor 1", column, i+1)
		}
		labels[i] = uint8(v)
		ones += int(v)
	}
	return labels, ones > 0 && ones < len(labels), nil
}

// DigestIDs returns a hash of the ids in their order. Two parties compare it to verify that their rows match.
func DigestIDs(ids []string) []byte {
	h := sha256.New()
	for _, id := range ids {
		_, _ = fmt.Fprintf(h, "%d:%s", len(id), id) // a hash doesn't fail
	}
	return h.Sum(nil)
}
