package activities

import (
	"context"
	"slices"
	"time"

	"hutong/admission"
	"hutong/bfia"
	"hutong/store"
)

// ClaimTask makes the parts of an attempt of a task RUNNING and tells the host of each, which is that of a seat that its job
// holds: of the given copy. A seat whose host is gone, is drained, lacks what the task needs, or is the one to avoid moves to another that has room. A
// part whose run has begun stays with its host; with a host to avoid the claim tells how it is there. Without a host that
// can run them it fails with CodeUnavailable, and the task waits for one.
func (r *Records) ClaimTask(ctx context.Context, ref bfia.TaskRef, parts []bfia.Part, copy int, avoid string, at time.Time) ([]Claim, error) {
	attempt := ref.AttemptNumber()
	rows, err := r.Store.StartTask(ctx, ref.JobID, ref.TaskName, ref.TaskID, attempt, at)
	if err != nil {
		return nil, final(err)
	}
	doc, err := jobDocument(ctx, r.Store, ref.JobID)
	if err != nil {
		return nil, final(err)
	}
	hosts, err := r.Store.Runners(ctx, at.Add(-hostSeen))
	if err != nil {
		return nil, final(err)
	}
	seats, err := r.Store.ReservedSlots(ctx, ref.JobID)
	if err != nil {
		return nil, final(err)
	}
	claims := make([]Claim, len(parts))
	for i, part := range parts {
		k := slices.IndexFunc(rows, func(row store.Task) bool { return row.Role == part.Role && row.RoleIndex == part.Index })
		if k < 0 {
			return nil, final(bfia.Errorf(bfia.CodeNotFound, "task_name: task %s of job %s has no part %s here", ref.TaskName, ref.JobID, part.Self()))
		}
		row := rows[k]
		needs, err := needsOf(ctx, r.Store, doc, taskPart{row.Name, row.Provider, row.Version, part})
		if err != nil {
			return nil, final(err)
		}
		if row.ContainerID != "" && row.Attempt == attempt {
			if claims[i], err = r.begun(ctx, row, part, needs, hosts, avoid); err != nil {
				return nil, final(err)
			}
			continue
		}
		seat, held := seatOf(seats, copy, part, needs)
		if !held {
			return nil, refused(bfia.Errorf(bfia.CodeUnavailable, "the job holds no room for %s of %s: the seats were taken from it", part.Self(), row.Name))
		}
		host, err := r.seated(ctx, seat, needs, hosts, avoid, at)
		if err != nil {
			return nil, err
		}
		claims[i] = Claim{Part: part, RunnerID: host, Attempt: attempt}
	}
	return claims, nil
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
func (r *Records) begun(ctx context.Context, row store.Task, part bfia.Part, needs admission.Constraints, hosts []store.Runner, avoid string) (Claim, error) {
	c := Claim{Part: part, RunnerID: row.RunnerID, Attempt: row.Attempt}
	if avoid == "" {
		return c, nil
	}
	c.Begun, c.Elsewhere = true, slices.ContainsFunc(hosts, func(h store.Runner) bool {
		a := h.AdmissionRunner()
		return h.RunnerID != row.RunnerID && !h.Draining && a.Unmet(needs) == ""
	})
	if row.ExitCode != nil {
		c.Ended = &PartResult{Failure: row.Failure}
	}
	var err error
	c.HeartbeatAt, err = r.Store.LastHeartbeat(ctx, row.RunnerID)
	return c, err
}

// seated is the host of a seat, after it has moved where it must.
func (r *Records) seated(ctx context.Context, seat store.ReservedSlot, needs admission.Constraints, hosts []store.Runner, avoid string, at time.Time) (string, error) {
	unfit := "is not there" // why it can't stay where it is
	if k := slices.IndexFunc(hosts, func(h store.Runner) bool { return h.RunnerID == seat.RunnerID }); k >= 0 {
		unfit = ""
		if a := hosts[k].AdmissionRunner(); hosts[k].Draining {
			unfit = "is being drained"
		} else if missing := a.Unmet(needs); missing != "" {
			unfit = "lacks " + missing
		}
	}
	if unfit == "" && seat.RunnerID != avoid {
		return seat.RunnerID, nil
	}
	lack := ""
	moved, err := r.Store.MoveSlot(ctx, seat, admissionTimes(at), func(hosts []admission.Runner) string {
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
		return "", final(err)
	}
	if lack != "" && unfit != "" {
		return "", refused(bfia.Errorf(bfia.CodeUnavailable, "host %s %s, and %s", seat.RunnerID, unfit, lack))
	}
	return moved.RunnerID, nil
}
