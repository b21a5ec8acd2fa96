package component

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// rowID is the column that a scheduler adds at an upload with extend_sid: it numbers rows, and is no feature.
const rowID = "sid"

// Numbers is one column of a table as numbers.
type Numbers struct {
	Name   string
	Values []float64
}

// Features takes all columns but the excluded ones, and the row's own id, as numbers. The error names column and row, not the cell.
func (t *Table) Features(exclude ...string) ([]Numbers, error) {
	var features []Numbers
	for c, name := range t.Columns {
		if name == rowID || slices.Contains(exclude, name) {
			continue
		}
		values := make([]float64, len(t.Rows))
		for i, row := range t.Rows {
			v, err := strconv.ParseFloat(row[c], 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("column %q, row %d: not a number; missing values and words must be filled or encoded before", name, i+1)
			}
			values[i] = v
		}
		features = append(features, Numbers{name, values})
	}
	return features, nil
}

// Labels takes a column as 0 and 1, both of which must occur.
func (t *Table) Labels(column string) ([]uint8, error) {
	c, err := t.Column(column)
	if err != nil {
		return nil, err
	}
	labels := make([]uint8, len(t.Rows))
	ones := 0
	for i, row := range t.Rows {
		v, err := strconv.ParseFloat(row[c], 64)
		if err != nil || v != 0 && v != 1 {
			return nil, fmt.Errorf("label column %q, row %d: neither 0 nor 1", column, i+1)
		}
		labels[i] = uint8(v)
		ones += int(v)
	}
	if ones == 0 || ones == len(labels) {
		return nil, fmt.Errorf("label column %q: %d rows of which %d are 1; both 0 and 1 must occur", column, len(labels), ones)
	}
	return labels, nil
}

// DigestIDs fingerprints ids in their order, so that two sides can see that their rows lie alike.
func DigestIDs(ids []string) []byte {
	h := sha256.New()
	for _, id := range ids {
		_, _ = fmt.Fprintf(h, "%d:%s", len(id), id) // a hash doesn't fail
	}
	return h.Sum(nil)
}
