package api

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/workflows"
)

// reserve answers a scheduler's request for a job's reservation at this party; see [bfia.ReserveRequest].
func (s *Server) reserve(c *fiber.Ctx) error {
	var req bfia.ReserveRequest
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	if err := req.Check(); err != nil {
		return err
	}
	job, err := s.jobFor(c.UserContext(), s.sender(c), bfia.VerbReserve, req.JobID)
	if err != nil {
		return err
	}
	if err := s.checkApproved(job); err != nil {
		return err
	}
	correctCreated(&req, job.CreatedAt)
	var grant bfia.Grant
	gone, err := s.update(c.UserContext(), workflows.ParticipantJobID(req.JobID), workflows.UpdateReserve,
		req, &grant)
	if err != nil {
		return err
	}
	if gone {
		grant = bfia.Grant{State: bfia.JobFinished, Reason: "the job has ended at " + s.Node}
	}
	return ok(c, grant)
}

// correctCreated replaces a creation time from a wrong clock, or one that claims an age, by the job's arrival
// at this party.
func correctCreated(req *bfia.ReserveRequest, arrived time.Time) {
	if req.Created.IsZero() || req.Created.After(arrived) ||
		req.Created.Before(arrived.Add(-clockTolerance)) {
		req.Created = arrived
	}
}

// repeatGrant answers the reservation request of a repeated job/create after the job has started: its
// scheduler may have lost the first answer. It returns nil if there is none, so the scheduler asks again.
func (s *Server) repeatGrant(ctx context.Context, job store.Job, request *bfia.ReserveRequest) *bfia.Grant {
	if request == nil || job.State != bfia.JobRunning {
		return nil
	}
	correctCreated(request, job.CreatedAt)
	var grant bfia.Grant
	gone, err := s.update(ctx, workflows.ParticipantJobID(job.JobID), workflows.UpdateReserve, *request,
		&grant)
	if err != nil {
		s.logger.Info("failed to repeat the grant of a job that runs", "job_id", job.JobID, "error", err)
	}
	if gone || err != nil {
		return nil
	}
	return &grant
}

// clockTolerance bounds how far a scheduler's clock may be behind.
const clockTolerance = 5 * time.Minute

// release takes back what was granted, since another party denied its part of the reservation.
func (s *Server) release(c *fiber.Ctx) error {
	var req bfia.ReleaseRequest
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", req.JobID); err != nil {
		return err
	}
	if err := bfia.CheckGeneration(req.Generation); err != nil {
		return err
	}
	if _, err := s.jobFor(c.UserContext(), s.sender(c), bfia.VerbRelease, req.JobID); err != nil {
		return err
	}
	if _, err := s.update(c.UserContext(), workflows.ParticipantJobID(req.JobID), workflows.UpdateRelease,
		req, nil); err != nil {
		return err
	}
	return ok(c, nil) // a job that has ended holds nothing
}

// capacityHint accepts a participant's hint that it would grant a queued job's request now.
func (s *Server) capacityHint(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	sender := s.sender(c)
	job, err := s.scheduledJobFor(c.UserContext(), sender, bfia.VerbCapacityHint, ref.JobID)
	if err != nil {
		return err
	}
	// A hint too many is dropped: the job asks again anyway.
	id := workflows.SchedulerJobID(ref.JobID)
	if job.State == bfia.JobReady && s.signals.allow(id+" "+sender) {
		if _, err := s.signal(c.UserContext(), id, workflows.SignalQueueChanged, nil); err != nil {
			return err
		}
	}
	return ok(c, nil)
}

// changePriority changes the priority of a job in this scheduler's queue, for the job's initiator.
func (s *Server) changePriority(c *fiber.Ctx) error {
	change, err := s.readPriority(c)
	if err != nil {
		return err
	}
	job, err := s.scheduledJobFor(c.UserContext(), s.sender(c), bfia.VerbPriority, change.JobID)
	if err != nil {
		return err
	}
	if job.State != bfia.JobPending && job.State != bfia.JobReady {
		return bfia.Errorf(bfia.CodeConflict,
			"priority: job %s is %s; only a job that has not started can be moved", change.JobID, job.State)
	}
	gone, err := s.update(c.UserContext(), workflows.SchedulerJobID(change.JobID), workflows.UpdatePriority,
		change.Priority, nil)
	if err != nil {
		return err
	}
	if gone {
		return bfia.Errorf(bfia.CodeConflict, "priority: job %s has ended", change.JobID)
	}
	return ok(c, nil)
}

// platformPriority does the same for this party's own users. It asks the job's scheduler if that is another
// party.
func (s *Server) platformPriority(c *fiber.Ctx) error {
	change, err := s.readPriority(c)
	if err != nil {
		return err
	}
	scheduler, err := s.schedulerOf(c.UserContext(), change.JobID)
	if err != nil {
		return err
	}
	if err := s.recordAct(c.UserContext()); err != nil {
		return err
	}
	if err := s.remote.Priority(c.UserContext(), scheduler, change); err != nil {
		return partnerError(err, "the scheduler")
	}
	return ok(c, nil)
}

func (s *Server) readPriority(c *fiber.Ctx) (bfia.SetPriority, error) {
	var change bfia.SetPriority
	if err := s.readJSON(c, &change); err != nil {
		return change, err
	}
	if err := bfia.CheckID("job_id", change.JobID); err != nil {
		return change, err
	}
	on(c.UserContext(), audit.Job, change.JobID)
	return change, bfia.CheckPriority(change.Priority)
}

// schedulerOf returns the node that schedules a job which this party knows.
func (s *Server) schedulerOf(ctx context.Context, jobID string) (string, error) {
	if _, err := s.store.ScheduleJob(ctx, jobID); bfia.CodeOf(err) != bfia.CodeNotFound {
		return s.Node, err
	}
	job, err := s.store.Job(ctx, jobID)
	return job.SchedulerNode, unknownJob(err, jobID, s.Node)
}

// queuePosition returns a job's position in this scheduler's queue, or nil if it is not queued.
func (s *Server) queuePosition(ctx context.Context, job store.ScheduleJob) (*bfia.Queued, error) {
	positions, err := s.queuePositions(ctx, []store.ScheduleJob{job})
	return positions.of(job), err
}
