package boost

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"hutong-reference/component"
)

// feature is one column divided into bins. Bin b holds the values above cuts[b-1] up to and including
// cuts[b].
type feature struct {
	name string
	cuts []float64 // ascending; one fewer than bins
	bin  []uint16  // of each row
}

func (f *feature) bins() int { return len(f.cuts) + 1 }

// newFeature divides a column at its quantiles. If there are no more distinct values than bins, each value
// has its own bin.
func newFeature(name string, values []float64, bins int) *feature {
	sorted := slices.Sorted(slices.Values(values))
	distinct := slices.Compact(slices.Clone(sorted))
	f := &feature{name: name, bin: make([]uint16, len(values))}
	if len(distinct) <= bins {
		f.cuts = distinct[:max(0, len(distinct)-1)]
	} else {
		for k := 1; k < bins; k++ {
			cut := sorted[(k*len(sorted)-1)/bins]
			// A cut at the greatest value would separate nothing. Separate this value from all others
			// instead.
			cut = min(cut, distinct[len(distinct)-2])
			if len(f.cuts) == 0 || cut > f.cuts[len(f.cuts)-1] {
				f.cuts = append(f.cuts, cut)
			}
		}
	}

	for i, v := range values {
		b, _ := slices.BinarySearch(f.cuts, v) // the first cut >= v
		f.bin[i] = uint16(b)
	}
	return f
}

// readFeatures divides all columns into bins, except the excluded ones.
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

// sampleFeatures selects the features that a tree may use, by position. The selection is deterministic in
// seed, tree and owner, and never empty.
func sampleFeatures(count int, rate float64, seed uint64, tree int, owner string) []bool {
	sampled := make([]bool, count)
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d/%s", tree, owner) // a hash doesn't fail
	order := rand.New(rand.NewPCG(seed, h.Sum64())).Perm(count)
	for _, f := range order[:min(count, int(math.Ceil(rate*float64(count))))] {
		sampled[f] = true
	}
	return sampled
}
