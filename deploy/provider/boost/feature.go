package boost

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"hutong/deploy/provider/component"
)

// feature is one column cut into bins: bin b holds the values above cuts[b-1] and up to cuts[b].
type feature struct {
	name string
	cuts []float64 // ascending; one fewer than there are bins
	bin  []uint16  // of each row
}

func (f *feature) bins() int { return len(f.cuts) + 1 }

// newFeature cuts a column at its quantiles, or at every value when there are no more of them than bins.
func newFeature(name string, values []float64, bins int) *feature {
	sorted := slices.Sorted(slices.Values(values))
	distinct := slices.Compact(slices.Clone(sorted))
	f := &feature{name: name, bin: make([]uint16, len(values))}
	if len(distinct) <= bins {
		f.cuts = distinct[:max(0, len(distinct)-1)]
	} else {
		for k := 1; k < bins; k++ {
			cut := sorted[(k*len(sorted)-1)/bins]
			if cut < distinct[len(distinct)-1] && (len(f.cuts) == 0 || cut > f.cuts[len(f.cuts)-1]) {
				f.cuts = append(f.cuts, cut)
			}
		}
	}
	for i, v := range values {
		b, _ := slices.BinarySearch(f.cuts, v) // the first cut that is not below v
		f.bin[i] = uint16(b)
	}
	return f
}

// rowID is the column that a scheduler adds at an upload with extend_sid: it numbers rows, and is no feature.
const rowID = "sid"

// readFeatures takes all columns but the excluded ones, and the row's own id, as numbers.
func readFeatures(t *component.Table, bins int, exclude ...string) ([]*feature, error) {
	var features []*feature
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
		features = append(features, newFeature(name, values, bins))
	}
	return features, nil
}

// readLabels takes the label column as 0 and 1, both of which must occur.
func readLabels(t *component.Table, column string) ([]uint8, error) {
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

// draw picks the features that a tree may use, by their positions: the same for the same seed, tree and owner, and never none.
func draw(count int, rate float64, seed uint64, tree int, owner string) []bool {
	drawn := make([]bool, count)
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d/%s", tree, owner) // a hash doesn't fail
	order := rand.New(rand.NewPCG(seed, h.Sum64())).Perm(count)
	for _, f := range order[:min(count, int(math.Ceil(rate*float64(count))))] {
		drawn[f] = true
	}
	return drawn
}
