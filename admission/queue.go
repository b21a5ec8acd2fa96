package admission

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// maxReserving bounds the jobs of a scheduler that ask for reservations at the same time. Jobs that
	// follow a capacity hint don't count.
	maxReserving = 8
	// maxWaitingAtParty is the number of jobs of a scheduler's project that wait for resources at one party,
	// from which on further jobs of the project that need this party don't ask.
	maxWaitingAtParty = 4
	// maxWaitingForQuota is the same for jobs that wait for quotas of that party's projects. The scheduler
	// does not know which job is of which of them, so a used up quota must not stop all others early.
	maxWaitingForQuota = 64
	// LineLength is how many jobs of a line a decision can need: it notifies at most so many.
	LineLength = maxReserving
)

// QueuedJob is a job in its scheduler's queue.
type QueuedJob struct {
	Job
	// Nodes are its participants.
	Nodes []string
	// Reserving: it asks the parties for reservations now.
	Reserving bool
	// WaitingAt is the party that denied it a reservation, and WaitingFor that party's reason.
	WaitingAt, WaitingFor string
	// WaitingForQuota: the reason is the quota of its project there.
	WaitingForQuota bool
}

// IsCandidate reports whether the job asks for reservations now, or waits for a party that denied it one.
func (j QueuedJob) IsCandidate() bool { return j.Reserving || j.WaitingAt != "" }

// Line returns the key of the job's line. The jobs of a line have the same initiator, project, participants
// and, where flows are limited, flow. So what keeps the first of them from reserving keeps the others, too.
func (j QueuedJob) Line(limits Limits) string {
	nodes := slices.Sorted(slices.Values(j.Nodes))
	key := append([]string{j.Initiator, ""}, nodes...)
	if limits.PerFlow > 0 {
		key[1] = j.Flow
	}
	if j.Project != "" {
		key = append(key, "project", j.Project)
	}
	text, _ := json.Marshal(key) // a list of strings always marshals
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// Scheduler holds what a decision needs to know of the party that schedules.
type Scheduler struct {
	Node   string
	Limits Limits
}

// Queue is what a decision on a scheduler's queue needs to know. Its size depends on how many jobs ask for
// reservations and on how many lines there are, not on how many jobs wait.
type Queue struct {
	Scheduler
	Running []Job
	// Candidates are the jobs that ask for reservations now, or wait for a party.
	Candidates []QueuedJob
	// Lines hold the other jobs.
	Lines []Line
}

// Line holds the first jobs of a line, by rank. See [QueuedJob.Line].
type Line struct {
	Key  string
	Jobs []QueuedJob
	// More: further jobs of the line wait. It is false if Jobs has [LineLength] jobs.
	More bool
}

// QueueStatus says what a queued job may do now, and why it waits.
type QueueStatus struct {
	// MayReserve: it may ask for reservations now.
	MayReserve bool
	// OnlyCandidatesAhead: it waits only for jobs that ask for reservations now and may get none.
	OnlyCandidatesAhead bool
	// Behind: other jobs of its line are before it. It is notified when it may ask for reservations.
	Behind bool
	Reason string // why it waits
}

const jobsAheadAsk = "jobs ahead of it are asking their parties for resources"

// Decision says what the jobs of a queue may do now.
type Decision struct {
	// Notify are the jobs that may ask for reservations and don't know yet, in the queue's order.
	Notify []string
	// Exhausted are the keys of lines of which the decision needs further jobs. Until the caller has read
	// them and decided again, the decision is incomplete.
	Exhausted []string

	limits Limits
	jobs   map[string]QueueStatus // by job id
	lines  map[string]QueueStatus // of the jobs of a line that are not in jobs
}

// Status returns the status of a queued job.
func (d Decision) Status(j QueuedJob) QueueStatus {
	if status, decided := d.jobs[j.JobID]; decided {
		return status
	}
	if status, decided := d.lines[j.Line(d.limits)]; decided {
		status.Behind = true
		return status
	}
	// It is far behind in its line, or has just entered the queue.
	return QueueStatus{Behind: true, Reason: jobsAheadAsk}
}

// entry is a job on its way through a decision. line is the index of its line, or -1 for a candidate.
type entry struct {
	QueuedJob
	line, position int
}

// Decide decides what each job may do now.
//
// It takes the jobs in the order of the queue. A job that may ask for reservations counts for its initiator's
// share, and for the limits. One that may not ends its line: the jobs behind it wait for the same reason.
func (q Queue) Decide(now time.Time) Decision {
	d := Decision{limits: q.Limits, jobs: map[string]QueueStatus{}, lines: map[string]QueueStatus{}}
	var entries []entry
	running := newTally(q.Running...)
	started := running.clone() // without the jobs that may get no reservation
	reserving := 0
	for _, c := range q.Candidates {
		if c.Reserving {
			running.add(c.Job)
			reserving++
			d.jobs[c.JobID] = QueueStatus{MayReserve: true, Reason: "is asking its parties for resources"}
			continue
		}
		entries = append(entries, entry{c, -1, 0})
	}
	for i, line := range q.Lines {
		if len(line.Jobs) > 0 {
			entries = append(entries, entry{line.Jobs[0], i, 0})
		}
	}

	jobs := newFairShare(entries, func(e entry) Job { return e.Job }, now)
	for initiator, n := range running.byInitiator {
		jobs.has[initiator] = n
	}
	waitingAt := map[waitingPlace]int{} // jobs
	for e, found := jobs.next(); found; e, found = jobs.next() {
		status := QueueStatus{}
		limit := q.Limits.exceeded(q.Node, running, e.Job)
		crowded := crowdedParty(e.QueuedJob, waitingAt)
		switch {
		case limit != "":
			status.Reason = limit
			status.OnlyCandidatesAhead = q.Limits.exceeded(q.Node, started, e.Job) == ""
		case e.WaitingAt != "":
			status = QueueStatus{MayReserve: true, Reason: fmt.Sprintf("%s: %s", e.WaitingAt, e.WaitingFor)}
			waitingAt[waitingPlace{e.WaitingAt, e.Project, e.WaitingForQuota}]++
			jobs.has[e.Initiator]++
		case crowded != "":
			status.Reason = "other jobs wait for resources at " + crowded
		case reserving >= maxReserving:
			status.Reason = jobsAheadAsk
		default:
			status = QueueStatus{MayReserve: true, Reason: "may ask its parties for resources now"}
			d.Notify = append(d.Notify, e.JobID)
			reserving++
			running.add(e.Job)
			jobs.has[e.Initiator]++
		}

		d.jobs[e.JobID] = status
		if e.line < 0 {
			continue
		}
		line := q.Lines[e.line]
		switch following := e.position + 1; {
		case !status.MayReserve:
			d.lines[line.Key] = status
		case following < len(line.Jobs):
			jobs.insert(entry{line.Jobs[following], e.line, following})
		case line.More:
			d.Exhausted = append(d.Exhausted, line.Key)
		}
	}
	return d
}

// waitingPlace is a party at which jobs of one project of the scheduler's party wait. Jobs that wait for the
// quota of their project must not keep those of other projects from asking.
type waitingPlace struct {
	node, project string
	forQuota      bool
}

// crowdedParty returns a party at which so many jobs wait that this one should not ask, or "".
func crowdedParty(j QueuedJob, waitingAt map[waitingPlace]int) string {
	for _, n := range j.Nodes {
		if waitingAt[waitingPlace{n, j.Project, false}] >= maxWaitingAtParty ||
			waitingAt[waitingPlace{n, j.Project, true}] >= maxWaitingForQuota {
			return n
		}
	}
	return ""
}
