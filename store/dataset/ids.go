package dataset

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	idSize    = 24      // bytes of an id on disk
	idsAtOnce = 1 << 18 // ids in memory: 6 MiB
	idBuckets = 256
)

// ids finds an id that occurs twice, among more ids than fit into memory. It stores a 128-bit hash of each id
// with its line. Once there are too many, it partitions them by hash into files, and in the end sorts each
// file on its own.
//
// The hash has random seeds, so nobody can construct two ids with the same hash. The probability that any two
// of a billion ids share a hash by chance is below 10⁻²⁰.
type ids struct {
	dir     string
	limit   int // of recent, and of the ids that are sorted together
	seeds   [2]maphash.Seed
	recent  []idEntry
	buckets [idBuckets][]byte // buffers of spill, reused
	spilled bool
}

type idEntry struct {
	hi, lo uint64
	line   int64
}

func newIDs(dir string) *ids {
	return &ids{dir: dir, limit: idsAtOnce, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func compareIDs(a, b idEntry) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo), cmp.Compare(a.line, b.line))
}

// add adds the id of a line.
func (s *ids) add(id string, line int64) error {
	s.recent = append(s.recent,
		idEntry{hi: maphash.String(s.seeds[0], id), lo: maphash.String(s.seeds[1], id), line: line})
	if len(s.recent) < s.limit {
		return nil
	}
	return s.spill()
}

func (s *ids) bucket(i int) string { return filepath.Join(s.dir, fmt.Sprintf("ids_%d", i)) }

// spill moves the recent ids to disk.
func (s *ids) spill() error {
	for _, e := range s.recent {
		b := &s.buckets[e.hi%idBuckets]
		*b = binary.LittleEndian.AppendUint64(*b, e.hi)
		*b = binary.LittleEndian.AppendUint64(*b, e.lo)
		*b = binary.LittleEndian.AppendUint64(*b, uint64(e.line))
	}
	for i, b := range s.buckets {
		if len(b) == 0 {
			continue
		}
		file, err := os.OpenFile(s.bucket(i), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		_, err = file.Write(b)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		s.buckets[i] = b[:0]
	}
	s.recent, s.spilled = s.recent[:0], true
	return nil
}

// duplicate returns the first line whose id occurs in an earlier line, and that earlier line; 0 when there is
// none.
func (s *ids) duplicate(ctx context.Context) (first, second int64, err error) {
	findIn := func(entries []idEntry) {
		slices.SortFunc(entries, compareIDs)
		for i := 1; i < len(entries); i++ {
			a, b := entries[i-1], entries[i]
			if a.hi != b.hi || a.lo != b.lo {
				continue
			}
			// Of three equal ids, the first two are neighbours, and the second one has the lower line.
			if second == 0 || b.line < second {
				first, second = a.line, b.line
			}
		}
	}
	if !s.spilled {
		findIn(s.recent)
		return first, second, nil
	}
	if err := s.spill(); err != nil {
		return 0, 0, err
	}
	for i := range idBuckets {
		info, err := os.Stat(s.bucket(i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		// A file with more ids than the limit is read several times, each time for another share of its ids.
		shares := uint64(info.Size()/idSize)/uint64(s.limit) + 1
		for share := range shares {
			if err := ctx.Err(); err != nil {
				return 0, 0, err
			}
			if s.recent, err = readIDs(s.bucket(i), s.recent[:0], share, shares); err != nil {
				return 0, 0, err
			}
			findIn(s.recent)
		}
	}
	return first, second, nil
}
