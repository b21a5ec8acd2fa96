package activities

import (
	"context"
	"maps"
	"slices"
	"time"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
)

// QueueState is how it stands with a job that waits for its start at its scheduler.
type QueueState struct {
	// Go: it may ask the parties for room now.
	Go bool `json:"go,omitempty"`
	// Soon: it may not only because of jobs that ask now, and may get none. What it waits for at a party is to be kept for it.
	Soon bool `json:"soon,omitempty"`
	// WaitsAt is the party that has denied it room, by the rows: the job may not know, if its step did not count.
	WaitsAt string `json:"waits_at,omitempty"`
	Place   int    `json:"place,omitempty"`
	Of      int    `json:"of,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// ReserveRequest asks for a job's room at this party.
type ReserveRequest struct {
	JobID     string    `json:"job_id"`
	Scheduler string    `json:"scheduler"`
	Priority  int       `json:"priority,omitempty"`
	Created   time.Time `json:"created"` // as its scheduler tells
	At        time.Time `json:"at"`
}

// ReserveResult is how an application is answered. Where the job had waited, those that wait still may have room now.
type ReserveResult struct {
	Grant   bfia.Grant `json:"grant"`
	Waiting []Waiting  `json:"waiting,omitempty"`
}

// Waiting is a job that waits for room at this party.
type Waiting struct {
	JobID     string `json:"job_id"`
	Scheduler string `json:"scheduler"`
}

// Dequeue puts a job that is READY into this scheduler's queue, and tells whether it has its turn. The same again changes
// nothing, and tells how it is then.
func (r *Records) Dequeue(ctx context.Context, jobID string, at time.Time) (QueueState, error) {
	var turn QueueState
	err := r.Store.Dequeue(ctx, jobID, at, func(q admission.Queue) bool {
		q.Node, q.Limits = r.Node, r.Limits
		turn = QueueState{Of: len(q.Waiting)}
		if i := slices.IndexFunc(q.Waiting, func(w admission.QueuedJob) bool { return w.JobID == jobID }); i >= 0 {
			turn.WaitsAt = q.Waiting[i].WaitingAt
		}
		for _, t := range q.Statuses(at) {
			if t.JobID == jobID {
				turn.Go, turn.Soon, turn.Place = t.MayReserve, t.OnlyCandidatesAhead, t.Position
				if !t.MayReserve {
					turn.Reason = t.Reason
				}
			}
		}
		return turn.Go
	})
	return turn, final(err)
}

// Requeue ends a job's turn, since a party has denied it room, and answers whose turn it is instead.
func (r *Records) Requeue(ctx context.Context, jobID, node, reason string, at time.Time) ([]string, error) {
	if err := r.Store.SetWaitReason(ctx, jobID, node, reason); err != nil {
		return nil, final(err)
	}
	return r.nextTurns(ctx, at)
}

// nextTurns are the jobs that have their turn and have not been told.
func (r *Records) nextTurns(ctx context.Context, at time.Time) ([]string, error) {
	q, err := r.Store.Queue(ctx)
	if err != nil || len(q.Waiting) == 0 {
		return nil, final(err)
	}
	q.Node, q.Limits = r.Node, r.Limits
	var next []string
	for _, t := range q.Statuses(at) {
		if t.Notify {
			next = append(next, t.JobID)
		}
	}
	return next, nil
}

// SetPriority changes the priority of a job that waits, and answers whose turn it is then.
func (r *Records) SetPriority(ctx context.Context, jobID string, priority int, at time.Time) ([]string, error) {
	if err := r.Store.SetPriority(ctx, jobID, priority); err != nil {
		return nil, final(err)
	}
	return r.nextTurns(ctx, at)
}

// Reserve asks for the room that a job needs at this party: all of it, or none. A job that has it gets the same answer again.
func (r *Records) Reserve(ctx context.Context, req ReserveRequest) (ReserveResult, error) {
	job, err := r.Store.Job(ctx, req.JobID)
	if err != nil {
		return ReserveResult{}, final(err)
	}
	wants, err := r.wants(ctx, req.JobID)
	if err != nil {
		return ReserveResult{}, final(err)
	}
	if len(wants.Slots) == 0 { // it runs nothing here
		return ReserveResult{Grant: bfia.Grant{Granted: true, State: job.State}}, nil
	}
	var denial *admission.Denial
	app := store.ReservationRequest{JobID: req.JobID, SchedulerNode: req.Scheduler, InitiatorNode: job.InitiatorNode, FlowID: job.FlowID,
		Priority: req.Priority, CreatedAt: req.Created, Demand: wants}
	seats, waited, err := r.Store.Reserve(ctx, app, admissionTimes(req.At), func(view store.ReservationView) []string {
		grant, no := r.party(view).Decide(admission.Request{Job: app.AdmissionJob(), Demand: wants}, req.At)
		denial = no
		return grant.Runners
	})
	if err != nil {
		return ReserveResult{}, final(err)
	}
	if len(seats) == 0 {
		return ReserveResult{Grant: bfia.Grant{State: job.State, Reason: denial.Reason, Position: denial.Position, Total: denial.Total}}, nil
	}
	answer := ReserveResult{Grant: bfia.Grant{Granted: true, State: job.State, Parallelism: 1 + seats[len(seats)-1].ParallelIndex}}
	if waited {
		answer.Waiting, err = r.open(ctx, req.At)
	}
	return answer, final(err)
}

func (r *Records) party(view store.ReservationView) admission.Party {
	p := admission.Party{Node: r.Node, Runners: view.Runners, Running: view.Holders, UsedSlots: view.UsedSlots, Limits: r.Limits}
	for _, a := range view.Waiting {
		p.Waiting = append(p.Waiting, a.AdmissionRequest())
	}
	return p
}

func admissionTimes(at time.Time) store.ReservationTimes {
	return store.ReservationTimes{Now: at, HeartbeatSince: at.Add(-hostSeen), RequestedSince: at.Add(-admission.RequestTTL)}
}

// ReleaseReservation gives back the room that a job holds at this party, and answers who has room now. Others are not told: each would
// ask every party again for nothing. With words why the job is over, without its success, parts that its rows still call
// RUNNING are FAILED: nothing of it runs any more, and a step of its workflow that wrote them has not counted, see
// docs/architecture.md.
func (r *Records) ReleaseReservation(ctx context.Context, jobID string, at time.Time, over string) ([]Waiting, error) {
	if over != "" {
		if _, err := r.Store.FailRunningTasks(ctx, jobID, over, at); err != nil {
			return nil, final(err)
		}
	}
	if err := r.Store.ReleaseReservation(ctx, jobID); err != nil {
		return nil, final(err)
	}
	open, err := r.open(ctx, at)
	return open, final(err)
}

// open are the jobs that wait for room at this party and would be granted it now.
func (r *Records) open(ctx context.Context, at time.Time) ([]Waiting, error) {
	view, err := r.Store.ReservationView(ctx, admissionTimes(at))
	if err != nil || len(view.Waiting) == 0 {
		return nil, err
	}
	var open []Waiting
	for _, id := range r.party(view).Grantable(at) {
		i := slices.IndexFunc(view.Waiting, func(a store.ReservationRequest) bool { return a.JobID == id })
		open = append(open, Waiting{JobID: id, Scheduler: view.Waiting[i].SchedulerNode})
	}
	return open[:min(len(open), maxTold)], nil
}

// maxTold is how many jobs are told at once that they have room; others ask by themselves.
const maxTold = 16

// CheckFeasible refuses a job that could never run at this party, with the numbers.
func CheckFeasible(ctx context.Context, db *store.Store, node string, limits admission.Limits, doc *bfia.Document, plan *bfia.Plan) error {
	var parts []taskPart
	for _, t := range plan.Tasks {
		for _, p := range t.PartsOf(node) {
			parts = append(parts, taskPart{t.Name, t.Provider, t.Version, p})
		}
	}
	wants, err := wantsOf(ctx, db, doc, parts)
	if err != nil {
		return err
	}
	at := time.Now()
	hosts, err := db.Runners(ctx, at.Add(-hostSeen))
	if err != nil {
		return err
	}
	party := admission.Party{Node: node, Limits: limits}
	for _, h := range hosts {
		party.Runners = append(party.Runners, h.AdmissionRunner())
	}
	if lack := party.Infeasible(wants); lack != "" {
		return bfia.Errorf(bfia.CodeBadRequest, "config.job_params: %s could never run the job: %s", node, lack)
	}
	return nil
}

// taskPart is one part of a task, and the provider that it needs.
type taskPart struct {
	task, provider, version string
	part                    bfia.Part
}

// wants derives what a job asks of this party from its document and rows.
func (r *Records) wants(ctx context.Context, jobID string) (admission.Demand, error) {
	doc, err := jobDocument(ctx, r.Store, jobID)
	if err != nil {
		return admission.Demand{}, err
	}
	rows, err := r.Store.Tasks(ctx, jobID)
	if err != nil {
		return admission.Demand{}, err
	}
	var parts []taskPart
	for _, row := range rows {
		parts = append(parts, taskPart{row.Name, row.Provider, row.Version, bfia.Part{Role: row.Role, Index: row.RoleIndex, NodeID: r.Node}})
	}
	return wantsOf(ctx, r.Store, doc, parts)
}

// wantsOf makes one seat for each part and what its tasks need of a host; and as many copies as tasks could run at once.
func wantsOf(ctx context.Context, db *store.Store, doc *bfia.Document, parts []taskPart) (admission.Demand, error) {
	var w admission.Demand
	tasks := map[string]bool{}
	known := map[string]bool{}
	provided := map[[2]string]admission.Constraints{}
	for _, p := range parts {
		tasks[p.task] = true
		from := [2]string{p.provider, p.version}
		if _, is := provided[from]; !is { // a job may have very many tasks of a few providers
			var err error
			if provided[from], err = providerNeeds(ctx, db, p.provider, p.version); err != nil {
				return w, err
			}
		}
		needs, err := withRequires(provided[from], doc, p)
		if err != nil {
			return w, err
		}
		key := p.part.Self() + needs.Key()
		if known[key] {
			continue
		}
		known[key] = true
		res, err := doc.Config.Resources(p.part)
		if err != nil {
			return w, err
		}
		w.Slots = append(w.Slots, admission.Slot{Role: p.part.Role, Index: p.part.Index, Constraints: needs, Resources: room(res)})
	}
	w.Parallelism = doc.DAG.Width(func(task string) bool { return tasks[task] })
	return w, nil
}

// needsOf is what a part of a task needs of the host that runs it.
func needsOf(ctx context.Context, db *store.Store, doc *bfia.Document, p taskPart) (admission.Constraints, error) {
	provided, err := providerNeeds(ctx, db, p.provider, p.version)
	if err != nil {
		return admission.Constraints{}, err
	}
	return withRequires(provided, doc, p)
}

// providerNeeds is what a provider needs of a host: one of the devices for which it is registered, and its labels.
func providerNeeds(ctx context.Context, db *store.Store, name, version string) (admission.Constraints, error) {
	needs := admission.Constraints{Labels: map[string]string{}}
	providers, err := db.Providers(ctx, store.ProviderFilter{Name: name, Version: version})
	if err != nil {
		return needs, err
	}
	for _, provider := range providers {
		if !slices.Contains(needs.Devices, provider.Device) {
			needs.Devices = append(needs.Devices, provider.Device)
		}
		labels, err := bfia.ProviderConstraints(provider.Metadata)
		if err != nil {
			return needs, err
		}
		maps.Copy(needs.Labels, labels)
	}
	return needs, nil
}

// withRequires adds what the job wants of the host.
func withRequires(needs admission.Constraints, doc *bfia.Document, p taskPart) (admission.Constraints, error) {
	labels, err := doc.Config.Constraints(p.task, p.part)
	if err != nil {
		return needs, err
	}
	for k, v := range needs.Labels {
		if wanted, is := labels[k]; is && wanted != v {
			return needs, bfia.Errorf(bfia.CodeBadRequest, "config.job_params: %s at %s requires a host with the label %s=%s, and its provider %s requires %s=%s",
				p.task, p.part.Self(), k, wanted, p.provider, k, v)
		}
		labels[k] = v
	}
	needs.Labels = labels
	return needs, nil
}

// room is an amount of resources in the units of seats.
func room(res bfia.Resources) admission.Resources {
	var r admission.Resources
	if res.CPU > 0 {
		r.CPUMilli = int64(res.CPU * 1000)
	}
	if res.Memory > 0 {
		r.Memory = int64(res.Memory * (1 << 30))
	}
	if res.Disk > 0 {
		r.Disk = int64(res.Disk * (1 << 30))
	}
	return r
}
