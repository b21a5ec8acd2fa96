package scheduler

import (
	"context"
	"fmt"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows/internal/flowtest"
)

func (f *fakeParties) enqueue(_ context.Context, _ scheduler.EnqueueInput) (scheduler.QueueState, error) {
	defer f.enter()()
	turn := scheduler.QueueState{MayReserve: true}
	if f.turn != nil {
		turn = f.turn()
	}
	f.job = f.job.Next(bfia.JobReady)
	f.queue = append(f.queue, fmt.Sprintf("may reserve %v", turn.MayReserve))
	return turn, nil
}

func (f *fakeParties) requeue(_ context.Context, in scheduler.RequeueInput) ([]string, error) {
	defer f.enter()()
	f.queue = append(f.queue, fmt.Sprintf("waits at %s: %s", in.Node, in.Reason))
	return nil, nil
}

func (f *fakeParties) setPriority(_ context.Context, in scheduler.SetPriorityInput) ([]string, error) {
	defer f.enter()()
	f.queue = append(f.queue, fmt.Sprintf("priority %d", in.Priority))
	return nil, nil
}

// reserveAtCreation answers a reservation request that came with job/create. An older party does not know it,
// and one that must approve the job does not reserve.
func (f *fakeParties) reserveAtCreation(in scheduler.SendCreateInput) *bfia.Grant {
	accepted := f.accepted[in.Node]
	if in.Reserve != nil && !f.asks {
		f.breaks("%s was asked to reserve at the creation", in.Node)
	}
	if in.Reserve == nil || !accepted.Reservations || accepted.State == bfia.JobPending {
		return nil
	}
	if in.Reserve.JobID != f.in.Plan.JobID || in.Reserve.Generation != 1 || in.Reserve.Created.IsZero() {
		f.breaks("%s got the request %+v with the creation", in.Node, in.Reserve)
	}
	grant := &bfia.Grant{Granted: true, State: bfia.JobReady}
	if f.creates != nil {
		grant = f.creates(in.Node)
	}
	switch {
	case grant == nil:
	case grant.Granted:
		f.granted[in.Node] = in.Reserve.Generation
	case !grant.State.Terminal():
		f.waitsAt[in.Node] = true
	}
	return grant
}

func (f *fakeParties) sendReserve(_ context.Context, in scheduler.SendReserveInput) (bfia.Grant, error) {
	node, a := in.Node, in.Request
	defer f.enter()()
	if f.unreachable != nil && f.unreachable(node) {
		return bfia.Grant{}, flowtest.ErrAway
	}
	grant := bfia.Grant{Granted: true, State: bfia.JobReady}
	if f.grant != nil {
		grant = f.grant(node, a.Generation)
	}
	f.queue = append(f.queue, fmt.Sprintf("reserve %s %d: %v", node, a.Generation, grant.Granted))
	for other, generation := range f.granted {
		if other == node && f.errors["release "+node] != nil {
			continue // the release of an earlier generation is on its way
		}
		if other >= node {
			f.breaks("%s was asked for a reservation while %s holds one", node, other)
		}
		if generation < a.Generation && f.grant == nil {
			f.breaks("%s was asked in generation %d while %s holds one of %d", node, a.Generation, other,
				generation)
		}
	}
	delete(f.waitsAt, node)
	if grant.Granted {
		f.granted[node] = a.Generation
	} else {
		f.waitsAt[node] = true
	}
	return grant, nil
}

func (f *fakeParties) sendRelease(_ context.Context, in scheduler.SendReleaseInput) error {
	node, back := in.Node, in.Request
	defer f.enter()()
	if err := f.errors["release "+node]; err != nil {
		return err
	}
	if f.granted[node] > back.Generation {
		return nil // it is late
	}
	if f.granted[node] != back.Generation && !f.waitsAt[node] {
		f.breaks("%s got the release of generation %d, and granted %d", node, back.Generation,
			f.granted[node])
	}
	delete(f.granted, node)
	delete(f.waitsAt, node)
	f.queue = append(f.queue, "release "+node)
	return nil
}
