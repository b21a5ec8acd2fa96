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
	for other := range f.granted {
		if other >= node {
			f.breaks("%s was asked for a reservation while %s holds one", node, other)
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
	if f.granted[node] != back.Generation && !f.waitsAt[node] {
		f.breaks("%s got the release of generation %d, and granted %d", node, back.Generation,
			f.granted[node])
	}
	delete(f.granted, node)
	delete(f.waitsAt, node)
	f.queue = append(f.queue, "release "+node)
	return nil
}
