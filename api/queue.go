package api

import (
	"context"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// applyForRoom answers a scheduler's application for a job's room at this party; see [bfia.ReserveRequest].
func (s *Server) applyForRoom(c *fiber.Ctx) error {
	var apply bfia.ReserveRequest
	if err := s.readJSON(c, &apply); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", apply.JobID); err != nil {
		return err
	}
	if err := bfia.CheckPriority(apply.Priority); err != nil {
		return err
	}
	if err := checkRound(apply.Generation); err != nil {
		return err
	}
	job, err := s.jobCommandedBy(c.UserContext(), s.sender(c), apply.JobID)
	if err != nil {
		return err
	}
	if err := s.approved(job); err != nil {
		return err
	}
	// A scheduler whose clock is ahead, or that would like to have waited for ages, waits since the job came here.
	if apply.Created.IsZero() || apply.Created.After(job.CreatedAt) || apply.Created.Before(job.CreatedAt.Add(-clockTolerance)) {
		apply.Created = job.CreatedAt
	}
	var grant bfia.Grant
	gone, err := s.update(c.UserContext(), workflows.PartyJobID(apply.JobID), workflows.UpdateReserve, apply, &grant)
	if err != nil {
		return err
	}
	if gone {
		grant = bfia.Grant{State: bfia.JobFinished, Reason: "the job has ended at " + s.Node}
	}
	return ok(c, grant)
}

func checkRound(round int) error {
	if round < 0 || round > bfia.MaxGeneration {
		return bfia.Errorf(bfia.CodeBadRequest, "round: %d is not between 0 and %d", round, bfia.MaxGeneration)
	}
	return nil
}

// clockTolerance is how far a scheduler's clock may be behind.
const clockTolerance = 5 * time.Minute

// returnRoom takes back what was granted, since another party had no room.
func (s *Server) returnRoom(c *fiber.Ctx) error {
	var back bfia.ReleaseRequest
	if err := s.readJSON(c, &back); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", back.JobID); err != nil {
		return err
	}
	if err := checkRound(back.Generation); err != nil {
		return err
	}
	if _, err := s.jobCommandedBy(c.UserContext(), s.sender(c), back.JobID); err != nil {
		return err
	}
	if _, err := s.update(c.UserContext(), workflows.PartyJobID(back.JobID), workflows.UpdateRelease, back, nil); err != nil {
		return err
	}
	return ok(c, nil) // what has ended holds nothing
}

// roomFree takes a party's word that a job scheduled here may find room there now.
func (s *Server) roomFree(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	job, err := s.store.ScheduleJob(c.UserContext(), ref.JobID)
	if err != nil {
		return unknownJob(err, ref.JobID, s.Node)
	}
	if sender := s.sender(c); sender != "" && !slices.Contains(job.ParticipantNodes, sender) {
		return bfia.Errorf(bfia.CodeForbidden, "%s takes no part in job %s", sender, ref.JobID)
	}
	if job.State == bfia.JobReady {
		if _, err := s.signal(c.UserContext(), workflows.JobID(ref.JobID), workflows.SignalQueueChanged, nil); err != nil {
			return err
		}
	}
	return ok(c, nil)
}

// changePriority changes, for the job's initiator, the priority of a job that waits for its start here.
func (s *Server) changePriority(c *fiber.Ctx) error {
	change, err := s.readPriority(c)
	if err != nil {
		return err
	}
	job, err := s.store.ScheduleJob(c.UserContext(), change.JobID)
	if err != nil {
		return unknownJob(err, change.JobID, s.Node)
	}
	if sender := s.sender(c); sender != "" && sender != job.InitiatorNode && sender != s.Node {
		return bfia.Errorf(bfia.CodeForbidden, "%s is not the initiator of job %s", sender, change.JobID)
	}
	if job.State != bfia.JobPending && job.State != bfia.JobReady {
		return bfia.Errorf(bfia.CodeConflict, "priority: job %s is %s; only what waits can be moved", change.JobID, job.State)
	}
	gone, err := s.update(c.UserContext(), workflows.JobID(change.JobID), workflows.UpdatePriority, change.Priority, nil)
	if err != nil {
		return err
	}
	if gone {
		return bfia.Errorf(bfia.CodeConflict, "priority: job %s has ended", change.JobID)
	}
	return ok(c, nil)
}

// platformPriority is the same for this party's own users; where another node schedules the job, that one is asked.
func (s *Server) platformPriority(c *fiber.Ctx) error {
	change, err := s.readPriority(c)
	if err != nil {
		return err
	}
	scheduler, err := s.schedulerOf(c.UserContext(), change.JobID)
	if err != nil {
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
	return change, bfia.CheckPriority(change.Priority)
}

// schedulerOf is the node that schedules a job which is known here.
func (s *Server) schedulerOf(ctx context.Context, jobID string) (string, error) {
	if _, err := s.store.ScheduleJob(ctx, jobID); bfia.CodeOf(err) != bfia.CodeNotFound {
		return s.Node, err
	}
	job, err := s.store.Job(ctx, jobID)
	return job.SchedulerNode, unknownJob(err, jobID, s.Node)
}

// place is where a job stands in this scheduler's queue; nil when it does not wait there.
func (s *Server) place(ctx context.Context, job store.ScheduleJob) (*bfia.Queued, error) {
	if job.State != bfia.JobReady || job.QueuedAt == nil {
		return nil, nil
	}
	q, err := s.store.Queue(ctx)
	if err != nil {
		return nil, err
	}
	q.Node, q.Limits = s.Node, s.Limits
	for _, t := range q.Statuses(time.Now()) {
		if t.JobID == job.JobID {
			return &bfia.Queued{Priority: job.Priority, Position: t.Position, Total: len(q.Waiting), Reason: t.Reason, Since: job.QueuedAt}, nil
		}
	}
	return nil, nil // it has just started
}
