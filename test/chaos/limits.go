package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"hutong/bfia"
)

// slots is the number of containers that a party's runner runs at once.
const slots = 4

// limits are the limits in a party's configuration; 0 means no limit.
type limits struct {
	atOnce, perPartner, tasksAtOnce int
}

// limitsOf has a different limit for each party, low enough that the jobs of a run reach it.
var limitsOf = map[string]limits{"guest": {atOnce: 3}, "host": {perPartner: 2}, "third": {tasksAtOnce: 3}}

// settings returns the section jobs of a party's configuration.
func (l limits) settings() map[string]any {
	return map[string]any{"max_jobs": l.atOnce, "max_jobs_per_partner": l.perPartner,
		"max_containers": l.tasksAtOnce}
}

// reservation counts the slots that a job holds at a party.
type reservation struct {
	jobID, initiator string
	slots            int
}

// violation describes the limit that the reservations of a party exceed at one moment, or returns "".
func (l limits) violation(node string, held []reservation) string {
	slotsHeld, partners := 0, map[string]int{}
	for _, h := range held {
		slotsHeld += h.slots
		partners[h.initiator]++
	}
	if slotsHeld > slots {
		return fmt.Sprintf("jobs hold %d of %d slots: %v", slotsHeld, slots, held)
	}
	if l.tasksAtOnce > 0 && slotsHeld > l.tasksAtOnce {
		return fmt.Sprintf("jobs hold %d slots, and the limit of tasks at once is %d: %v", slotsHeld,
			l.tasksAtOnce, held)
	}
	if l.atOnce > 0 && len(held) > l.atOnce {
		return fmt.Sprintf("%d jobs hold slots, and the limit is %d: %v", len(held), l.atOnce, held)
	}
	for partner, n := range partners {
		if l.perPartner > 0 && partner != node && n > l.perPartner {
			return fmt.Sprintf("%d jobs of %s hold slots, and the limit is %d: %v", n, partner,
				l.perPartner, held)
		}
	}
	return ""
}

// readReservations reads all reservations of a party in one query.
func readReservations(ctx context.Context, db *sql.DB) ([]reservation, error) {
	found, err := db.QueryContext(
		ctx,
		`SELECT s.job_id, j.initiator_node, COUNT(*) FROM t_reservation s JOIN t_job j ON j.job_id = s.job_id
		GROUP BY s.job_id, j.initiator_node ORDER BY s.job_id`,
	)
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	var all []reservation
	for found.Next() {
		var h reservation
		if err := found.Scan(&h.jobID, &h.initiator, &h.slots); err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, found.Err()
}

// remainingReservations lists the reservations and reservation requests that a party still has.
func remainingReservations(ctx context.Context, db *sql.DB, party string) (left []string, err error) {
	for _, kind := range []struct{ what, query string }{
		{"a reservation", "SELECT job_id FROM t_reservation"},
		{"a reservation request", "SELECT job_id FROM t_reservation_request"},
	} {
		found, err := db.QueryContext(ctx, kind.query)
		if err != nil {
			return nil, err
		}
		for found.Next() {
			var id string
			if err = found.Scan(&id); err != nil {
				break
			}
			left = append(left, fmt.Sprintf("%s of job %s at %s", kind.what, id, party))
		}
		_ = found.Close()
		if err == nil {
			err = found.Err()
		}
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}

// limitMonitor samples the reservations of all parties, and records the limits that they exceed.
type limitMonitor struct {
	mu         sync.Mutex
	samples    map[string]int // by party: how often its reservations were read
	maxJobs    map[string]int // by party: the most jobs that held slots at once
	violations []string
}

// monitorLimits samples all parties until ctx ends.
func (d *deployment) monitorLimits(ctx context.Context) *limitMonitor {
	r := &limitMonitor{samples: map[string]int{}, maxJobs: map[string]int{}}
	for name, p := range d.parties {
		go func() {
			for waitUntil(ctx, time.Now().Add(500*time.Millisecond)) {
				held, err := p.sampleReservations(ctx)
				if err == nil { // a fault may prevent it
					r.record(name, limitsOf[name].violation(p.node, held), len(held))
				}
			}
		}()
	}
	return r
}

// sampleReservations reads all reservations of a party. It opens the database each time, because a restore
// may have replaced it.
func (p *party) sampleReservations(ctx context.Context) ([]reservation, error) {
	p.services.RLock()
	defer p.services.RUnlock()
	db, err := p.openDatabase()
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return readReservations(ctx, db)
}

func (r *limitMonitor) record(party, passed string, jobs int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples[party]++
	r.maxJobs[party] = max(r.maxJobs[party], jobs)
	if passed != "" {
		r.violations = append(r.violations, "at "+party+" "+passed)
	}
}

// findings returns the recorded violations, and the parties with too few samples for a conclusion.
func (r *limitMonitor) findings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := slices.Clone(r.violations)
	for _, name := range parties {
		if r.samples[name] < 10 {
			found = append(found,
				fmt.Sprintf("the reservations of %s were read only %d times", name, r.samples[name]))
		}
	}
	return found
}

func (r *limitMonitor) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := "most jobs that held reservations at once:"
	for _, name := range parties {
		text += fmt.Sprintf("  %s %d (%d samples)", name, r.maxJobs[name], r.samples[name])
	}
	return text
}

// drainRunners drains a party's runners for a while, and reports whether the party accepted it. It retries
// the undraining while other faults prevent it.
func (d *deployment) drainRunners(ctx context.Context, p *party, length time.Duration) bool {
	if p.setDraining(ctx, true) != nil {
		return false
	}
	waitUntil(ctx, time.Now().Add(length))
	for p.setDraining(ctx, false) != nil {
		if !waitUntil(ctx, time.Now().Add(500*time.Millisecond)) {
			break
		}
	}
	return true
}

func (p *party) setDraining(ctx context.Context, draining bool) error {
	var runners []bfia.Runner
	if err := call(ctx, p, http.MethodGet, bfia.PathRunnerQuery, nil, &runners); err != nil {
		return err
	}
	for _, h := range runners {
		body, err := json.Marshal(bfia.DrainRunner{RunnerID: h.RunnerID, Draining: &draining})
		if err != nil {
			return err
		}
		if err := call(ctx, p, http.MethodPost, bfia.PathRunnerDrain, body, nil); err != nil {
			return err
		}
	}
	return nil
}
