package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// jobWaits returns what jobs of this party wait for, by job id. What a job's workflow knows is recorded in
// its row. The rest follows from the queue and from the requests for reservations.
func (s *Server) jobWaits(ctx context.Context, jobs []store.Job) (map[string][]bfia.Waiting, error) {
	waits := map[string][]bfia.Waiting{}
	var open []string
	for _, j := range jobs {
		waits[j.JobID] = j.Waiting
		if j.State == bfia.JobPending || j.State == bfia.JobReady || j.State == bfia.JobRunning {
			open = append(open, j.JobID)
		}
	}
	if len(open) == 0 {
		return waits, nil
	}

	scheduled, err := s.scheduledWaits(ctx, open)
	if err != nil {
		return nil, err
	}
	requests, err := s.store.RequestsOf(ctx, open)
	if err != nil {
		return nil, err
	}
	denied := map[string]store.ReservationRequest{}
	for _, r := range requests {
		denied[r.JobID] = r
	}
	for _, j := range jobs {
		own, here := scheduled[j.JobID]
		request, isDenied := denied[j.JobID]
		started := j.State != bfia.JobReady && j.State != bfia.JobRunning
		switch {
		case here:
			waits[j.JobID] = own
		case started:
		case isDenied:
			waits[j.JobID] = append(waits[j.JobID],
				bfia.WaitForResources(s.Node, request.Reason, request.WaitingSince))
		case j.State == bfia.JobReady:
			waits[j.JobID] = append(waits[j.JobID], bfia.WaitForScheduler(j.SchedulerNode, j.CreatedAt))
		}
	}
	return waits, nil
}

// showsWaits reports whether clients see on a path what jobs wait for.
func showsWaits(path string) bool {
	return path == bfia.PathPlatformStatusAll || path == bfia.PathPlatformJobList
}

// waitsElsewhere says where an operator sees what jobs wait for while the database does not answer. jobID may
// be empty.
func (s *Server) waitsElsewhere(jobID string) string {
	if bfia.CheckID("job_id", jobID) != nil {
		return fmt.Sprintf("; until it does, Temporal's UI of %s shows what its jobs do and wait for", s.Node)
	}
	return fmt.Sprintf("; until it does, Temporal's UI of %s shows what the job does and waits for: workflows "+
		"%s and, at its scheduler, %s", s.Node, workflows.ParticipantJobID(jobID),
		workflows.SchedulerJobID(jobID))
}

// listedParts bounds the parts of a job that a list names.
const listedParts = 3

// addPartWaits adds what parts of running jobs wait for, with the names of the parts. The status has them at
// the parts.
func (s *Server) addPartWaits(ctx context.Context, jobs []store.Job, waits map[string][]bfia.Waiting) error {
	var running []string
	for _, j := range jobs {
		if j.State == bfia.JobRunning {
			running = append(running, j.JobID)
		}
	}
	parts, err := s.store.PartWaits(ctx, s.Node, running)
	if err != nil {
		return err
	}
	for jobID, parts := range parts {
		for _, p := range parts[:min(len(parts), listedParts)] {
			w := *p.Waiting
			w.Message = fmt.Sprintf("%s %s.%d at %s %s", p.Task, p.Role, p.RoleIndex, p.NodeID, w.Text())
			waits[jobID] = append(waits[jobID], w)
		}
	}
	return nil
}

// scheduledWaits returns what the jobs that this party schedules wait for, by job id. It leaves out others.
func (s *Server) scheduledWaits(ctx context.Context, jobIDs []string) (map[string][]bfia.Waiting, error) {
	jobs, err := s.store.ScheduleJobs(ctx, jobIDs)
	if err != nil || len(jobs) == 0 {
		return nil, err
	}
	positions, err := s.queuePositions(ctx, jobs)
	if err != nil {
		return nil, err
	}
	waits := map[string][]bfia.Waiting{}
	for _, j := range jobs {
		waits[j.JobID] = waitsOf(j, positions.of(j))
	}
	return waits, nil
}

// waitsOf returns what a job that this party schedules waits for.
func waitsOf(j store.ScheduleJob, queued *bfia.Queued) []bfia.Waiting {
	switch {
	case queued != nil:
		return append(j.Waiting, queued.Waiting(j.WaitNode))
	case j.State == bfia.JobPending && len(j.Waiting) == 0:
		return []bfia.Waiting{bfia.WaitForCreation(j.ParticipantNodes, j.CreatedAt)}
	}
	return j.Waiting
}

// positions are the positions of jobs in this scheduler's queue, and why they wait.
type positions struct {
	byJob    map[string]int
	total    int
	decision admission.Decision
}

// queuePositions returns the positions of those of the jobs that are queued.
func (s *Server) queuePositions(ctx context.Context, jobs []store.ScheduleJob) (p positions, err error) {
	var waiting []string
	for _, j := range jobs {
		if j.State == bfia.JobReady && j.QueuedAt != nil {
			waiting = append(waiting, j.JobID)
		}
	}
	if len(waiting) == 0 {
		return positions{}, nil
	}
	if p.byJob, p.total, err = s.store.QueuePositions(ctx, waiting); err != nil {
		return positions{}, err
	}
	scheduler := admission.Scheduler{Node: s.Node, Limits: s.Limits}
	p.decision, err = s.store.DecideQueue(ctx, scheduler, time.Now())
	return p, err
}

// of returns the position of a job, or nil if it is not queued.
func (p positions) of(job store.ScheduleJob) *bfia.Queued {
	position, queued := p.byJob[job.JobID]
	if !queued {
		return nil
	}
	return &bfia.Queued{Priority: job.Priority, Position: position, Total: p.total,
		Reason: p.decision.Status(job.QueuedJob()).Reason, Since: job.QueuedAt}
}

// explainUnstarted sets why the tasks of a job that runs have not started: they depend on others, or wait for
// a slot. parallelism is how many tasks the job's reservations let run at once, by party, and most is the
// scheduler's own limit. A participant does not know these.
func explainUnstarted(status *bfia.JobStatus, parallelism map[string]int, most int) {
	if status.State != bfia.JobRunning || status.StartedAt == nil {
		return
	}
	byName, running, total := map[string]bfia.TaskStatus{}, map[string]int{}, 0
	for _, t := range status.Tasks {
		byName[t.Name] = t
		if t.State == bfia.TaskRunning {
			total++
			for node := range nodesOf(t) {
				running[node]++
			}
		}
	}
	for i := range status.Tasks {
		t := &status.Tasks[i]
		if t.State != bfia.TaskReady {
			continue
		}
		since, missing := *status.StartedAt, []string(nil)
		for _, name := range t.DependsOn {
			up, known := byName[name]
			if known && up.State == bfia.TaskSuccess && up.EndedAt != nil && up.EndedAt.After(since) {
				since = *up.EndedAt
			}
			if known && up.State != bfia.TaskSuccess {
				missing = append(missing, name)
			}
		}
		var waiting bfia.Waiting
		switch node := fullNode(*t, parallelism, running); {
		case len(missing) > 0:
			waiting = bfia.Waiting{Kind: bfia.WaitsForInputs, Since: since,
				Message: "waits for " + strings.Join(missing, ", ")}
		case most > 0 && total >= most:
			waiting = bfia.WaitForSlot("", most, since)
		case node != "":
			waiting = bfia.WaitForSlot(node, parallelism[node], since)
		default: // its start is under way
			waiting = bfia.Waiting{Kind: bfia.WaitsForScheduler, NodeID: status.Scheduler, Since: since,
				Message: fmt.Sprintf("waits for its start by %s", status.Scheduler)}
		}
		t.Waiting = &waiting
	}
}

// fullNode returns a party of a task at which no more tasks may run at once, or "".
func fullNode(t bfia.TaskStatus, parallelism, running map[string]int) string {
	for _, p := range t.Parties {
		if limit := parallelism[p.NodeID]; limit > 0 && running[p.NodeID] >= limit {
			return p.NodeID
		}
	}
	return ""
}

func nodesOf(t bfia.TaskStatus) map[string]bool {
	nodes := map[string]bool{}
	for _, p := range t.Parties {
		nodes[p.NodeID] = true
	}
	return nodes
}
