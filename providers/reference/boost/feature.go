package boost

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"hutong-reference/component"
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
			// A cut at the greatest value would part nothing: where that value is so frequent, it parts from all others.
			cut = min(cut, distinct[len(distinct)-2])
			if len(f.cuts) == 0 || cut > f.cuts[len(f.cuts)-1] {
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

// readFeatures cuts all columns but the excluded ones into bins.
func readFeatures(t *component.Table, bins int, exclude ...string) ([]*feature, error) {
	columns, err := t.Features(exclude...)
	if err != nil {
		return nil, err
	}
	var features []*feature
	for _, c := range columns {
		features = append(features, newFeature(c.Name, c.Values, bins))
	}
	return features, nil
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
