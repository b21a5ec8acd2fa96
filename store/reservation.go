package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"hutong/admission"
	"hutong/bfia"
)

// SlotIndex is room that a job holds at this party: for one container at a time, on one host.
type ReservedSlot struct {
	bun.BaseModel `bun:"table:t_reservation,alias:s" json:"-"`

	JobID         string `bun:"job_id,pk"`
	ParallelIndex int    `bun:"parallel_index,pk"` // from 0; what one copy has, one task can run with
	SlotIndex     int    `bun:"slot_index,pk"`     // its place among the job's wants
	Role          string `bun:"role"`
	RoleIndex     int    `bun:"role_index"`
	Constraints   string `bun:"constraints"` // [admission.Constraints.Key]
	RunnerID      string `bun:"runner_id"`
	CPUMilli      int64  `bun:"cpu_milli"`
	Memory        int64  `bun:"memory"`
	Disk          int64  `bun:"disk"`
}

// AdmissionRequest is what a job asks of this party before it starts.
type ReservationRequest struct {
	bun.BaseModel `bun:"table:t_reservation_request,alias:a" json:"-"`

	JobID         string           `bun:"job_id,pk"`
	SchedulerNode string           `bun:"scheduler_node"`
	InitiatorNode string           `bun:"initiator_node"`
	FlowID        string           `bun:"flow_id"`
	Priority      int              `bun:"priority"`
	CreatedAt     time.Time        `bun:"created_at"`    // of the job, as its scheduler tells
	WaitingSince  time.Time        `bun:"waiting_since"` // it has been denied
	RequestedAt   time.Time        `bun:"requested_at"`  // for the last time
	Demand        admission.Demand `bun:"demand"`
}

var _ bun.AfterScanRowHook = (*ReservationRequest)(nil)

// AfterScanRow puts the times into UTC.
func (a *ReservationRequest) AfterScanRow(context.Context) error {
	truncateTimes(&a.CreatedAt, &a.WaitingSince, &a.RequestedAt)
	return nil
}

// AdmissionJob is the application in the eyes of the queue.
func (a ReservationRequest) AdmissionJob() admission.Job {
	return admission.Job{JobID: a.JobID, Initiator: a.InitiatorNode, Flow: a.FlowID, Priority: a.Priority, Created: a.CreatedAt}
}

// AdmissionRequest is it in the eyes of a party.
func (a ReservationRequest) AdmissionRequest() admission.Request {
	return admission.Request{Job: a.AdmissionJob(), Demand: a.Demand}
}

// ReservationView is what an application is decided on: what there is, who has it, and who waits for it, the oldest first.
type ReservationView struct {
	Runners   []admission.Runner
	Holders   []admission.Job
	UsedSlots int
	Waiting   []ReservationRequest
}

// ReservationTimes are from when on hosts and applications count.
type ReservationTimes struct {
	Now, HeartbeatSince, RequestedSince time.Time
}

// Reserve puts an application to decide, in one transaction with what it is decided on, and keeps the outcome: the seats, or
// that it waits. A job that has ended is CodeConflict. decide answers the hosts of the seats, copy by copy, or none. A job
// that holds seats already keeps those, and decide is not asked. waited tells that it waits no more: what was kept for it,
// and it has not taken, may be for others.
func (s *Store) Reserve(ctx context.Context, app ReservationRequest, times ReservationTimes, decide func(ReservationView) (hosts []string)) (granted []ReservedSlot, waited bool, err error) {
	if err := checkText("scheduler", app.SchedulerNode, "initiator", app.InitiatorNode, "flow_id", app.FlowID); err != nil {
		return nil, false, err
	}
	app.CreatedAt, app.RequestedAt = timeOrNow(app.CreatedAt), timeOrNow(times.Now)
	app.WaitingSince = app.RequestedAt
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		granted, waited = nil, false
		if err := lockAdmission(ctx, tx); err != nil {
			return err
		}
		if err := tx.NewSelect().Model(&granted).Where("job_id = ?", app.JobID).Order("parallel_index", "slot_index").Scan(ctx); err != nil || len(granted) > 0 {
			return err
		}
		ended, err := tx.NewSelect().Model((*Job)(nil)).Where("job_id = ?", app.JobID).Where("state IN (?)", bun.List(terminalJobs)).Exists(ctx)
		if err != nil {
			return err
		}
		if ended {
			return bfia.Errorf(bfia.CodeConflict, "job_id: job %q has ended", app.JobID)
		}
		view, err := readView(ctx, tx, app.JobID, times)
		if err != nil {
			return err
		}
		if view.Waiting, err = waitingRequests(ctx, tx, app.JobID, times.RequestedSince); err != nil {
			return err
		}
		hosts := decide(view)
		if len(hosts) == 0 {
			_, err := tx.NewInsert().Model(&app).On("CONFLICT (job_id) DO UPDATE").
				Set("requested_at = EXCLUDED.requested_at, priority = EXCLUDED.priority, demand = EXCLUDED.demand").Exec(ctx)
			return err
		}
		for i, host := range hosts {
			k := i % len(app.Demand.Slots)
			w := app.Demand.Slots[k]
			granted = append(granted, ReservedSlot{JobID: app.JobID, ParallelIndex: i / len(app.Demand.Slots), SlotIndex: k, Role: w.Role, RoleIndex: w.Index,
				Constraints: w.Constraints.Key(), RunnerID: host, CPUMilli: w.CPUMilli, Memory: w.Memory, Disk: w.Disk})
		}
		if _, err := tx.NewInsert().Model(&granted).Exec(ctx); err != nil {
			return err
		}
		waited, err = deleteRequest(ctx, tx, app.JobID)
		return err
	})
	if isMissingParent(err) {
		return nil, false, bfia.Wrap(bfia.CodeNotFound, err, "job_id: job %q is not known", app.JobID)
	}
	return granted, waited, wrap(err, "admit job %s", app.JobID)
}

// ReservationView is what applications are decided on. It is read row by row: what others change meanwhile may be in it or not.
func (s *Store) ReservationView(ctx context.Context, times ReservationTimes) (ReservationView, error) {
	view, err := readView(ctx, s.r, "", times)
	if err == nil {
		view.Waiting, err = waitingRequests(ctx, s.r, "", times.RequestedSince)
	}
	return view, wrap(err, "read the room")
}

// deleteRequest removes a job from those that wait, and tells whether it was among them.
func deleteRequest(ctx context.Context, tx bun.Tx, jobID string) (waited bool, err error) {
	n, err := affected(tx.NewDelete().Model((*ReservationRequest)(nil)).Where("job_id = ?", jobID).Exec(ctx))
	return n > 0, err
}

func waitingRequests(ctx context.Context, db bun.IDB, but string, since time.Time) (rows []ReservationRequest, err error) {
	err = db.NewSelect().Model(&rows).Where("requested_at >= ?", truncateTime(since)).Where("job_id <> ?", but).Order("created_at", "job_id").Scan(ctx)
	return rows, err
}

// lock makes transactions that decide over the same room, or over the same queue, follow one another.
func lockAdmission(ctx context.Context, tx bun.Tx) error {
	row := deployment{Singleton: 1, ID: uuid.NewString()}
	_, err := tx.NewInsert().Model(&row).On("CONFLICT (singleton) DO UPDATE").Set("singleton = EXCLUDED.singleton").Exec(ctx)
	return err
}

// readView reads hosts with what is taken of them, and the jobs that hold seats, but for one job.
func readView(ctx context.Context, db bun.IDB, jobID string, times ReservationTimes) (ReservationView, error) {
	var view ReservationView
	var hosts []Runner
	if err := db.NewSelect().Model(&hosts).Where("heartbeat_at >= ? AND slots > 0", truncateTime(times.HeartbeatSince)).Order("runner_id").Scan(ctx); err != nil {
		return view, err
	}
	taken, err := readUsedResources(ctx, db)
	if err != nil {
		return view, err
	}
	for _, h := range hosts {
		a := h.AdmissionRunner()
		for _, t := range taken {
			if t.RunnerID == h.RunnerID {
				a.UsedSlots, a.Used = t.Slots, admission.Resources{CPUMilli: t.CPUMilli, Memory: t.Memory, Disk: t.Disk}
			}
		}
		view.Runners = append(view.Runners, a)
	}
	for _, t := range taken {
		view.UsedSlots += t.Slots
	}
	var running []Job
	err = db.NewSelect().Model(&running).Column("job_id", "flow_id", "initiator_node", "created_at").
		Where("job_id <> ?", jobID).Where("job_id IN (?)", db.NewSelect().Model((*ReservedSlot)(nil)).Column("job_id")).Order("job_id").Scan(ctx)
	for _, j := range running {
		view.Holders = append(view.Holders, admission.Job{JobID: j.JobID, Initiator: j.InitiatorNode, Flow: j.FlowID, Created: j.CreatedAt})
	}
	return view, err
}

// ReleaseReservation gives back all seats of a job, and its place among those that wait.
func (s *Store) ReleaseReservation(ctx context.Context, jobID string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := deleteRequest(ctx, tx, jobID); err != nil {
			return err
		}
		_, err := tx.NewDelete().Model((*ReservedSlot)(nil)).Where("job_id = ?", jobID).Exec(ctx)
		return err
	}), "release the seats of job %s", jobID)
}

// ReservedSlots are what a job holds at this party, copy by copy.
func (s *Store) ReservedSlots(ctx context.Context, jobID string) ([]ReservedSlot, error) {
	var seats []ReservedSlot
	err := s.r.NewSelect().Model(&seats).Where("job_id = ?", jobID).Order("parallel_index", "slot_index").Scan(ctx)
	return seats, wrap(err, "read the seats of job %s", jobID)
}

// WaitingRequests are the applications that have been asked for since a time and wait for room, the oldest first.
func (s *Store) WaitingRequests(ctx context.Context, since time.Time) ([]ReservationRequest, error) {
	rows, err := waitingRequests(ctx, s.r, "", since)
	return rows, wrap(err, "list applications")
}

// MoveSlot puts a seat on another host that has room for it and that is not to be avoided: choose answers which. It is
// asked in one transaction with what it is told. moved is the seat as it is then; a seat that is gone is CodeNotFound.
func (s *Store) MoveSlot(ctx context.Context, seat ReservedSlot, times ReservationTimes, choose func([]admission.Runner) string) (moved ReservedSlot, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := lockAdmission(ctx, tx); err != nil {
			return err
		}
		if err := selectOne(ctx, tx.NewSelect().Where("job_id = ? AND parallel_index = ? AND slot_index = ?", seat.JobID, seat.ParallelIndex, seat.SlotIndex), &moved,
			"job_id: seat %d.%d of job %q", seat.ParallelIndex, seat.SlotIndex, seat.JobID); err != nil {
			return err
		}
		view, err := readView(ctx, tx, seat.JobID, times)
		if err != nil {
			return err
		}
		host := choose(view.Runners)
		if host == "" || host == moved.RunnerID {
			return nil
		}
		moved.RunnerID = host
		_, err = tx.NewUpdate().Model(&moved).Column("runner_id").WherePK().Exec(ctx)
		return err
	})
	return moved, wrap(err, "move a seat of job %s", seat.JobID)
}

// EndedJobsWithReservation are jobs that ended before, and hold seats all the same, each once.
func (s *Store) EndedJobsWithReservation(ctx context.Context, before time.Time) ([]string, error) {
	var ids []string
	err := s.r.NewSelect().Model((*Job)(nil)).Column("job_id").Where("ended_at < ?", truncateTime(before)).
		Where("job_id IN (?)", s.r.NewSelect().Model((*ReservedSlot)(nil)).Column("job_id")).Order("job_id").Scan(ctx, &ids)
	return ids, wrap(err, "list jobs that have ended and hold seats")
}
