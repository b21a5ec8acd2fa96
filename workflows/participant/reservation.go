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

// room is what a job holds at this party: as many copies of its seats, each for one task at a time.
type room struct {
	granted bool
	busy    []bool         // by copy
	mutex   workflow.Mutex // held by a reservation or a release that is under way
	round   int            // of the scheduler's last application
	free    bool           // something got free here since it was last denied
	denied  string         // why it has no room
	hints   int            // told so far
	// telling are those that are being told of room; true: once more after that.
	telling map[participant.Waiting]bool
}

// lock waits until no reservation or release is under way.
func (r *room) lock(ctx workflow.Context) { _ = r.mutex.Lock(ctx) }

// apply answers the scheduler's application for room (see [bfia.ReserveRequest]).
func (p *job) apply(ctx workflow.Context, a bfia.ReserveRequest) (bfia.Grant, error) {
	_ = workflow.Await(ctx, func() bool { return p.created })
	workflows.DrainSignals(ctx)
	p.room.lock(ctx)
	defer p.room.mutex.Unlock()
	switch {
	case p.stopped != "":
		return bfia.Grant{State: bfia.JobFinished, Reason: "the job was stopped here by " + p.stopped}, nil
	case p.state == bfia.JobPending:
		return bfia.Grant{}, workflows.Refuse(bfia.CodeConflict, "the job waits for its approval here")
	case p.FateFlow: // it counts no rounds, and asks again by itself
		return p.admit(ctx, participant.ReserveInput{JobID: p.Plan.JobID, Priority: p.Plan.Priority, Created: p.createdAt})
	case a.Generation < p.room.round:
		return bfia.Grant{State: p.state, Generation: p.room.round, Reason: "a later application of the job has been answered"}, nil
	}
	p.room.round = a.Generation
	return p.admit(ctx, participant.ReserveInput{JobID: p.Plan.JobID, Scheduler: p.Scheduler, Priority: a.Priority, Created: a.Created})
}

// admit asks for room, of this party's own rows.
func (p *job) admit(ctx workflow.Context, req participant.ReserveInput) (bfia.Grant, error) {
	req.At = workflow.Now(ctx)
	var answer participant.ReserveResult
	if err := workflows.Record(ctx, "reserve", act.Reserve, req).Get(ctx, &answer); err != nil {
		return answer.Grant, err
	}
	p.tell(ctx, answer.Waiting)
	grant := answer.Grant
	p.room.denied = grant.Reason
	if grant.Granted && !p.room.granted {
		p.room.granted, p.room.busy = true, make([]bool, grant.Parallelism)
	}
	return grant, nil
}

// giveBack takes back what was granted, since another party had no room, or the job's place among those that wait here. What
// a later application got stays.
func (p *job) giveBack(ctx workflow.Context, back bfia.ReleaseRequest) error {
	_ = workflow.Await(ctx, func() bool { return p.created })
	// The same release once more, or the next request, waits: what this one releases late would not be its own.
	p.room.lock(ctx)
	defer p.room.mutex.Unlock()
	if !p.FateFlow && back.Generation < p.room.round || p.state != bfia.JobReady {
		return nil
	}
	p.room.granted, p.room.busy = false, nil
	p.room.round = back.Generation + 1 // what comes late of this round gets nothing
	return p.release(ctx, "")
}

// release gives the room of the job to others, and tells those that wait; see [activities.Records.Release].
func (p *job) release(ctx workflow.Context, over string) error {
	var waiting []participant.Waiting
	if err := workflows.Record(ctx, "release the reservation", act.ReleaseReservation,
		participant.ReleaseReservationInput{JobID: p.Plan.JobID, At: workflow.Now(ctx), Ended: over}).Get(ctx, &waiting); err != nil {
		return err
	}
	p.tell(ctx, waiting)
	return nil
}

// hintLimit is how long a scheduler is told that one of its jobs may find room: it asks by itself later.
const hintLimit = 10 * time.Second

// tell tells jobs that wait for room here that there may be some.
func (p *job) tell(ctx workflow.Context, waiting []participant.Waiting) {
	for _, w := range waiting {
		if w.Scheduler == "" { // it asks for itself
			p.active++
			f := workflow.SignalExternalWorkflow(ctx, workflows.ParticipantJobID(w.JobID), "", workflows.SignalCapacityHint, nil)
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer func() { p.active-- }()
				_ = f.Get(ctx, nil)
			})
			continue
		}
		if _, telling := p.room.telling[w]; telling {
			p.room.telling[w] = true // once more: more has got free since
			continue
		}
		p.room.telling[w] = false
		p.active++
		f := p.hint(ctx, w)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer func() { p.active-- }()
			for again := true; again; {
				_ = f.Get(ctx, nil) // the scheduler asks by itself later
				if again = p.room.telling[w]; again {
					p.room.telling[w] = false
					f = p.hint(ctx, w)
				}
			}
			delete(p.room.telling, w)
		})
	}
}

// hint tells one scheduler that its job may find room here.
func (p *job) hint(ctx workflow.Context, w participant.Waiting) workflow.Future {
	p.room.hints++
	return workflows.SendLocalFirst(ctx, fmt.Sprintf("tell %s that %s may find room (%d)", w.Scheduler, w.JobID, p.room.hints), hintLimit, act.SendCapacityHint,
		participant.SendCapacityHintInput{Node: w.Scheduler, JobID: w.JobID})
}

// releaseRoom gives back, at the job's end, what it holds; nothing of it runs any more. It does so also when the job knows of
// no application: a step that asked for room may not have counted.
func (p *job) releaseRoom(ctx workflow.Context, over string) {
	p.room.lock(ctx)
	defer p.room.mutex.Unlock()
	if err := p.release(ctx, over); err != nil {
		p.logger.Error("the job's room was not given back; housekeeping does", "error", err)
	}
}

// receiveFree takes the word that there may be room here now: something got free, or a host has come.
func (p *job) receiveFree(ctx workflow.Context) {
	for workflow.GetSignalChannel(ctx, workflows.SignalCapacityHint).Receive(ctx, nil) {
		p.room.free = true
		if p.room.round > 0 && p.room.denied != "" && p.state == bfia.JobReady && !p.FateFlow { // its scheduler asks
			p.tell(ctx, []participant.Waiting{{JobID: p.Plan.JobID, Scheduler: p.Scheduler}})
		}
	}
}

// admitSelf gets room for a job whose scheduler starts it without having asked for any, as FATE-Flow does: its tasks wait
// for it.
func (p *job) admitSelf(ctx workflow.Context) {
	for wait, times := workflows.FirstPoll, 1; !p.room.granted && p.stopped == ""; wait, times = workflows.NextPoll(wait, times), times+1 {
		p.room.free = false
		p.room.lock(ctx)
		_, err := p.admit(ctx, participant.ReserveInput{JobID: p.Plan.JobID, Priority: p.Plan.Priority, Created: p.createdAt})
		p.room.mutex.Unlock()
		if err != nil {
			p.logger.Error("room could not be asked for", "reason", workflows.Reason(err))
			p.room.denied = workflows.Reason(err)
		}
		p.describe(ctx)
		if workflows.AwaitFor(ctx, wait, func() bool { return p.room.granted || p.room.free || p.stopped != "" }) {
			wait = workflows.FirstPoll / 2
		}
	}
}

// takeCopy waits for a copy of the job's room for a task, until over. It answers its number, and what gives it back.
func (p *job) takeCopy(ctx workflow.Context, over func() bool) (copy int, release func()) {
	_ = workflow.Await(ctx, func() bool { return over() || p.room.granted && slices.Contains(p.room.busy, false) })
	copy = slices.Index(p.room.busy, false)
	if over() || copy < 0 {
		return 0, func() {}
	}
	p.room.busy[copy] = true
	return copy, func() { p.room.busy[copy] = false }
}
