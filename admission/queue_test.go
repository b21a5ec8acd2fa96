package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// queueRows holds the jobs of a scheduler, as its database does.
type queueRows struct {
	node    string
	limits  Limits
	waiting []QueuedJob
	running []Job
}

// queue returns what a decision needs, with the first of each line's jobs, and with all jobs of the lines in
// whole.
func (r queueRows) queue(whole []string) Queue {
	q := Queue{Scheduler: Scheduler{Node: r.node, Limits: r.limits}, Running: r.running}
	lines := map[string][]QueuedJob{}
	for _, j := range r.waiting {
		if j.IsCandidate() {
			q.Candidates = append(q.Candidates, j)
		} else {
			lines[j.Line(r.limits)] = append(lines[j.Line(r.limits)], j)
		}
	}
	for key, jobs := range lines {
		slices.SortFunc(jobs, func(a, b QueuedJob) int { return a.compareRank(b.Job) })
		line := Line{Key: key, Jobs: jobs}
		if !slices.Contains(whole, key) {
			line.Jobs, line.More = jobs[:1], len(jobs) > 1
		} else {
			line.Jobs = jobs[:min(len(jobs), LineLength)]
		}
		q.Lines = append(q.Lines, line)
	}
	return q
}

// decide reads further jobs of the lines that a decision exhausts, as the store does.
func (r queueRows) decide(t require.TestingT, now time.Time) Decision {
	var whole []string
	for {
		d := r.queue(whole).Decide(now)
		if len(d.Exhausted) == 0 {
			return d
		}
		for _, key := range d.Exhausted {
			require.NotContains(t, whole, key, "a line of which all is known can't be exhausted")
		}
		whole = append(whole, d.Exhausted...)
	}
}

// decideOnAll decides with all jobs of all lines.
func (r queueRows) decideOnAll(now time.Time) Decision {
	q := r.queue(nil)
	for i := range q.Lines {
		q.Lines[i] = Line{Key: q.Lines[i].Key}
	}
	for _, j := range r.waiting {
		if !j.IsCandidate() {
			i := slices.IndexFunc(q.Lines, func(l Line) bool { return l.Key == j.Line(r.limits) })
			q.Lines[i].Jobs = append(q.Lines[i].Jobs, j)
		}
	}
	for _, line := range q.Lines {
		slices.SortFunc(line.Jobs, func(a, b QueuedJob) int { return a.compareRank(b.Job) })
	}
	return q.Decide(now)
}

// mayReserve returns the first waiting job that may reserve, or -1.
func (r queueRows) mayReserve(d Decision) int {
	return slices.IndexFunc(r.waiting, func(w QueuedJob) bool { return d.Status(w).MayReserve })
}

func (r *queueRows) start(i int) {
	r.running = append(r.running, r.waiting[i].Job)
	r.waiting = slices.Delete(r.waiting, i, i+1)
}

func drawLimits(t *rapid.T) Limits {
	return Limits{
		Jobs:       rapid.IntRange(0, 4).Draw(t, "jobs"),
		PerFlow:    rapid.IntRange(0, 2).Draw(t, "per flow"),
		PerPartner: rapid.IntRange(0, 2).Draw(t, "per partner"),
	}
}

func drawQueuedJob(t *rapid.T, n int, now time.Time) QueuedJob {
	return QueuedJob{
		Job: Job{
			JobID:     fmt.Sprintf("j%03d", n),
			Initiator: rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "initiator"),
			Flow:      rapid.SampledFrom([]string{"", "f"}).Draw(t, "flow"),
			Priority:  rapid.IntRange(0, 9).Draw(t, "priority"),
			Created:   now,
		},
		Nodes: rapid.SampledFrom([][]string{{"A", "B"}, {"B", "A"}, {"A", "C"}, {"A"}}).Draw(t, "nodes"),
	}
}

// A scheduler's queue serves every job in the end, whatever comes later, and never exceeds its limits.
func TestQueueProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		rows := &queueRows{node: "A", limits: drawLimits(t)}
		n := 0
		for range 300 {
			if n < 40 && rapid.IntRange(0, 2).Draw(t, "comes") == 0 || n == 0 {
				rows.waiting = append(rows.waiting, drawQueuedJob(t, n, now))
				n++
			}
			d := rows.decide(t, now)
			for _, w := range rows.waiting {
				require.NotEmpty(t, d.Status(w).Reason)
				require.False(t, slices.Contains(d.Notify, w.JobID) && !d.Status(w).MayReserve)
			}
			if k := rows.mayReserve(d); k >= 0 {
				rows.start(k)
			} else if len(rows.waiting) > 0 {
				require.NotEmpty(t, rows.running, "nothing runs, and no job may reserve: %+v", rows)
			}
			require.True(t, rows.limits.Jobs == 0 || len(rows.running) <= rows.limits.Jobs)
			if len(rows.running) > 0 && rapid.Bool().Draw(t, "ends") {
				i := rapid.IntRange(0, len(rows.running)-1).Draw(t, "which")
				rows.running = slices.Delete(rows.running, i, i+1)
			}
			now = now.Add(time.Minute)
		}
		for len(rows.waiting) > 0 {
			before := len(rows.waiting)
			rows.running = nil
			for {
				k := rows.mayReserve(rows.decide(t, now))
				if k < 0 || rows.limits.Jobs > 0 && len(rows.running) >= rows.limits.Jobs {
					break
				}
				rows.start(k)
			}
			require.Less(t, len(rows.waiting), before, "some job may reserve")
		}
	})
}

// A decision on the first jobs of each line says the same of every job as one on all jobs. So its cost need
// not grow with the number of waiting jobs.
func TestDecisionOnTheFirstOfEachLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		rows := queueRows{node: "A", limits: drawLimits(t)}
		for i := range rapid.IntRange(0, 60).Draw(t, "waiting jobs") {
			age := time.Duration(rapid.IntRange(0, 5400).Draw(t, "age")) * time.Second
			j := drawQueuedJob(t, i, now.Add(-age))
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				j.Reserving = true
			case 1:
				j.WaitingAt, j.WaitingFor = rapid.SampledFrom(j.Nodes).Draw(t, "at"), "it is full"
			}
			rows.waiting = append(rows.waiting, j)
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "running jobs") {
			rows.running = append(rows.running, drawQueuedJob(t, 100+i, now).Job)
		}
		some, all := rows.decide(t, now), rows.decideOnAll(now)
		require.Empty(t, all.Exhausted)
		require.Equal(t, all.Notify, some.Notify)
		for _, w := range rows.waiting {
			require.Equal(t, all.Status(w), some.Status(w), w.JobID)
		}
	})
}

// Jobs of equal priority that are submitted together start in turn by initiator, however many each has in the
// queue. Jobs that can't start now don't count for their initiator.
func TestFairShare(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	rows := queueRows{node: "A", limits: Limits{Jobs: 4}}
	add := func(id, initiator string, nodes ...string) {
		rows.waiting = append(rows.waiting, QueuedJob{Job: Job{JobID: id, Initiator: initiator,
			Created: now.Add(time.Duration(len(rows.waiting)) * time.Millisecond)}, Nodes: nodes})
	}
	for i := range 20 {
		add(fmt.Sprintf("b%02d", i), "B", "A", "B")
	}
	add("c00", "C", "A", "C")
	add("c01", "C", "A", "C")
	now = now.Add(time.Second)
	require.Equal(t, []string{"b00", "c00", "b01", "c01"}, rows.decide(t, now).Notify)

	for i := range maxWaitingAtParty { // so B's other jobs can't start
		rows.waiting[i].WaitingAt, rows.waiting[i].WaitingFor = "B", "it is full"
	}
	add("b20", "B", "A")
	d := rows.decide(t, now)
	require.Equal(t, []string{"c00", "c01", "b20"}, d.Notify)
	require.Equal(t, "other jobs wait for resources at B", d.Status(rows.waiting[10]).Reason)
}

func TestRank(t *testing.T) {
	created := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	job := func(priority int, age time.Duration) Job {
		return Job{Priority: priority, Created: created.Add(-age)}
	}
	for _, c := range []struct {
		first, second Job
	}{
		{job(1, 0), job(0, 0)},
		{job(0, 11*time.Minute), job(1, 0)},
		{job(1, 0), job(0, 9*time.Minute)},
		{job(0, 91*time.Minute), job(9, 0)},
	} {
		require.Less(t, c.first.Rank(), c.second.Rank(), "%+v", c)
	}
	for age, want := range map[time.Duration]int64{
		-time.Millisecond:  4, // a clock that is behind
		0:                  5,
		AgingStep - 1:      5,
		AgingStep:          6,
		3*AgingStep + 1000: 8,
	} {
		j := Job{Priority: 5, Created: created}
		require.Equal(t, want, j.agedPriority(created.Add(age)), "after %s", age)
	}
}

func TestQueueDecide(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	waiting := func(id, initiator string, priority int, age time.Duration) QueuedJob {
		return QueuedJob{
			Job:   Job{JobID: id, Initiator: initiator, Priority: priority, Created: now.Add(-age)},
			Nodes: []string{"A", "B"},
		}
	}
	queue := func(running []Job, waiting ...QueuedJob) queueRows {
		return queueRows{node: "A", running: running, waiting: waiting}
	}
	x := []Job{{JobID: "x", Initiator: "A"}}
	for name, c := range map[string]struct {
		rows queueRows
		want []string
	}{
		"priority, then time": {queue(nil, waiting("new", "A", 0, time.Second),
			waiting("old", "A", 0, time.Minute), waiting("urgent", "A", 1, 0)),
			[]string{"urgent", "old", "new"}},
		"waiting counts": {queue(nil, waiting("urgent", "A", 2, 0), waiting("aged", "A", 0, 2*AgingStep)),
			[]string{"aged", "urgent"}},
		"fair share": {queue(nil, waiting("a1", "A", 0, 4*time.Second), waiting("a2", "A", 0, 3*time.Second),
			waiting("a3", "A", 0, 2*time.Second), waiting("b1", "B", 0, time.Second)),
			[]string{"a1", "b1", "a2", "a3"}},
		"the initiator with fewer jobs first": {queue(x, waiting("a1", "A", 0, 4*time.Second),
			waiting("b1", "B", 0, time.Second)), []string{"b1", "a1"}},
	} {
		require.Equal(t, c.want, c.rows.decide(t, now).Notify, name)
	}

	a, b := waiting("a", "A", 0, 3*time.Second), waiting("b", "A", 0, 2*time.Second)
	rows := queue(x, a, b)
	rows.limits.Jobs = 2
	d := rows.decide(t, now)
	require.Equal(t, []string{"a"}, d.Notify)
	require.Equal(t, QueueStatus{MayReserve: true, Reason: "may ask its parties for resources now"},
		d.Status(a))
	require.Equal(t, QueueStatus{OnlyCandidatesAhead: true, Reason: "2 jobs run at A, which is its limit"},
		d.Status(b))

	// All of one line behind the first wait for what it waits for, and need not look at the queue often.
	rows.limits.Jobs = 1
	d = rows.decide(t, now)
	require.False(t, d.Status(a).Behind)
	require.True(t, d.Status(b).Behind)
	require.Equal(t, d.Status(a).Reason, d.Status(b).Reason)

	rows.limits, rows.waiting[0].WaitingAt, rows.waiting[0].WaitingFor = Limits{}, "B", "no free slot"
	d = rows.decide(t, now)
	require.Equal(t, QueueStatus{MayReserve: true, Reason: "B: no free slot"}, d.Status(a),
		"it may ask again, and knows that")
	require.Equal(t, []string{"b"}, d.Notify, "a few later jobs may ask")
}
