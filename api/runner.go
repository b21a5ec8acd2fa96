package api

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/activities"
	"hutong/admission"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/workflows"
)

// queryRunners lists this party's runners.
func (s *Server) queryRunners(c *fiber.Ctx) error {
	if _, err := s.params(c); err != nil {
		return err
	}
	uses, err := s.store.RunnerUses(c.UserContext())
	if err != nil {
		return err
	}
	now, err := s.store.Now(c.UserContext())
	if err != nil {
		return err
	}
	runners := make([]bfia.Runner, len(uses))
	for i, u := range uses {
		runners[i] = runnerOf(u, now)
	}
	return ok(c, runners)
}

// runnerOf returns a runner as clients see it.
func runnerOf(u store.RunnerUse, now time.Time) bfia.Runner {
	r := bfia.Runner{RunnerID: u.RunnerID, Devices: u.Devices, Labels: u.Labels, Draining: u.Draining,
		HeartbeatAt: u.HeartbeatAt, ClockSkew: float64(u.ClockSkewMS) / 1000, Running: u.RunningParts,
		Total: bfia.RunnerCapacity{Slots: u.Slots,
			Resources: bfia.Resources{CPUMilli: u.CPUMilli, Memory: u.Memory, Disk: u.Disk, GPU: u.GPU}},
		Used: bfia.RunnerCapacity{Slots: u.UsedSlots,
			Resources: bfia.Resources{CPUMilli: u.UsedCPUMilli, Memory: u.UsedMemory, Disk: u.UsedDisk,
				GPU: u.UsedGPU}}}
	switch {
	case u.Deregistered:
		r.State = bfia.RunnerDeregistered
	case now.Sub(u.HeartbeatAt) > activities.RunnerSilentAfter:
		r.State = bfia.RunnerSilent
	case u.Draining && u.RunningParts == 0:
		r.State = bfia.RunnerDrained
	case u.Draining:
		r.State = bfia.RunnerDraining
	default:
		r.State = bfia.RunnerOnline
	}
	return r
}

// RunnerState returns the state of a runner at a time by the database's clock.
func RunnerState(u store.RunnerUse, now time.Time) string { return string(runnerOf(u, now).State) }

// drainRunner starts or ends the draining of a runner. Containers that run there continue.
func (s *Server) drainRunner(c *fiber.Ctx) error {
	var body bfia.DrainRunner
	if err := s.readJSON(c, &body); err != nil {
		return err
	}
	if body.RunnerID == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "runner_id: is required")
	}
	if body.Draining == nil {
		return bfia.Errorf(bfia.CodeBadRequest, "draining: is required, true or false")
	}
	on(c.UserContext(), audit.Runner, body.RunnerID)
	if err := s.store.DrainRunner(c.UserContext(), body.RunnerID, *body.Draining); err != nil {
		return err
	}
	s.logger.Info("runner's draining changed", "runner_id", body.RunnerID, "draining", *body.Draining)
	if *body.Draining {
		return ok(c, nil)
	}
	waiting, err := s.store.WaitingRequests(c.UserContext(), time.Now().Add(-admission.RequestTTL))
	if err != nil {
		return err
	}
	for _, a := range waiting[:min(len(waiting), activities.MaxHints)] {
		if _, err := s.signal(c.UserContext(), workflows.ParticipantJobID(a.JobID),
			workflows.SignalCapacityHint, nil); err != nil {
			return err
		}
	}
	return ok(c, nil)
}
