package participant

import (
	"context"
	"maps"
	"slices"
	"time"

	"hutong/activities"
	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
)

// ReserveInput asks for a job's room at this party.
type ReserveInput struct {
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

// Reserve asks for the room that a job needs at this party: all of it, or none. A job that has it gets the same answer again.
func (a *Activities) Reserve(ctx context.Context, req ReserveInput) (ReserveResult, error) {
	job, err := a.Store.Job(ctx, req.JobID)
	if err != nil {
		return ReserveResult{}, activities.Classify(err)
	}
	wants, err := a.wants(ctx, req.JobID)
	if err != nil {
		return ReserveResult{}, activities.Classify(err)
	}
	if len(wants.Slots) == 0 { // it runs nothing here
		return ReserveResult{Grant: bfia.Grant{Granted: true, State: job.State}}, nil
	}
	var denial *admission.Denial
	app := store.ReservationRequest{JobID: req.JobID, SchedulerNode: req.Scheduler, InitiatorNode: job.InitiatorNode, FlowID: job.FlowID,
		Priority: req.Priority, CreatedAt: req.Created, Demand: wants}
	seats, waited, err := a.Store.Reserve(ctx, app, admissionTimes(req.At), func(view store.ReservationView) []string {
		grant, no := a.party(view).Decide(admission.Request{Job: app.AdmissionJob(), Demand: wants}, req.At)
		denial = no
		return grant.Runners
	})
	if err != nil {
		return ReserveResult{}, activities.Classify(err)
	}
	if len(seats) == 0 {
		return ReserveResult{Grant: bfia.Grant{State: job.State, Reason: denial.Reason, Position: denial.Position, Total: denial.Total}}, nil
	}
	answer := ReserveResult{Grant: bfia.Grant{Granted: true, State: job.State, Parallelism: 1 + seats[len(seats)-1].ParallelIndex}}
	if waited {
		answer.Waiting, err = a.open(ctx, req.At)
	}
	return answer, activities.Classify(err)
}

func (a *Activities) party(view store.ReservationView) admission.Party {
	p := admission.Party{Node: a.Node, Runners: view.Runners, Running: view.Holders, UsedSlots: view.UsedSlots, Limits: a.Limits}
	for _, w := range view.Waiting {
		p.Waiting = append(p.Waiting, w.AdmissionRequest())
	}
	return p
}

func admissionTimes(at time.Time) store.ReservationTimes {
	return store.ReservationTimes{Now: at, HeartbeatSince: at.Add(-activities.RunnerSilentAfter), RequestedSince: at.Add(-admission.RequestTTL)}
}

// ReleaseReservationInput names a job that gives up its reservation.
type ReleaseReservationInput struct {
	JobID string    `json:"job_id"`
	At    time.Time `json:"at"`
	// Ended is why the job ended, unless it succeeded or has not ended.
	Ended string `json:"ended,omitempty"`
}

// ReleaseReservation gives back the room that a job holds at this party, and answers who has room now. Others are not told: each would
// ask every party again for nothing. With words why the job is over, without its success, parts that its rows still call
// RUNNING are FAILED: nothing of it runs any more, and a step of its workflow that wrote them has not counted, see
// docs/architecture.md.
func (a *Activities) ReleaseReservation(ctx context.Context, in ReleaseReservationInput) ([]Waiting, error) {
	if in.Ended != "" {
		if _, err := a.Store.FailRunningTasks(ctx, in.JobID, in.Ended, in.At); err != nil {
			return nil, activities.Classify(err)
		}
	}
	if err := a.Store.ReleaseReservation(ctx, in.JobID); err != nil {
		return nil, activities.Classify(err)
	}
	open, err := a.open(ctx, in.At)
	return open, activities.Classify(err)
}

// open are the jobs that wait for room at this party and would be granted it now.
func (a *Activities) open(ctx context.Context, at time.Time) ([]Waiting, error) {
	view, err := a.Store.ReservationView(ctx, admissionTimes(at))
	if err != nil || len(view.Waiting) == 0 {
		return nil, err
	}
	var open []Waiting
	for _, id := range a.party(view).Grantable(at) {
		i := slices.IndexFunc(view.Waiting, func(a store.ReservationRequest) bool { return a.JobID == id })
		open = append(open, Waiting{JobID: id, Scheduler: view.Waiting[i].SchedulerNode})
	}
	return open[:min(len(open), activities.MaxHints)], nil
}

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
	hosts, err := db.Runners(ctx, at.Add(-activities.RunnerSilentAfter))
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
func (a *Activities) wants(ctx context.Context, jobID string) (admission.Demand, error) {
	doc, err := activities.JobDocument(ctx, a.Store, jobID)
	if err != nil {
		return admission.Demand{}, err
	}
	rows, err := a.Store.Tasks(ctx, jobID)
	if err != nil {
		return admission.Demand{}, err
	}
	var parts []taskPart
	for _, row := range rows {
		parts = append(parts, taskPart{row.Name, row.Provider, row.Version, bfia.Part{Role: row.Role, Index: row.RoleIndex, NodeID: a.Node}})
	}
	return wantsOf(ctx, a.Store, doc, parts)
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
