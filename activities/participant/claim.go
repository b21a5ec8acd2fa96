package participant

import (
	"context"
	"slices"
	"strings"
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
	// ContainerCreated reports that the container has been created; the part stays on its runner. This and
	// the fields below are set only in a claim that avoids a runner.
	ContainerCreated bool `json:"container_created,omitempty"`
	// SilentFor is the time since the last heartbeat of the container's runner; negative if the runner is
	// unknown.
	SilentFor time.Duration `json:"silent_for,omitempty"`
	// OtherRunnerOnline reports that another online runner could run the part.
	OtherRunnerOnline bool `json:"other_runner_online,omitempty"`
	// Ended is the end of the container, if it is recorded.
	Ended *activities.PartResult `json:"ended,omitempty"`
	// Reported is the end that the container has reported, if its runner may not have passed it on.
	Reported bfia.TaskState `json:"reported,omitempty"`
}

// ClaimTaskInput names the parts of an attempt of a task that need runners.
type ClaimTaskInput struct {
	Task          bfia.TaskRef `json:"task"`
	Parts         []bfia.Part  `json:"parts"`
	ParallelIndex int          `json:"parallel_index"`    // the set of the reservation's slots that the task uses
	Avoid         string       `json:"avoid,omitempty"`   // a runner that has not started its part
	Lacking       []string     `json:"lacking,omitempty"` // runners that turned out to lack the image
	// StartsJob makes the job RUNNING as well.
	StartsJob bool      `json:"starts_job,omitempty"`
	At        time.Time `json:"at"`
}

// isCause reports whether a failure that the scheduler reports can have ended an attempt: another party's
// part of the job has failed so that the task starts again. Of its own parts this party knows better.
func (a *Activities) isCause(f *bfia.Failure, record *store.JobRecord) bool {
	return f.Retryable() && f.NodeID != a.Node && slices.ContainsFunc(record.Document.Config.Parts(),
		func(p bfia.Part) bool { return p.NodeID == f.NodeID && p.Self() == f.Role })
}

// ClaimTask makes the parts of an attempt of a task RUNNING and returns the runner of each. The runners are
// those of the slots in one set of the job's reservation, given by in.ParallelIndex. A slot moves to another
// runner with free resources if its own is silent, is draining, does not meet the task's constraints, or is
// the one to avoid. A part whose container was created stays on its runner. If no runner can run a part, it
// fails with CodeUnavailable, and the task waits. A job whose reservation is gone fails with CodeConflict.
func (a *Activities) ClaimTask(ctx context.Context, in ClaimTaskInput) ([]Claim, error) {
	if in.StartsJob {
		if err := a.Store.UpdateJob(ctx, in.Task.JobID, bfia.JobRunning, "", in.At); err != nil {
			return nil, activities.Classify(err)
		}
	}
	rows, err := a.Store.StartTask(ctx, in.Task.JobID, in.Task.TaskName, in.Task.TaskID,
		in.Task.AttemptNumber(), in.At)
	if err != nil {
		return nil, activities.Classify(err)
	}
	record, err := activities.JobRecord(ctx, a.Store, in.Task.JobID)
	if err != nil {
		return nil, activities.Classify(err)
	}
	if a.isCause(in.Task.Lost, record) {
		if err := a.Store.ExplainAttempt(ctx, in.Task); err != nil {
			return nil, activities.Classify(err)
		}
	}
	runners, err := a.Store.Runners(ctx, activities.RunnerSilentAfter)
	if err != nil {
		return nil, activities.Classify(err)
	}
	slots, err := a.Store.ReservedSlots(ctx, in.Task.JobID)
	if err != nil {
		return nil, activities.Classify(err)
	}

	claims := make([]Claim, len(in.Parts))
	for i, part := range in.Parts {
		k := slices.IndexFunc(rows, func(row store.Task) bool {
			return row.Role == part.Role &&
				row.RoleIndex == part.Index
		})
		if k < 0 {
			return nil, activities.Classify(bfia.Errorf(bfia.CodeNotFound,
				"task_name: task %s of job %s has no part %s here",
				in.Task.TaskName, in.Task.JobID, part.Self()))
		}
		row := rows[k]
		constraints, err := constraintsOf(record,
			taskPart{row.Name, component{row.Provider, row.Version, row.Component}, part})
		if err != nil {
			return nil, activities.Classify(err)
		}
		image, err := imageOf(record, component{row.Provider, row.Version, row.Component})
		if err != nil {
			return nil, activities.Classify(err)
		}
		needs := requirements{Constraints: constraints, image: image}
		if claims[i], err = a.claimPart(ctx, in, part, row, needs, runners, slots); err != nil {
			return nil, err
		}
	}

	return claims, nil
}

// requirements is what a part requires of its runner.
type requirements struct {
	admission.Constraints
	image []string // its alternatives; nil if it runs on no Docker
}

// claimPart returns the runner of one part.
func (a *Activities) claimPart(ctx context.Context, in ClaimTaskInput, part bfia.Part, row store.Task,
	needs requirements, runners []store.Runner, slots []store.ReservedSlot,
) (Claim, error) {
	attempt, constraints := in.Task.AttemptNumber(), needs.Constraints
	if row.ContainerID != "" && row.Attempt == attempt {
		claim, err := a.claimCreated(ctx, row, part, constraints, runners, in.Avoid)

		return claim, activities.Classify(err)
	}

	slot, found := slotFor(slots, in.ParallelIndex, part, constraints)
	if !found {
		// Nobody would reserve it again.
		return Claim{}, activities.Refuse(bfia.Errorf(bfia.CodeConflict,
			"the job has no reserved slot for %s of %s: its reservation was released", part.Self(), row.Name))
	}
	runnerID, err := a.placeSlot(ctx, slot, needs, runners, in)
	if err != nil {
		return Claim{}, err
	}

	return Claim{Part: part, RunnerID: runnerID, Attempt: attempt}, nil
}

// slotFor returns the slot of a part with the given constraints, in one set of the reservation.
func slotFor(slots []store.ReservedSlot, parallelIndex int, part bfia.Part,
	constraints admission.Constraints) (slot store.ReservedSlot, found bool) {
	i := slices.IndexFunc(slots, func(s store.ReservedSlot) bool {
		return s.ParallelIndex == parallelIndex && s.Role == part.Role && s.RoleIndex == part.Index &&
			s.Constraints == constraints.Key()
	})
	if i < 0 {
		return slot, false
	}
	return slots[i], true
}

// claimCreated returns the claim of a part whose container was created: it stays on its runner.
func (a *Activities) claimCreated(ctx context.Context, row store.Task, part bfia.Part,
	constraints admission.Constraints, runners []store.Runner, avoid string) (Claim, error) {
	c := Claim{Part: part, RunnerID: row.RunnerID, Attempt: row.Attempt}
	if avoid == "" {
		return c, nil
	}
	c.ContainerCreated, c.OtherRunnerOnline = true, slices.ContainsFunc(runners, func(r store.Runner) bool {
		candidate := r.AdmissionRunner()
		return r.RunnerID != row.RunnerID && !r.Draining && candidate.Unmet(constraints) == ""
	})
	c.Reported = row.Reported()
	if row.ExitCode != nil {
		c.Ended = &activities.PartResult{Failure: row.Failure}
	}
	silence, found, err := a.Store.RunnerSilence(ctx, row.RunnerID)
	if c.SilentFor = silence; !found {
		c.SilentFor = -1
	}
	return c, err
}

// placeSlot returns the runner of a slot. It moves the slot if its runner is unfit, lacks the image while
// another one has it, or is the one to avoid. If every runner that could run the part lacks its image, it
// returns CodeNotFound.
func (a *Activities) placeSlot(ctx context.Context, slot store.ReservedSlot, needs requirements,
	runners []store.Runner, in ClaimTaskInput) (string, error) {
	wanted := admission.Slot{Role: slot.Role, Index: slot.RoleIndex, Constraints: needs.Constraints,
		Resources: bfia.Resources{CPUMilli: slot.CPUMilli, Memory: slot.Memory, Disk: slot.Disk,
			GPU: slot.GPU}}
	if len(needs.image) > 0 {
		wanted.Images = [][]string{needs.image}
	}

	unfit := unfitness(slot.RunnerID, runners, wanted, in.Lacking)
	if unfit == "" && slot.RunnerID != in.Avoid {
		return slot.RunnerID, nil
	}
	if len(in.Lacking) > 0 && !slices.ContainsFunc(runners, func(r store.Runner) bool {
		candidate := r.AdmissionRunner()
		return !r.Draining && !slices.Contains(in.Lacking, r.RunnerID) &&
			candidate.Unmet(needs.Constraints) == ""
	}) {
		return "", activities.Refuse(bfia.Errorf(bfia.CodeNotFound, "no other runner could have the image %s",
			strings.Join(needs.image, " or ")))
	}

	unmet := ""
	moved, err := a.Store.MoveSlot(ctx, slot, reservationTimes(in.At),
		func(runners []admission.Runner) string {
			others := slices.DeleteFunc(runners, func(r admission.Runner) bool {
				return r.ID == slot.RunnerID || r.ID == in.Avoid || slices.Contains(in.Lacking, r.ID)
			})
			if len(others) == 0 {
				unmet = "no other runner is online"
				return ""
			}
			var to []string
			if to, unmet = admission.Place(others, []admission.Slot{wanted}); unmet != "" {
				return ""
			}
			return to[0]
		})
	if err != nil {
		return "", activities.Classify(err)
	}
	if unmet != "" && unfit != "" {
		return "", activities.Refuse(bfia.Errorf(bfia.CodeUnavailable, "runner %s %s, and %s",
			slot.RunnerID, unfit, unmet))
	}
	return moved.RunnerID, nil
}

// unfitness returns why a runner can't run a part, or "".
func unfitness(runnerID string, runners []store.Runner, wanted admission.Slot, lacking []string) string {
	if slices.Contains(lacking, runnerID) {
		return "lacks the image " + strings.Join(slices.Concat(wanted.Images...), " or ")
	}
	k := slices.IndexFunc(runners, func(r store.Runner) bool { return r.RunnerID == runnerID })
	if k < 0 {
		return "is offline"
	}
	own := runners[k].AdmissionRunner()
	if own.Draining {
		return "is draining"
	}
	if missing := own.Unmet(wanted.Constraints); missing != "" {
		return "lacks " + missing
	}
	candidates := make([]admission.Runner, len(runners))
	for i, r := range runners {
		candidates[i] = r.AdmissionRunner()
	}

	return admission.LacksImage(candidates, k, wanted)
}
