package participant

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"hutong/activities"
	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
)

// ReserveInput is a request for a job's reservation at this party.
type ReserveInput struct {
	JobID     string    `json:"job_id"`
	Scheduler string    `json:"scheduler"`
	Priority  int       `json:"priority,omitempty"`
	Created   time.Time `json:"created"` // at its scheduler
	At        time.Time `json:"at"`
}

// ReserveResult is the answer to a request. If the job had waited, Waiting holds other jobs that would be
// granted now.
type ReserveResult struct {
	Grant   bfia.Grant `json:"grant"`
	Waiting []Waiting  `json:"waiting,omitempty"`
}

// Waiting is a job that waits for a reservation at this party.
type Waiting struct {
	JobID     string `json:"job_id"`
	Scheduler string `json:"scheduler"`
}

// Reserve reserves what a job needs at this party, all of it or none. A job that holds its reservation gets
// the same answer again.
func (a *Activities) Reserve(ctx context.Context, req ReserveInput) (ReserveResult, error) {
	job, err := a.Store.Job(ctx, req.JobID)
	if err != nil {
		return ReserveResult{}, activities.Classify(err)
	}
	demand, err := a.demand(ctx, req.JobID)
	if err != nil {
		return ReserveResult{}, activities.Classify(err)
	}
	if len(demand.Slots) == 0 { // the job runs nothing at this party
		return ReserveResult{Grant: bfia.Grant{Granted: true, State: job.State}}, nil
	}
	var denial *admission.Denial
	request := store.ReservationRequest{JobID: req.JobID, SchedulerNode: req.Scheduler,
		InitiatorNode: job.InitiatorNode, FlowID: job.FlowID,
		Priority: req.Priority, CreatedAt: req.Created, Demand: demand}
	slots, waited, err := a.Store.Reserve(ctx, request, reservationTimes(req.At),
		func(view store.ReservationView) (runners []string, reason string) {
			request.Project = view.Project
			grant, denied := a.party(view).Decide(request.AdmissionRequest(), req.At)
			if denial = denied; denied != nil {
				reason = denied.Reason
			}
			return grant.Runners, reason
		})
	if err != nil {
		return ReserveResult{}, activities.Classify(err)
	}
	if len(slots) == 0 {
		return ReserveResult{Grant: bfia.Grant{State: job.State, Reason: denial.Reason,
			Position: denial.Position, Total: denial.Total, Quota: denial.Quota}}, nil
	}
	answer := ReserveResult{Grant: bfia.Grant{Granted: true, State: job.State, Parallelism: 1 +
		slots[len(slots)-1].ParallelIndex}}
	if waited {
		answer.Waiting, err = a.grantable(ctx, req.At)
	}
	return answer, activities.Classify(err)
}

// party returns the state on which the admission algorithm decides.
func (a *Activities) party(view store.ReservationView) admission.Party {
	p := admission.Party{Node: a.Node, Runners: view.Runners, Running: view.Holders,
		UsedSlots: view.UsedSlots, Limits: a.Limits, Quotas: view.Quotas, Held: view.Held}
	for _, w := range view.Waiting {
		p.Waiting = append(p.Waiting, w.AdmissionRequest())
	}
	return p
}

// reservationTimes returns the times that select online runners and live requests.
func reservationTimes(at time.Time) store.ReservationTimes {
	return store.ReservationTimes{Now: at, SilentAfter: activities.RunnerSilentAfter,
		RequestedSince: at.Add(-admission.RequestTTL)}
}

// ReleaseReservationInput names a job that gives up its reservation.
type ReleaseReservationInput struct {
	JobID string    `json:"job_id"`
	At    time.Time `json:"at"`
	// Ended is why the job ended, unless it succeeded or has not ended.
	Ended string `json:"ended,omitempty"`
}

// ReleaseReservation releases a job's reservation, and returns the waiting jobs that would be granted now.
// Other jobs get no hint, because each would ask all its parties again in vain. If the job ended without
// success, its parts that are still RUNNING become FAILED: nothing of it runs, and the workflow task that
// recorded them was lost before it completed.
func (a *Activities) ReleaseReservation(ctx context.Context, in ReleaseReservationInput) ([]Waiting, error) {
	if in.Ended != "" {
		if _, err := a.Store.FailRunningTasks(ctx, in.JobID, in.Ended, in.At); err != nil {
			return nil, activities.Classify(err)
		}
	}
	if err := a.Store.ReleaseReservation(ctx, in.JobID); err != nil {
		return nil, activities.Classify(err)
	}
	waiting, err := a.grantable(ctx, in.At)
	return waiting, activities.Classify(err)
}

// grantable returns the waiting jobs that would be granted a reservation now.
func (a *Activities) grantable(ctx context.Context, at time.Time) ([]Waiting, error) {
	view, err := a.Store.ReservationView(ctx, reservationTimes(at))
	if err != nil || len(view.Waiting) == 0 {
		return nil, err
	}
	var waiting []Waiting
	for _, id := range a.party(view).Grantable(at) {
		i := slices.IndexFunc(view.Waiting, func(a store.ReservationRequest) bool { return a.JobID == id })
		waiting = append(waiting, Waiting{JobID: id, Scheduler: view.Waiting[i].SchedulerNode})
	}
	return waiting[:min(len(waiting), activities.MaxHints)], nil
}

// CheckFeasible refuses a job that would not fit at this party even if its runners were idle, or not into the
// quota of its project. The error compares the job's demand with what there is.
func CheckFeasible(ctx context.Context, db *store.Store, node string, limits admission.Limits, project string,
	record *store.JobRecord, plan *bfia.Plan) error {
	var parts []taskPart
	for _, t := range plan.Tasks {
		for _, p := range t.PartsOf(node) {
			parts = append(parts, taskPart{t.Name, component{t.Provider, t.Version, t.Component}, p})
		}
	}
	demand, err := demandOf(ctx, db, record, parts)
	if err != nil {
		return err
	}
	runners, err := db.Runners(ctx, activities.RunnerSilentAfter)
	if err != nil {
		return err
	}
	party := admission.Party{Node: node, Limits: limits}
	for _, r := range runners {
		party.Runners = append(party.Runners, r.AdmissionRunner())
	}
	quota, err := db.ProjectQuota(ctx, project)
	if err != nil {
		return err
	}
	if unmet := cmp.Or(party.Infeasible(demand), admission.BeyondQuota(quota, demand)); unmet != "" {
		return bfia.Errorf(bfia.CodeBadRequest, "config.job_params: %s could never run the job: %s", node,
			unmet)
	}
	return nil
}

// component names a component of a provider.
type component struct{ provider, version, name string }

// taskPart is a part of a task with its component.
type taskPart struct {
	task      string
	component component
	part      bfia.Part
}

// demand derives what a job requests of this party from its record and rows.
func (a *Activities) demand(ctx context.Context, jobID string) (admission.Demand, error) {
	record, err := activities.JobRecord(ctx, a.Store, jobID)
	if err != nil {
		return admission.Demand{}, err
	}
	rows, err := a.Store.Tasks(ctx, jobID)
	if err != nil {
		return admission.Demand{}, err
	}
	var parts []taskPart
	for _, row := range rows {
		parts = append(parts, taskPart{row.Name,
			component{row.Provider, row.Version, row.Component},
			bfia.Part{Role: row.Role, Index: row.RoleIndex, NodeID: a.Node}})
	}
	return demandOf(ctx, a.Store, record, parts)
}

// demandOf returns one slot for each part and each set of constraints of its tasks. The parallelism is the
// number of tasks that could run at once.
func demandOf(ctx context.Context, db *store.Store, record *store.JobRecord,
	parts []taskPart) (admission.Demand, error) {
	var demand admission.Demand
	tasks := map[string]bool{}
	added := map[string]int{} // indexes of slots
	byComponent := map[component]admission.Constraints{}
	for _, p := range parts {
		tasks[p.task] = true
		if _, found := byComponent[p.component]; !found { // a job may have very many tasks of few components
			var err error
			if byComponent[p.component], err = providerConstraints(record.Registry, p.component); err != nil {
				return demand, err
			}
		}
		constraints, err := addJobConstraints(byComponent[p.component], record.Document, p)
		if err != nil {
			return demand, err
		}
		image, err := imageOf(record, p.component)
		if err != nil {
			return demand, err
		}
		key := p.part.Self() + constraints.Key()
		if i, found := added[key]; found {
			slot := &demand.Slots[i]
			known := slices.ContainsFunc(slot.Images, func(o []string) bool { return slices.Equal(o, image) })
			if len(image) > 0 && !known {
				slot.Images = append(slot.Images, image)
			}
			continue
		}
		added[key] = len(demand.Slots)
		res, err := record.Document.Config.Resources(p.part)
		if err != nil {
			return demand, err
		}
		if res.GPU == 0 && bfia.RequiresGPU(constraints.Labels) {
			if res.GPU, err = gpuOfLabel(ctx, db, constraints); err != nil {
				return demand, err
			}
		}
		demand.Slots = append(demand.Slots, admission.Slot{Role: p.part.Role, Index: p.part.Index,
			Constraints: constraints, Resources: res})
		if len(image) > 0 {
			demand.Slots[len(demand.Slots)-1].Images = [][]string{image}
		}
	}
	demand.Parallelism = record.Document.DAG.Width(func(task string) bool { return tasks[task] })
	return demand, nil
}

// imageOf returns the alternatives of the image that a component runs on Docker; nil if it runs on no Docker.
func imageOf(record *store.JobRecord, c component) ([]string, error) {
	for _, provider := range record.Registry.Entries(c.provider, c.version, c.name) {
		if provider.Device == string(bfia.DeviceDocker) {
			image, err := activities.ImageInJob(record, provider, c.name)
			return image.Alternatives(), err
		}
	}
	return nil, nil
}

// gpuOfLabel returns the number of GPUs that a slot gets because its task requires the label of GPUs: one, if
// an online runner that meets the constraints offers GPUs.
func gpuOfLabel(ctx context.Context, db *store.Store, constraints admission.Constraints) (int64, error) {
	runners, err := db.Runners(ctx, activities.RunnerSilentAfter)
	for _, r := range runners {
		if candidate := r.AdmissionRunner(); r.GPU > 0 && candidate.Unmet(constraints) == "" {
			return 1, err
		}
	}
	return 0, err
}

// constraintsOf returns what a part of a task requires of its runner.
func constraintsOf(record *store.JobRecord, p taskPart) (admission.Constraints, error) {
	constraints, err := providerConstraints(record.Registry, p.component)
	if err != nil {
		return admission.Constraints{}, err
	}
	return addJobConstraints(constraints, record.Document, p)
}

// providerConstraints returns what a component's provider requires of a runner: one of the devices for which
// it was registered, and its labels.
func providerConstraints(registry *store.Registry, c component) (admission.Constraints, error) {
	constraints := admission.Constraints{Labels: map[string]string{}}
	for _, provider := range registry.Entries(c.provider, c.version, c.name) {
		if !slices.Contains(constraints.Devices, provider.Device) {
			constraints.Devices = append(constraints.Devices, provider.Device)
		}
		labels, err := bfia.ProviderConstraints(provider.Metadata)
		if err != nil {
			return constraints, err
		}
		maps.Copy(constraints.Labels, labels)
	}
	return constraints, nil
}

// addJobConstraints adds the labels that the job requires of the runner.
func addJobConstraints(constraints admission.Constraints, doc *bfia.Document,
	p taskPart) (admission.Constraints, error) {
	labels, err := doc.Config.Constraints(p.task, p.part)
	if err != nil {
		return constraints, err
	}
	for k, v := range constraints.Labels {
		if required, found := labels[k]; found && required != v {
			return constraints, bfia.Errorf(
				bfia.CodeBadRequest,
				"config.job_params: %s at %s requires a runner with the label %s=%s, and its provider %s requires %s=%s",
				p.task,
				p.part.Self(),
				k,
				required,
				p.component.provider,
				k,
				v,
			)
		}
		labels[k] = v
	}
	constraints.Labels = labels
	return constraints, nil
}
