package participant

import (
	"context"
	"slices"
	"time"

	"hutong/activities"
	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
)

// Claim is the runner of one part, and the state of a container that has been created for it.
type Claim struct {
	Part     bfia.Part `json:"part"`
	RunnerID string    `json:"runner_id,omitempty"`
	Attempt  int       `json:"attempt"`
	// Begun reports that the container has been created; the part stays on its runner. This and the fields below are set only
	// in a claim that avoids a runner.
	Begun bool `json:"begun,omitempty"`
	// HeartbeatAt is the last heartbeat of the container's runner; zero if the runner is unknown.
	HeartbeatAt time.Time `json:"heartbeat_at,omitzero"`
	// Elsewhere reports that another online runner could run the part.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// Ended is the end of the container, if it is recorded.
	Ended *activities.PartResult `json:"ended,omitempty"`
}

// ClaimTaskInput names the parts of an attempt of a task that need runners.
type ClaimTaskInput struct {
	Task  bfia.TaskRef `json:"task"`
	Parts []bfia.Part  `json:"parts"`
	Copy  int          `json:"copy"`            // of the job's reservation
	Avoid string       `json:"avoid,omitempty"` // a runner that has not started its part
	At    time.Time    `json:"at"`
}

// ClaimTask makes the parts of an attempt of a task RUNNING and returns the runner of each: that of a slot which its job
// has reserved, in the given copy. A slot moves to another runner with free resources if its own is silent, is draining, does
// not meet the task's constraints, or is the one to avoid. A part whose container was created stays on its runner. If no
// runner can run a part, it fails with CodeUnavailable, and the task waits.
func (a *Activities) ClaimTask(ctx context.Context, in ClaimTaskInput) ([]Claim, error) {
	rows, err := a.Store.StartTask(ctx, in.Task.JobID, in.Task.TaskName, in.Task.TaskID, in.Task.AttemptNumber(), in.At)
	if err != nil {
		return nil, activities.Classify(err)
	}
	doc, err := activities.JobDocument(ctx, a.Store, in.Task.JobID)
	if err != nil {
		return nil, activities.Classify(err)
	}
	hosts, err := a.Store.Runners(ctx, in.At.Add(-activities.RunnerSilentAfter))
	if err != nil {
		return nil, activities.Classify(err)
	}
	seats, err := a.Store.ReservedSlots(ctx, in.Task.JobID)
	if err != nil {
		return nil, activities.Classify(err)
	}

	claims := make([]Claim, len(in.Parts))
	for i, part := range in.Parts {
		k := slices.IndexFunc(rows, func(row store.Task) bool { return row.Role == part.Role && row.RoleIndex == part.Index })
		if k < 0 {
			return nil, activities.Classify(bfia.Errorf(bfia.CodeNotFound, "task_name: task %s of job %s has no part %s here",
				in.Task.TaskName, in.Task.JobID, part.Self()))
		}
		row := rows[k]
		needs, err := needsOf(ctx, a.Store, doc, taskPart{row.Name, row.Provider, row.Version, part})
		if err != nil {
			return nil, activities.Classify(err)
		}
		if claims[i], err = a.claimPart(ctx, in, part, row, needs, hosts, seats); err != nil {
			return nil, err
		}
	}

	return claims, nil
}

// claimPart returns the runner of one part.
func (a *Activities) claimPart(ctx context.Context, in ClaimTaskInput, part bfia.Part, row store.Task, needs admission.Constraints,
	hosts []store.Runner, seats []store.ReservedSlot,
) (Claim, error) {
	attempt := in.Task.AttemptNumber()
	if row.ContainerID != "" && row.Attempt == attempt {
		claim, err := a.begun(ctx, row, part, needs, hosts, in.Avoid)

		return claim, activities.Classify(err)
	}

	seat, held := seatOf(seats, in.Copy, part, needs)
	if !held {
		return Claim{}, activities.Refuse(bfia.Errorf(bfia.CodeUnavailable,
			"the job holds no room for %s of %s: the seats were taken from it", part.Self(), row.Name))
	}
	host, err := a.seated(ctx, seat, needs, hosts, in.Avoid, in.At)
	if err != nil {
		return Claim{}, err
	}

	return Claim{Part: part, RunnerID: host, Attempt: attempt}, nil
}

// seatOf is the seat of a copy for a part that needs something of its host. When the part's provider has been registered anew
// since the job got its room, and needs something else now, another seat of that part does: a copy serves one task at a time.
func seatOf(seats []store.ReservedSlot, copy int, part bfia.Part, needs admission.Constraints) (seat store.ReservedSlot, held bool) {
	for _, s := range seats {
		if s.ParallelIndex != copy || s.Role != part.Role || s.RoleIndex != part.Index {
			continue
		}
		if s.Constraints == needs.Key() {
			return s, true
		}
		if !held {
			seat, held = s, true
		}
	}
	return seat, held
}

// begun is the claim of a run that has begun.
func (a *Activities) begun(ctx context.Context, row store.Task, part bfia.Part, needs admission.Constraints, hosts []store.Runner, avoid string) (Claim, error) {
	c := Claim{Part: part, RunnerID: row.RunnerID, Attempt: row.Attempt}
	if avoid == "" {
		return c, nil
	}
	c.Begun, c.Elsewhere = true, slices.ContainsFunc(hosts, func(h store.Runner) bool {
		offer := h.AdmissionRunner()
		return h.RunnerID != row.RunnerID && !h.Draining && offer.Unmet(needs) == ""
	})
	if row.ExitCode != nil {
		c.Ended = &activities.PartResult{Failure: row.Failure}
	}
	var err error
	c.HeartbeatAt, err = a.Store.LastHeartbeat(ctx, row.RunnerID)
	return c, err
}

// seated is the host of a seat, after it has moved where it must.
func (a *Activities) seated(ctx context.Context, seat store.ReservedSlot, needs admission.Constraints, hosts []store.Runner, avoid string, at time.Time) (string, error) {
	unfit := "is not there" // why it can't stay where it is
	if k := slices.IndexFunc(hosts, func(h store.Runner) bool { return h.RunnerID == seat.RunnerID }); k >= 0 {
		unfit = ""
		if offer := hosts[k].AdmissionRunner(); hosts[k].Draining {
			unfit = "is being drained"
		} else if missing := offer.Unmet(needs); missing != "" {
			unfit = "lacks " + missing
		}
	}
	if unfit == "" && seat.RunnerID != avoid {
		return seat.RunnerID, nil
	}
	lack := ""
	moved, err := a.Store.MoveSlot(ctx, seat, admissionTimes(at), func(hosts []admission.Runner) string {
		others := slices.DeleteFunc(hosts, func(h admission.Runner) bool { return h.ID == seat.RunnerID || h.ID == avoid })
		if len(others) == 0 {
			lack = "there is no other"
			return ""
		}
		var to []string
		to, lack = admission.Place(others, []admission.Slot{{Role: seat.Role, Index: seat.RoleIndex, Constraints: needs,
			Resources: admission.Resources{CPUMilli: seat.CPUMilli, Memory: seat.Memory, Disk: seat.Disk}}})
		if lack != "" {
			return ""
		}
		return to[0]
	})
	if err != nil {
		return "", activities.Classify(err)
	}
	if lack != "" && unfit != "" {
		return "", activities.Refuse(bfia.Errorf(bfia.CodeUnavailable, "host %s %s, and %s", seat.RunnerID, unfit, lack))
	}
	return moved.RunnerID, nil
}
