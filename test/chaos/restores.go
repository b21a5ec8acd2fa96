package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// The kinds of restores: which of a party's services is put back to an earlier state, or lost.
const (
	faultRestoreDatabase FaultKind = "older database"
	faultRestoreTemporal FaultKind = "older Temporal"
	faultLoseTemporal    FaultKind = "lost Temporal"
	faultRestoreStorage  FaultKind = "older storage"
	faultLoseStorage     FaultKind = "lost storage"
	faultRestoreAll      FaultKind = "older whole set"
)

var restoreKinds = []FaultKind{faultRestoreDatabase, faultRestoreAll, faultRestoreTemporal, faultLoseStorage,
	faultLoseTemporal, faultRestoreStorage}

// isRestore reports whether a fault of this kind is a restore.
func (k FaultKind) isRestore() bool { return slices.Contains(restoreKinds, k) }

// concernsDatabase, concernsTemporal and concernsStorage report whether a restore replaces the service.
func (k FaultKind) concernsDatabase() bool { return k == faultRestoreDatabase || k == faultRestoreAll }

func (k FaultKind) concernsTemporal() bool {
	return k == faultRestoreTemporal || k == faultLoseTemporal || k == faultRestoreAll
}

func (k FaultKind) concernsStorage() bool {
	return k == faultRestoreStorage || k == faultLoseStorage || k == faultRestoreAll
}

const backupSuffix = " backup"

// firstRestore is when the first restore begins, restoreRest how long jobs continue after the last one.
const (
	firstRestore = 40 * time.Second
	restoreRest  = 30 * time.Second
)

// AddRestores adds restores of a party's services. A restore's time is that of the backup, and its length is
// the age of the backup at the restore. Each party has a Temporal server of its own then, so faults of
// Temporal's server get a party.
func (p *Plan) AddRestores() {
	r := rand.New(rand.NewPCG(p.Seed, 7))
	for i, f := range p.Faults {
		if f.Target == temporalName {
			p.Faults[i].Target = parties[r.IntN(len(parties))] + " " + temporalName
		}
	}
	var kinds []FaultKind
	var order []int
	for at := firstRestore; at <= p.Length-restoreRest; {
		if len(kinds) == 0 {
			// Twice those that make the party forget.
			kinds = append(slices.Clone(restoreKinds), faultRestoreDatabase, faultRestoreAll)
			r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		}
		if len(order) == 0 {
			order = r.Perm(len(parties))
		}
		age := min(time.Duration(12+r.IntN(40))*time.Second, at-quietPeriod)
		f := Fault{At: at - age, For: age, Kind: kinds[0],
			Target: parties[order[0]] + backupSuffix, Crash: r.IntN(2) == 0}
		if r.IntN(3) == 0 {
			f.Interrupt = time.Duration(50+r.IntN(500)) * time.Millisecond
		}
		kinds, order = kinds[1:], order[1:]
		p.Faults = append(p.Faults, f)
		at += time.Duration(25+r.IntN(20)) * time.Second
	}
	p.sortFaults()
}

// restores returns the number of restores in the plan.
func (p *Plan) restores() (n int) {
	for _, f := range p.Faults {
		if f.Kind.isRestore() {
			n++
		}
	}
	return n
}
