package workflows

import (
	"context"
	"fmt"
	"time"

	"hutong/activities"
	"hutong/bfia"
)

func (f *federation) takeTurn(_ context.Context, _ string, _ time.Time) (activities.QueueState, error) {
	defer f.enter()()
	turn := activities.QueueState{Go: true, Place: 1, Of: 1}
	if f.turn != nil {
		turn = f.turn()
	}
	f.job = f.job.Next(bfia.JobReady)
	f.queue = append(f.queue, fmt.Sprintf("turn %v", turn.Go))
	return turn, nil
}

func (f *federation) endTurn(_ context.Context, _, node, reason string, _ time.Time) ([]string, error) {
	defer f.enter()()
	f.queue = append(f.queue, fmt.Sprintf("waits at %s: %s", node, reason))
	return nil, nil
}

func (f *federation) setPriority(_ context.Context, _ string, priority int, _ time.Time) ([]string, error) {
	defer f.enter()()
	f.queue = append(f.queue, fmt.Sprintf("priority %d", priority))
	return nil, nil
}

func (f *federation) sendApply(_ context.Context, node string, a bfia.ReserveRequest) (bfia.Grant, error) {
	defer f.enter()()
	if f.unreachable != nil && f.unreachable(node) {
		return bfia.Grant{}, errAway
	}
	grant := bfia.Grant{Granted: true, State: bfia.JobReady}
	if f.grant != nil {
		grant = f.grant(node, a.Generation)
	}
	f.queue = append(f.queue, fmt.Sprintf("apply %s %d: %v", node, a.Generation, grant.Granted))
	for other := range f.granted {
		if other >= node {
			f.breaks("%s was asked for room while %s holds some", node, other)
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

func (f *federation) sendReturn(_ context.Context, node string, back bfia.ReleaseRequest) error {
	defer f.enter()()
	if f.granted[node] != back.Generation && !f.waitsAt[node] {
		f.breaks("%s got back round %d, and granted %d", node, back.Generation, f.granted[node])
	}
	delete(f.granted, node)
	delete(f.waitsAt, node)
	f.queue = append(f.queue, "return "+node)
	return nil
}
