package participant

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
)

// hintLimit bounds the retries of a capacity hint. The scheduler polls later anyway.
const hintLimit = 10 * time.Second

// reservation is what a job holds at this party: the slots of one task, as many times as its parallelism.
type reservation struct {
	mutex      workflow.Mutex // held while a reservation or a release is under way
	granted    bool
	busy       []bool // by parallel index: whether a task runs there
	generation int    // of the scheduler's last request
	denied     string // why it was denied, if it was
	// deniedSince is the first denial since the last grant.
	deniedSince time.Time
	hinted      bool // a capacity hint came since it was denied
	hints       int  // sent, for their activity ids
	// hinting holds the waiting jobs whose scheduler gets a hint just now; true means that another one
	// follows.
	hinting map[participant.Waiting]bool
}

func newReservation(ctx workflow.Context) reservation {
	return reservation{mutex: workflow.NewMutex(ctx), hinting: map[participant.Waiting]bool{}}
}

// lock waits until no reservation or release is under way.
func (r *reservation) lock(ctx workflow.Context) { _ = r.mutex.Lock(ctx) }

// reserve handles the scheduler's reservation request (see [bfia.ReserveRequest]).
func (j *job) reserve(ctx workflow.Context, request bfia.ReserveRequest) (bfia.Grant, error) {
	j.silence.heard++
	ctx = workflows.Disconnect(ctx, nil)
	_ = workflow.Await(ctx, func() bool { return j.created })
	workflows.DrainSignals(ctx)
	j.reservation.lock(ctx)
	defer j.reservation.mutex.Unlock()

	switch {
	case j.stoppedBy != "":
		reason := "the job was stopped here by " + j.stoppedBy

		return bfia.Grant{State: bfia.JobFinished, Reason: reason}, nil
	case j.state == bfia.JobPending:
		return bfia.Grant{}, workflows.Refuse(bfia.CodeConflict, "the job waits for its approval here")
	case j.FateFlow: // FATE-Flow has no generations, and repeats its request
		return j.reserveLocked(ctx, j.unaskedRequest())
	case request.Generation < j.reservation.generation:
		return bfia.Grant{State: j.state, Generation: j.reservation.generation,
			Reason: "a later reservation request of the job has been answered"}, nil
	}

	j.reservation.generation = request.Generation

	return j.reserveLocked(ctx, participant.ReserveInput{JobID: j.Plan.JobID, Scheduler: j.Scheduler,
		Priority: request.Priority, Created: request.Created})
}

// reserveAtCreation handles a reservation request that came with job/create. It has the same effect as one
// that comes next, also if it is repeated. A job that waits for its approval reserves nothing.
func (j *job) reserveAtCreation(ctx workflow.Context, request *bfia.ReserveRequest) *bfia.Grant {
	if request == nil || j.state == bfia.JobPending {
		return nil
	}

	grant, err := j.reserve(ctx, *request)
	if err != nil {
		// The scheduler releases what may be reserved here, and asks again.
		grant = bfia.Grant{State: j.state, Reason: workflows.Reason(err)}
	}

	return &grant
}

// unaskedRequest is a request of the job itself: no scheduler gets a hint for it.
func (j *job) unaskedRequest() participant.ReserveInput {
	return participant.ReserveInput{JobID: j.Plan.JobID, Priority: j.Plan.Priority, Created: j.createdAt}
}

// reserveLocked asks the party's admission for a reservation.
func (j *job) reserveLocked(ctx workflow.Context, in participant.ReserveInput) (bfia.Grant, error) {
	in.At = workflow.Now(ctx)
	var result participant.ReserveResult
	if err := workflows.Record(ctx, "reserve", act.Reserve, in).Get(ctx, &result); err != nil {
		return result.Grant, err
	}

	j.sendHints(ctx, result.Waiting)
	grant := result.Grant
	if j.reservation.denied == "" {
		j.reservation.deniedSince = in.At
	}
	j.reservation.denied = grant.Reason
	if grant.Granted && !j.reservation.granted {
		j.reservation.granted, j.reservation.busy = true, make([]bool, grant.Parallelism)
	}
	j.describe(ctx)

	return grant, nil
}

// release handles a release by the scheduler: another party has denied its reservation. It also withdraws the
// request of a job that waits here. The reservation of a later generation stays.
func (j *job) release(ctx workflow.Context, request bfia.ReleaseRequest) error {
	j.silence.heard++
	ctx = workflows.Disconnect(ctx, nil)
	_ = workflow.Await(ctx, func() bool { return j.created })
	// The same release again, or the next request, waits: what this one releases late would not be its own.
	j.reservation.lock(ctx)
	defer j.reservation.mutex.Unlock()

	if !j.FateFlow && request.Generation < j.reservation.generation || j.state != bfia.JobReady {
		return nil
	}
	j.reservation.granted, j.reservation.busy, j.reservation.denied = false, nil, ""
	j.describe(ctx)
	j.reservation.generation = request.Generation + 1 // fences late requests of this generation

	return j.releaseLocked(ctx, "")
}

// releaseLocked releases the reservation and sends capacity hints to jobs that wait for one. If the job ended
// without success, ended holds the reason; see [participant.Activities.ReleaseReservation].
func (j *job) releaseLocked(ctx workflow.Context, ended string) error {
	var waiting []participant.Waiting
	in := participant.ReleaseReservationInput{JobID: j.Plan.JobID, At: workflow.Now(ctx), Ended: ended}
	err := workflows.Record(ctx, "release the reservation", act.ReleaseReservation, in).Get(ctx, &waiting)
	if err != nil {
		return err
	}
	j.sendHints(ctx, waiting)

	return nil
}

// releaseAtEnd releases the reservation of a job of which nothing runs any more. It does so even if the job
// knows of no request: the workflow task that sent one may have been lost before it completed.
func (j *job) releaseAtEnd(ctx workflow.Context, ended string) {
	j.reservation.lock(ctx)
	defer j.reservation.mutex.Unlock()

	if err := j.releaseLocked(ctx, ended); err != nil {
		j.logger.Error("failed to release the reservation; housekeeping releases it", "error", err)
	}
}

// sendHints hints to jobs that wait for a reservation here that they may be granted one.
func (j *job) sendHints(ctx workflow.Context, waiting []participant.Waiting) {
	for _, w := range waiting {
		if w.Scheduler == "" { // it polls on its own behalf, see reserveUnasked
			j.active++
			id := workflows.ParticipantJobID(w.JobID)
			f := workflow.SignalExternalWorkflow(ctx, id, "", workflows.SignalCapacityHint, nil)
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer func() { j.active-- }()
				_ = f.Get(ctx, nil)
			})

			continue
		}
		if _, hinting := j.reservation.hinting[w]; hinting {
			j.reservation.hinting[w] = true // more was released since

			continue
		}

		j.reservation.hinting[w] = false
		j.active++
		f := j.sendHint(ctx, w)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer func() { j.active-- }()
			for again := true; again; {
				_ = f.Get(ctx, nil) // on a failure, the scheduler polls later
				if again = j.reservation.hinting[w]; again {
					j.reservation.hinting[w] = false
					f = j.sendHint(ctx, w)
				}
			}
			delete(j.reservation.hinting, w)
		})
	}
}

// sendHint hints to one scheduler that its job may be granted a reservation here.
func (j *job) sendHint(ctx workflow.Context, w participant.Waiting) workflow.Future {
	j.reservation.hints++
	id := fmt.Sprintf("hint to %s for %s (%d)", w.Scheduler, w.JobID, j.reservation.hints)

	return workflows.SendLocalFirst(workflows.WithoutWaits(ctx), id, hintLimit, act.SendCapacityHint,
		participant.SendCapacityHintInput{Node: w.Scheduler, JobID: w.JobID})
}

// receiveCapacityHints receives hints that the party may grant the job a reservation: one was released, or a
// runner is online. If the scheduler asks for reservations, it passes the hint on.
func (j *job) receiveCapacityHints(ctx workflow.Context) {
	for workflow.GetSignalChannel(ctx, workflows.SignalCapacityHint).Receive(ctx, nil) {
		j.reservation.hinted = true
		waits := j.reservation.generation > 0 && j.reservation.denied != "" && j.state == bfia.JobReady
		if waits && !j.FateFlow {
			j.sendHints(ctx, []participant.Waiting{{JobID: j.Plan.JobID, Scheduler: j.Scheduler}})
		}
	}
}

// reserveUnasked polls for a reservation for a job whose scheduler starts it without asking for one, as
// FATE-Flow does. The job's tasks wait for it.
func (j *job) reserveUnasked(ctx workflow.Context) {
	wait := workflows.FirstPoll
	for polls := 1; !j.reservation.granted && j.stoppedBy == ""; polls++ {
		j.reservation.hinted = false
		j.reservation.lock(ctx)
		_, err := j.reserveLocked(ctx, j.unaskedRequest())
		j.reservation.mutex.Unlock()
		if err != nil {
			j.logger.Error("failed to reserve", "reason", workflows.Reason(err))
			j.reservation.denied = workflows.Reason(err)
		}

		j.describe(ctx)
		if workflows.AwaitFor(ctx, wait, func() bool {
			return j.reservation.granted || j.reservation.hinted || j.stoppedBy != ""
		}) {
			wait = workflows.FirstPoll / 2 // doubled before the next wait
		}
		wait = workflows.NextPoll(wait, polls)
	}
}

// waitForSlot describes the wait of a part for the reservation, or for a free slot of it.
func (j *job) waitForSlot() *bfia.Waiting {
	r := &j.reservation
	waiting := bfia.WaitForSlot(j.Node, len(r.busy), time.Time{})
	if !r.granted {
		waiting = bfia.WaitForResources(j.Node, "the job has no reservation yet", time.Time{})
	}

	return &waiting
}

// occupy waits until the reservation has free slots for one more task, or over returns true. It returns the
// task's parallel index, and a function that vacates it.
func (j *job) occupy(ctx workflow.Context, parts []*taskPart, over func() bool) (index int, vacate func()) {
	r := &j.reservation
	for free := false; !free && !over(); {
		granted := r.granted
		if free = granted && slices.Contains(r.busy, false); !free {
			j.wait(ctx, parts, j.waitForSlot())
			_ = workflow.Await(ctx, func() bool {
				return over() || r.granted != granted || r.granted && slices.Contains(r.busy, false)
			})
		}
	}
	index = slices.Index(r.busy, false)
	if over() || index < 0 {
		return 0, func() {}
	}
	r.busy[index] = true
	j.wait(ctx, parts, nil) // after it has taken the slot, since another task may run meanwhile

	return index, func() { r.busy[index] = false }
}
