package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"hutong/admission"
	"hutong/bfia"
)

// Slot is room that a job holds at this party: for one container at a time, on one host.
type ReservedSlot struct {
	bun.BaseModel `bun:"table:t_seat,alias:s" json:"-"`

	JobID       string `bun:"job_id,pk"`
	Copy        int    `bun:"copy,pk"` // from 0; what one copy has, one task can run with
	Slot        int    `bun:"seat,pk"` // its place among the job's wants
	Role        string `bun:"role"`
	RoleIndex   int    `bun:"role_index"`
	Constraints string `bun:"needs"` // [admission.Constraints.Key]
	RunnerID    string `bun:"host_id"`
	CPUMilli    int64  `bun:"cpu_milli"`
	Memory      int64  `bun:"memory"`
	Disk        int64  `bun:"disk"`
}

// AdmissionRequest is what a job asks of this party before it starts.
type ReservationRequest struct {
	bun.BaseModel `bun:"table:t_application,alias:a" json:"-"`

	JobID         string           `bun:"job_id,pk"`
	SchedulerNode string           `bun:"scheduler_node"`
	InitiatorNode string           `bun:"initiator_node"`
	FlowID        string           `bun:"flow_id"`
	Priority      int              `bun:"priority"`
	CreatedAt     time.Time        `bun:"created_at"` // of the job, as its scheduler tells
	Since         time.Time        `bun:"since"`      // it has been denied
	AskedAt       time.Time        `bun:"asked_at"`   // for the last time
	Wants         admission.Demand `bun:"wants"`
}

var _ bun.AfterScanRowHook = (*ReservationRequest)(nil)

// AfterScanRow puts the times into UTC.
func (a *ReservationRequest) AfterScanRow(context.Context) error {
	stamps(&a.CreatedAt, &a.Since, &a.AskedAt)
	return nil
}

// AdmissionJob is the application in the eyes of the queue.
func (a ReservationRequest) AdmissionJob() admission.Job {
	return admission.Job{JobID: a.JobID, Initiator: a.InitiatorNode, Flow: a.FlowID, Priority: a.Priority, Created: a.CreatedAt}
}

// AdmissionRequest is it in the eyes of a party.
func (a ReservationRequest) AdmissionRequest() admission.Request {
	return admission.Request{Job: a.AdmissionJob(), Demand: a.Wants}
}

// ReservationView is what an application is decided on: what there is, who has it, and who waits for it, the oldest first.
type ReservationView struct {
	Hosts   []admission.Runner
	Running []admission.Job
	Seats   int
	Waiting []ReservationRequest
}

// ReservationTimes are from when on hosts and applications count.
type ReservationTimes struct {
	Now, HostsSince, AskedSince time.Time
}

// Reserve puts an application to decide, in one transaction with what it is decided on, and keeps the outcome: the seats, or
// that it waits. A job that has ended is CodeConflict. decide answers the hosts of the seats, copy by copy, or none. A job
// that holds seats already keeps those, and decide is not asked. waited tells that it waits no more: what was kept for it,
// and it has not taken, may be for others.
func (s *Store) Reserve(ctx context.Context, app ReservationRequest, times ReservationTimes, decide func(ReservationView) (hosts []string)) (granted []ReservedSlot, waited bool, err error) {
	if err := checkText("scheduler", app.SchedulerNode, "initiator", app.InitiatorNode, "flow_id", app.FlowID); err != nil {
		return nil, false, err
	}
	app.CreatedAt, app.AskedAt = orNow(app.CreatedAt), orNow(times.Now)
	app.Since = app.AskedAt
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		granted, waited = nil, false
		if err := lock(ctx, tx); err != nil {
			return err
		}
		if err := tx.NewSelect().Model(&granted).Where("job_id = ?", app.JobID).Order("copy", "seat").Scan(ctx); err != nil || len(granted) > 0 {
			return err
		}
		ended, err := tx.NewSelect().Model((*Job)(nil)).Where("job_id = ?", app.JobID).Where("state IN (?)", bun.List(terminalJobs)).Exists(ctx)
		if err != nil {
			return err
		}
		if ended {
			return bfia.Errorf(bfia.CodeConflict, "job_id: job %q has ended", app.JobID)
		}
		view, err := admissionView(ctx, tx, app.JobID, times)
		if err != nil {
			return err
		}
		if view.Waiting, err = waiting(ctx, tx, app.JobID, times.AskedSince); err != nil {
			return err
		}
		hosts := decide(view)
		if len(hosts) == 0 {
			_, err := tx.NewInsert().Model(&app).On("CONFLICT (job_id) DO UPDATE").
				Set("asked_at = EXCLUDED.asked_at, priority = EXCLUDED.priority, wants = EXCLUDED.wants").Exec(ctx)
			return err
		}
		for i, host := range hosts {
			k := i % len(app.Wants.Slots)
			w := app.Wants.Slots[k]
			granted = append(granted, ReservedSlot{JobID: app.JobID, Copy: i / len(app.Wants.Slots), Slot: k, Role: w.Role, RoleIndex: w.Index,
				Constraints: w.Constraints.Key(), RunnerID: host, CPUMilli: w.CPUMilli, Memory: w.Memory, Disk: w.Disk})
		}
		if _, err := tx.NewInsert().Model(&granted).Exec(ctx); err != nil {
			return err
		}
		waited, err = endWaiting(ctx, tx, app.JobID)
		return err
	})
	if missingParent(err) {
		return nil, false, bfia.Wrap(bfia.CodeNotFound, err, "job_id: job %q is not known", app.JobID)
	}
	return granted, waited, fail(err, "admit job %s", app.JobID)
}

// ReservationView is what applications are decided on. It is read row by row: what others change meanwhile may be in it or not.
func (s *Store) ReservationView(ctx context.Context, times ReservationTimes) (ReservationView, error) {
	view, err := admissionView(ctx, s.r, "", times)
	if err == nil {
		view.Waiting, err = waiting(ctx, s.r, "", times.AskedSince)
	}
	return view, fail(err, "read the room")
}

// endWaiting removes a job from those that wait, and tells whether it was among them.
func endWaiting(ctx context.Context, tx bun.Tx, jobID string) (waited bool, err error) {
	n, err := affected(tx.NewDelete().Model((*ReservationRequest)(nil)).Where("job_id = ?", jobID).Exec(ctx))
	return n > 0, err
}

func waiting(ctx context.Context, db bun.IDB, but string, since time.Time) (rows []ReservationRequest, err error) {
	err = db.NewSelect().Model(&rows).Where("asked_at >= ?", stamp(since)).Where("job_id <> ?", but).Order("created_at", "job_id").Scan(ctx)
	return rows, err
}

// lock makes transactions that decide over the same room, or over the same queue, follow one another.
func lock(ctx context.Context, tx bun.Tx) error {
	row := deployment{One: 1, ID: uuid.NewString()}
	_, err := tx.NewInsert().Model(&row).On("CONFLICT (one) DO UPDATE").Set("one = EXCLUDED.one").Exec(ctx)
	return err
}

// admissionView reads hosts with what is taken of them, and the jobs that hold seats, but for one job.
func admissionView(ctx context.Context, db bun.IDB, jobID string, times ReservationTimes) (ReservationView, error) {
	var view ReservationView
	var hosts []Runner
	if err := db.NewSelect().Model(&hosts).Where("seen_at >= ? AND slots > 0", stamp(times.HostsSince)).Order("host_id").Scan(ctx); err != nil {
		return view, err
	}
	var taken []struct {
		HostID                 string
		Seats                  int
		CPUMilli, Memory, Disk int64
	}
	if err := db.NewSelect().Model((*ReservedSlot)(nil)).ColumnExpr("host_id, COUNT(*) AS seats").
		ColumnExpr("CAST(SUM(cpu_milli) AS BIGINT) AS cpu_milli, CAST(SUM(memory) AS BIGINT) AS memory, CAST(SUM(disk) AS BIGINT) AS disk").
		Group("host_id").Scan(ctx, &taken); err != nil {
		return view, err
	}
	for _, h := range hosts {
		a := h.Admission()
		for _, t := range taken {
			if t.HostID == h.RunnerID {
				a.UsedSlots, a.Used = t.Seats, admission.Resources{CPUMilli: t.CPUMilli, Memory: t.Memory, Disk: t.Disk}
			}
		}
		view.Hosts = append(view.Hosts, a)
	}
	for _, t := range taken {
		view.Seats += t.Seats
	}
	var running []Job
	err := db.NewSelect().Model(&running).Column("job_id", "flow_id", "initiator_node", "created_at").
		Where("job_id <> ?", jobID).Where("job_id IN (?)", db.NewSelect().Model((*ReservedSlot)(nil)).Column("job_id")).Order("job_id").Scan(ctx)
	for _, j := range running {
		view.Running = append(view.Running, admission.Job{JobID: j.JobID, Initiator: j.InitiatorNode, Flow: j.FlowID, Created: j.CreatedAt})
	}
	return view, err
}

// ReleaseReservation gives back all seats of a job, and its place among those that wait.
func (s *Store) ReleaseReservation(ctx context.Context, jobID string) error {
	return fail(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := endWaiting(ctx, tx, jobID); err != nil {
			return err
		}
		_, err := tx.NewDelete().Model((*ReservedSlot)(nil)).Where("job_id = ?", jobID).Exec(ctx)
		return err
	}), "release the seats of job %s", jobID)
}

// ReservedSlots are what a job holds at this party, copy by copy.
func (s *Store) ReservedSlots(ctx context.Context, jobID string) ([]ReservedSlot, error) {
	var seats []ReservedSlot
	err := s.r.NewSelect().Model(&seats).Where("job_id = ?", jobID).Order("copy", "seat").Scan(ctx)
	return seats, fail(err, "read the seats of job %s", jobID)
}

// WaitingRequests are the applications that have been asked for since a time and wait for room, the oldest first.
func (s *Store) WaitingRequests(ctx context.Context, since time.Time) ([]ReservationRequest, error) {
	rows, err := waiting(ctx, s.r, "", since)
	return rows, fail(err, "list applications")
}

// MoveSlot puts a seat on another host that has room for it and that is not to be avoided: choose answers which. It is
// asked in one transaction with what it is told. moved is the seat as it is then; a seat that is gone is CodeNotFound.
func (s *Store) MoveSlot(ctx context.Context, seat ReservedSlot, times ReservationTimes, choose func([]admission.Runner) string) (moved ReservedSlot, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		if err := one(ctx, tx.NewSelect().Where("job_id = ? AND copy = ? AND seat = ?", seat.JobID, seat.Copy, seat.Slot), &moved,
			"job_id: seat %d.%d of job %q", seat.Copy, seat.Slot, seat.JobID); err != nil {
			return err
		}
		view, err := admissionView(ctx, tx, seat.JobID, times)
		if err != nil {
			return err
		}
		host := choose(view.Hosts)
		if host == "" || host == moved.RunnerID {
			return nil
		}
		moved.RunnerID = host
		_, err = tx.NewUpdate().Model(&moved).Column("host_id").WherePK().Exec(ctx)
		return err
	})
	return moved, fail(err, "move a seat of job %s", seat.JobID)
}

// EndedWithReservation are jobs that ended before, and hold seats all the same, each once.
func (s *Store) EndedWithReservation(ctx context.Context, before time.Time) ([]string, error) {
	var ids []string
	err := s.r.NewSelect().Model((*Job)(nil)).Column("job_id").Where("ended_at < ?", stamp(before)).
		Where("job_id IN (?)", s.r.NewSelect().Model((*ReservedSlot)(nil)).Column("job_id")).Order("job_id").Scan(ctx, &ids)
	return ids, fail(err, "list jobs that have ended and hold seats")
}
