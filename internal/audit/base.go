package audit

import (
	"fmt"
	"time"
)

// MinArchiveAge is the age that an entry must have before it can be archived. So a mistake is found, and
// evidence about recent jobs made, while the party still has the entries.
const MinArchiveAge = 30 * 24 * time.Hour

// Base is the head of the entries that were archived: the trail of the party starts with the entry after it.
// The zero value is the base of a trail with all its entries.
type Base struct {
	Head
	// Time is the latest time of an archived entry.
	Time time.Time `json:"time"`
}

// Object returns the object of the act that archives the entries up to a head.
func (h Head) Object() Object { return Object{Kind: Trail, ID: h.String()} }

// archives reports whether e records that the entries up to h were archived.
func (e *Entry) archives(h Head) bool {
	return e.Act == ArchiveTrail && e.Outcome == Allowed && e.Object == h.Object()
}

// CheckRecord returns why an entry does not record that the entries up to h were archived, as [*Broken], or
// nil. Nil is no entry.
func CheckRecord(h Head, e *Entry) error {
	if e != nil && e.Seq > h.Seq && e.archives(h) && e.Sum() == e.Hash {
		return nil
	}
	return &Broken{Seq: h.Seq, Reason: fmt.Sprintf("the trail starts after it, and no entry %s of the rest "+
		"names %s: entries were removed without it", ArchiveTrail, h)}
}

// BeforeStart is the error about a pinned head of an entry before those that were verified.
type BeforeStart struct {
	Pin   Head
	Start Head // after which the verification started
}

func (b *BeforeStart) Error() string {
	return fmt.Sprintf("entry %d of the kept head is not among these entries, which begin at entry %d: give "+
		"the head with the archive that holds entry %d, as in 'hutong audit verify --head %s ARCHIVE'",
		b.Pin.Seq, b.Start.Seq+1, b.Pin.Seq, b.Pin)
}
