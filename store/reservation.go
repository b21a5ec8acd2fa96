package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"hutong/admission"
	"hutong/bfia"
)

// ReservedSlot is a slot that a job holds at this party: for one container at a time, on one runner. The
// slots of a job are its reservation.
type ReservedSlot struct {
	bun.BaseModel `bun:"table:t_reservation,alias:s" json:"-"`

	JobID         string `bun:"job_id,pk"`
	ParallelIndex int    `bun:"parallel_index,pk"` // from 0; the slots of one index suffice for one task
	SlotIndex     int    `bun:"slot_index,pk"`     // its position in the demand's list of slots
	Role          string `bun:"role"`
	RoleIndex     int    `bun:"role_index"`
	Constraints   string `bun:"constraints"` // [admission.Constraints.Key]
	RunnerID      string `bun:"runner_id"`
	CPUMilli      int64  `bun:"cpu_milli"`
	Memory        int64  `bun:"memory"`
	Disk          int64  `bun:"disk"`
	GPU           int64  `bun:"gpu"`
}

// ReservationRequest is the demand of a job at this party, before its start.
type ReservationRequest struct {
	bun.BaseModel `bun:"table:t_reservation_request,alias:a" json:"-"`

	JobID         string           `bun:"job_id,pk"`
	SchedulerNode string           `bun:"scheduler_node"`
	InitiatorNode string           `bun:"initiator_node"`
	FlowID        string           `bun:"flow_id"`
	Priority      int              `bun:"priority"`
	CreatedAt     time.Time        `bun:"created_at"`    // of the job, as its scheduler reports
	WaitingSince  time.Time        `bun:"waiting_since"` // the first denial
	RequestedAt   time.Time        `bun:"requested_at"`  // the last request
	Reason        string           `bun:"reason"`        // why the last request was denied
	Demand        admission.Demand `bun:"demand"`
	// Project is that of the job, while there are quotas. Empty: default.
	Project string `bun:"-"`
}

var _ bun.AfterScanRowHook = (*ReservationRequest)(nil)

// AfterScanRow normalizes the times.
func (a *ReservationRequest) AfterScanRow(context.Context) error {
	normalizeTimes(&a.CreatedAt, &a.WaitingSince, &a.RequestedAt)
	return nil
}

// AdmissionJob returns the job of the request, as the scheduler's queue needs it.
func (a ReservationRequest) AdmissionJob() admission.Job {
	return admission.Job{
		JobID:     a.JobID,
		Project:   a.Project,
		Initiator: a.InitiatorNode,
		Flow:      a.FlowID,
		Priority:  a.Priority,
		Created:   a.CreatedAt,
	}
}

// AdmissionRequest returns the request as a party needs it for its decision.
func (a ReservationRequest) AdmissionRequest() admission.Request {
	return admission.Request{Job: a.AdmissionJob(), Demand: a.Demand}
}

// ReservationView is the input of a decision: runners with their use, the jobs that hold reservations, the
// quotas of projects with what their jobs hold, and the waiting requests, the oldest first.
type ReservationView struct {
	// Project is that of the job on whose request the decision is, while there are quotas.
	Project   string
	Quotas    map[string]bfia.ProjectQuota
	Held      map[string]admission.Held
	Runners   []admission.Runner
	Holders   []admission.Job
	UsedSlots int
	Waiting   []ReservationRequest
}

// ReservationTimes says how old the last heartbeat of a runner may be, and since when a waiting request must
// have come to count.
type ReservationTimes struct {
	Now, RequestedSince time.Time
	SilentAfter         time.Duration
}

// Reserve decides on a request and records the outcome, in one transaction with the input of the decision:
// the reserved slots, or that the job waits. decide returns the runners of the slots, ordered by parallel
// index, or none and the reason. A job that holds a reservation keeps it; decide is not called. If the job
// has ended, Reserve returns CodeConflict. waited reports that the job was waiting and no longer is: others
// may now get what the scheduler withheld for it.
func (s *Store) Reserve(ctx context.Context, request ReservationRequest, times ReservationTimes,
	decide func(ReservationView) (runners []string,
		reason string)) (granted []ReservedSlot, waited bool, err error) {
	if err := checkText("scheduler", request.SchedulerNode, "initiator", request.InitiatorNode, "flow_id",
		request.FlowID); err != nil {
		return nil, false, err
	}
	request.CreatedAt, request.RequestedAt = timeOrNow(request.CreatedAt), timeOrNow(times.Now)
	request.WaitingSince = request.RequestedAt
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		granted, waited = nil, false
		if err := lockAdmission(ctx, tx); err != nil {
			return err
		}
		err := tx.NewSelect().Model(&granted).Where("job_id = ?", request.JobID).
			Order("parallel_index", "slot_index").Scan(ctx)
		if err != nil || len(granted) > 0 {
			return err
		}
		ended, err := tx.NewSelect().Model((*Job)(nil)).
			Where("job_id = ? AND state IN (?)", request.JobID, bun.List(terminalJobs)).Exists(ctx)
		if err != nil {
			return err
		}
		if ended {
			return bfia.Errorf(bfia.CodeConflict, "job_id: job %q has ended", request.JobID)
		}
		view, err := s.readView(ctx, tx, request.JobID, times)
		if err != nil {
			return err
		}
		if view.Waiting, err = waitingRequests(ctx, tx, request.JobID, times.RequestedSince); err != nil {
			return err
		}
		if err := view.addQuotas(ctx, tx, request.JobID); err != nil {
			return err
		}
		runners, reason := decide(view)
		if len(runners) == 0 {
			request.Reason = cleanReason(reason)
			_, err := tx.NewInsert().Model(&request).On("CONFLICT (job_id) DO UPDATE").
				Set("requested_at = EXCLUDED.requested_at, priority = EXCLUDED.priority").
				Set("demand = EXCLUDED.demand, reason = EXCLUDED.reason").
				Exec(ctx)
			return err
		}
		granted = reservedSlots(request, runners)
		if _, err := tx.NewInsert().Model(&granted).Exec(ctx); err != nil {
			return err
		}
		waited, err = deleteRequest(ctx, tx, request.JobID)
		return err
	})
	if isMissingParent(err) {
		return nil, false, bfia.Wrap(bfia.CodeNotFound, err, "job_id: job %q is not known", request.JobID)
	}
	return granted, waited, wrap(err, "reserve resources for job %s", request.JobID)
}

// reservedSlots returns the slots of a granted reservation; runners has a runner for each, ordered by
// parallel index.
func reservedSlots(request ReservationRequest, runners []string) []ReservedSlot {
	var reserved []ReservedSlot
	demand := request.Demand.Slots
	for i, runnerID := range runners {
		slot := demand[i%len(demand)]
		reserved = append(reserved, ReservedSlot{
			JobID: request.JobID, ParallelIndex: i / len(demand), SlotIndex: i % len(demand),
			Role: slot.Role, RoleIndex: slot.Index, Constraints: slot.Constraints.Key(), RunnerID: runnerID,
			CPUMilli: slot.CPUMilli, Memory: slot.Memory, Disk: slot.Disk, GPU: slot.GPU,
		})
	}
	return reserved
}

// ReservationView returns the input of decisions. It is not a snapshot: it may or may not contain concurrent
// changes.
func (s *Store) ReservationView(ctx context.Context, times ReservationTimes) (ReservationView, error) {
	view, err := s.readView(ctx, s.r, "", times)
	if err == nil {
		view.Waiting, err = waitingRequests(ctx, s.r, "", times.RequestedSince)
	}
	if err == nil {
		err = view.addQuotas(ctx, s.r, "")
	}
	return view, wrap(err, "read the reservations")
}

// deleteRequest deletes the waiting request of a job, and reports whether there was one.
func deleteRequest(ctx context.Context, tx bun.Tx, jobID string) (waited bool, err error) {
	n, err := affected(tx.NewDelete().Model((*ReservationRequest)(nil)).Where("job_id = ?", jobID).Exec(ctx))
	return n > 0, err
}

func waitingRequests(ctx context.Context, db bun.IDB, except string,
	since time.Time) (rows []ReservationRequest, err error) {
	err = db.NewSelect().
		Model(&rows).
		Where("requested_at >= ?", normalizeTime(since)).
		Where("job_id <> ?", except).
		Order("created_at", "job_id").
		Scan(ctx)
	return rows, err
}

// lockAdmission serialises the transactions that decide on reservations or on the queue.
func lockAdmission(ctx context.Context, tx bun.Tx) error {
	row := deployment{Singleton: 1, ID: uuid.NewString()}
	_, err := tx.NewInsert().
		Model(&row).
		On("CONFLICT (singleton) DO UPDATE").
		Set("singleton = EXCLUDED.singleton").
		Exec(ctx)
	return err
}

// readView reads the runners with their use, and the jobs that hold reservations, except one job.
func (s *Store) readView(ctx context.Context, db bun.IDB, except string,
	times ReservationTimes) (ReservationView, error) {
	var view ReservationView
	runners, err := s.onlineRunners(ctx, db, times.SilentAfter)
	if err != nil {
		return view, err
	}
	used, err := readUsedResources(ctx, db)
	if err != nil {
		return view, err
	}
	for _, h := range runners {
		a := h.AdmissionRunner()
		for _, t := range used {
			if t.RunnerID == h.RunnerID {
				a.UsedSlots, a.Used = t.Slots, bfia.Resources{
					CPUMilli: t.CPUMilli,
					Memory:   t.Memory,
					Disk:     t.Disk,
					GPU:      t.GPU,
				}
			}
		}
		view.Runners = append(view.Runners, a)
	}
	for _, t := range used {
		view.UsedSlots += t.Slots
	}
	var holders []Job
	err = db.NewSelect().Model(&holders).Column("job_id", "flow_id", "initiator_node", "created_at").
		Where("job_id <> ?", except).
		Where("job_id IN (?)", db.NewSelect().Model((*ReservedSlot)(nil)).Column("job_id")).
		Order("job_id").Scan(ctx)
	for _, j := range holders {
		view.Holders = append(view.Holders,
			admission.Job{JobID: j.JobID, Initiator: j.InitiatorNode, Flow: j.FlowID, Created: j.CreatedAt})
	}
	return view, err
}

// ReleaseReservation deletes the reserved slots of a job, and its waiting request.
func (s *Store) ReleaseReservation(ctx context.Context, jobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := deleteRequest(ctx, tx, jobID); err != nil {
			return err
		}
		_, err := tx.NewDelete().Model((*ReservedSlot)(nil)).Where("job_id = ?", jobID).Exec(ctx)
		return err
	}), "release the reservation of job %s", jobID)
}

// ReservedSlots returns the reservation of a job, ordered by parallel index.
func (s *Store) ReservedSlots(ctx context.Context, jobID string) ([]ReservedSlot, error) {
	var slots []ReservedSlot
	err := s.r.NewSelect().
		Model(&slots).
		Where("job_id = ?", jobID).
		Order("parallel_index", "slot_index").
		Scan(ctx)
	return slots, wrap(err, "read the reservation of job %s", jobID)
}

// WaitingRequests returns the waiting requests that were repeated since a time, the oldest first.
func (s *Store) WaitingRequests(ctx context.Context, since time.Time) ([]ReservationRequest, error) {
	rows, err := waitingRequests(ctx, s.r, "", since)
	return rows, wrap(err, "list reservation requests")
}

// MoveSlot moves a reserved slot to another runner. choose gets the runners with their use, in one
// transaction with the move, and returns one of them, or "" to leave the slot. MoveSlot returns the slot as
// it is then, or CodeNotFound if it no longer exists.
func (s *Store) MoveSlot(ctx context.Context, slot ReservedSlot, times ReservationTimes,
	choose func([]admission.Runner) string) (moved ReservedSlot, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := lockAdmission(ctx, tx); err != nil {
			return err
		}
		if err := selectOne(ctx, tx.NewSelect().
			Where("job_id = ? AND parallel_index = ? AND slot_index = ?", slot.JobID, slot.ParallelIndex,
				slot.SlotIndex), &moved,
			"job_id: slot %d.%d of job %q", slot.ParallelIndex, slot.SlotIndex, slot.JobID); err != nil {
			return err
		}
		view, err := s.readView(ctx, tx, slot.JobID, times)
		if err != nil {
			return err
		}
		runnerID := choose(view.Runners)
		if runnerID == "" || runnerID == moved.RunnerID {
			return nil
		}
		moved.RunnerID = runnerID
		_, err = tx.NewUpdate().Model(&moved).Column("runner_id").WherePK().Exec(ctx)
		return err
	})
	return moved, wrap(err, "move a slot of job %s", slot.JobID)
}

// EndedJobsWithReservation returns the jobs that ended before a time and still hold a reservation, each once.
func (s *Store) EndedJobsWithReservation(ctx context.Context, before time.Time) ([]string, error) {
	var ids []string
	err := s.r.NewSelect().Model((*Job)(nil)).Column("job_id").Where("ended_at < ?", normalizeTime(before)).
		Where("job_id IN (?)", s.r.NewSelect().Model((*ReservedSlot)(nil)).Column("job_id")).
		Order("job_id").Scan(ctx, &ids)
	return ids, wrap(err, "list ended jobs with a reservation")
}
