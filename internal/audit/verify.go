package audit

import (
	"fmt"
	"maps"
	"slices"
)

// Broken says where a chain is broken.
type Broken struct {
	Seq    int64 // of the first entry that does not fit
	Reason string
}

func (b *Broken) Error() string {
	return fmt.Sprintf("the audit trail is broken at entry %d: %s", b.Seq, b.Reason)
}

// Verifier checks the entries of a chain one after another. The zero value starts at the first entry of a
// party.
type Verifier struct {
	start, head Head
	pins        map[int64][]string // hashes by number; two for one number can't both be right
	last        int64              // the greatest pinned number
	// record says that an entry must record that the entries up to start were archived.
	record bool
}

// StartAt makes the verification start after a head that is trusted, in place of the first entry.
func (v *Verifier) StartAt(h Head) { v.start, v.head = h, h }

// StartAtBase makes the verification start after a base, and requires that the chain has the entry which
// records that the entries up to it were archived. So a base that somebody has moved is found.
func (v *Verifier) StartAtBase(b Base) {
	v.StartAt(b.Head)
	v.record = b.Seq > 0
}

// Start returns the head after which the verification started.
func (v *Verifier) Start() Head { return v.start }

// Pin requires that the chain contains the entry of a head that was kept elsewhere.
func (v *Verifier) Pin(heads ...Head) {
	if v.pins == nil {
		v.pins = map[int64][]string{}
	}
	for _, h := range heads {
		if h.Seq == 0 {
			continue // an empty trail is the start of every other one
		}
		v.pins[h.Seq] = append(v.pins[h.Seq], h.hash())
		v.last = max(v.last, h.Seq)
	}
}

// Add checks the next entry. The error is a [*Broken] for one that was altered, or if another one is missing,
// inserted or moved before it.
func (v *Verifier) Add(e Entry) error {
	broken := func(format string, args ...any) error {
		return &Broken{Seq: v.head.Seq + 1, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case e.Seq != v.head.Seq+1:
		return broken("entry %d follows on entry %d: entries were removed, inserted or moved", e.Seq,
			v.head.Seq)
	case e.Sum() != e.Hash:
		return broken("its content does not fit its hash: it was altered")
	case e.Prev != v.head.hash():
		return broken("it was written after another entry than entry %d: that one was replaced", v.head.Seq)
	}
	for _, want := range v.pins[e.Seq] {
		if want != e.Hash {
			return broken("its hash %s differs from the pinned head %s: the trail was rewritten", e.Hash, want)
		}
	}
	if v.record && e.archives(v.start) {
		v.record = false
	}
	v.head = Head{Seq: e.Seq, Hash: e.Hash}
	return nil
}

// Head returns the head after the entries so far.
func (v *Verifier) Head() Head { return v.head }

// End checks that the chain reaches the heads that are pinned. The error is a [*BeforeStart] for a head of an
// entry before the start.
func (v *Verifier) End() error {
	for _, seq := range slices.Sorted(maps.Keys(v.pins)) {
		for _, hash := range v.pins[seq] {
			switch {
			case seq == v.start.Seq && hash != v.start.Hash:
				return &Broken{Seq: seq, Reason: fmt.Sprintf("the entries after it follow on the hash %s, "+
					"not on %s of the pinned head: the trail was rewritten", v.start.Hash, hash)}
			case seq < v.start.Seq:
				return &BeforeStart{Pin: Head{Seq: seq, Hash: hash}, Start: v.start}
			}
		}
	}
	if v.record {
		return CheckRecord(v.start, nil)
	}
	if v.last > v.head.Seq {
		return &Broken{Seq: v.head.Seq + 1, Reason: fmt.Sprintf(
			"the trail ends at entry %d, but a pinned head names entry %d: its end was cut off",
			v.head.Seq, v.last)}
	}
	return nil
}
