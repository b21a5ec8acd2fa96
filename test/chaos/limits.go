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

// slots are how many containers a party's host runs at once.
const slots = 4

// limits are what a party's configuration bounds; 0 is no bound.
type limits struct {
	atOnce, perPartner, tasksAtOnce int
}

// bounds are those of the parties: each has another one, that the jobs of a run reach.
var limitsOf = map[string]limits{"guest": {atOnce: 3}, "host": {perPartner: 2}, "third": {tasksAtOnce: 3}}

// settings is a party's part of the configuration file.
func (l limits) settings() map[string]any {
	return map[string]any{"max_jobs": l.atOnce, "max_jobs_per_partner": l.perPartner, "max_containers": l.tasksAtOnce}
}

// holding is a job that holds seats at a party.
type reservation struct {
	jobID, initiator string
	slots            int
}

// passed says which bound the jobs pass that hold seats at a party at one moment; empty when none.
func (l limits) violation(node string, held []reservation) string {
	seats, partners := 0, map[string]int{}
	for _, h := range held {
		seats += h.slots
		partners[h.initiator]++
	}
	if seats > slots {
		return fmt.Sprintf("%d seats are held, of %d slots: %v", seats, slots, held)
	}
	if l.tasksAtOnce > 0 && seats > l.tasksAtOnce {
		return fmt.Sprintf("%d seats are held, and %d tasks may run at once: %v", seats, l.tasksAtOnce, held)
	}
	if l.atOnce > 0 && len(held) > l.atOnce {
		return fmt.Sprintf("%d jobs hold seats, and %d may: %v", len(held), l.atOnce, held)
	}
	for partner, n := range partners {
		if l.perPartner > 0 && partner != node && n > l.perPartner {
			return fmt.Sprintf("%d jobs of %s hold seats, and %d may: %v", n, partner, l.perPartner, held)
		}
	}
	return ""
}

// readReservations reads who holds seats at a party, all at one moment.
func readReservations(ctx context.Context, db *sql.DB) ([]reservation, error) {
	found, err := db.QueryContext(ctx, `SELECT s.job_id, j.initiator_node, COUNT(*) FROM t_reservation s JOIN t_job j ON j.job_id = s.job_id
		GROUP BY s.job_id, j.initiator_node ORDER BY s.job_id`)
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

// remainingReservations tells of seats and places in the queue that jobs still have at a party.
func remainingReservations(ctx context.Context, db *sql.DB, party string) (left []string, err error) {
	for _, kind := range []struct{ what, query string }{
		{"a seat", "SELECT job_id FROM t_reservation"}, {"a place among those that wait", "SELECT job_id FROM t_reservation_request"},
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

// limitMonitor looks again and again whether a party keeps to its bounds.
type limitMonitor struct {
	mu         sync.Mutex
	samples    map[string]int // by party: how often it could be looked at
	maxJobs    map[string]int // by party: jobs that held seats at once
	violations []string
}

// monitorLimits watches all parties until ctx ends.
func (w *deployment) monitorLimits(ctx context.Context) (*limitMonitor, error) {
	r := &limitMonitor{samples: map[string]int{}, maxJobs: map[string]int{}}
	for name, p := range w.parties {
		db, err := p.openDatabase()
		if err != nil {
			return nil, err
		}
		go func() {
			defer func() { _ = db.Close() }()
			for waitUntil(ctx, time.Now().Add(500*time.Millisecond)) {
				look, cancel := context.WithTimeout(ctx, 5*time.Second)
				held, err := readReservations(look, db)
				cancel()
				if err == nil { // its database may be away just now
					r.record(name, limitsOf[name].violation(p.node, held), len(held))
				}
			}
		}()
	}
	return r, nil
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

// findings are what was seen that must not be; also that it was looked too seldom for that to mean something.
func (r *limitMonitor) findings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := slices.Clone(r.violations)
	for _, name := range parties {
		if r.samples[name] < 10 {
			found = append(found, fmt.Sprintf("the room of %s could be looked at %d times only", name, r.samples[name]))
		}
	}
	return found
}

func (r *limitMonitor) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := "jobs that held room at once, at most:"
	for _, name := range parties {
		text += fmt.Sprintf("  %s %d (seen %d times)", name, r.maxJobs[name], r.samples[name])
	}
	return text
}

// drain drains a party's hosts for a while, and answers whether that was taken. It is undone whatever is broken meanwhile.
func (w *deployment) drainRunners(ctx context.Context, p *party, length time.Duration) bool {
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
	data, err := call(ctx, http.MethodGet, p.url()+bfia.PathRunnerQuery, nil)
	if err != nil {
		return err
	}
	var hosts []bfia.Runner
	if err := json.Unmarshal(data, &hosts); err != nil {
		return err
	}
	for _, h := range hosts {
		body, err := json.Marshal(bfia.DrainRunner{RunnerID: h.RunnerID, Draining: &draining})
		if err != nil {
			return err
		}
		if _, err := call(ctx, http.MethodPost, p.url()+bfia.PathRunnerDrain, body); err != nil {
			return err
		}
	}
	return nil
}
