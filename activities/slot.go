package activities

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
)

// errNoSlot is a try that was cancelled while it waited for a slot.
var errNoSlot = errors.New("cancelled before a slot was free")

// slot waits until a run has room on this host. A slot is held from before the container's creation to its end, not
// longer: what an activity does before and after overlaps with the containers of others. A run that has begun already has
// its room, whether or not the slots know.
func (r *Runs) slot(ctx context.Context, begun bool) (release func(), err error) {
	free := func() { r.Slots.Release(1) }
	if r.Slots.TryAcquire(1) {
		return sync.OnceFunc(free), nil
	}
	if begun {
		return func() {}, nil
	}
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	acquired := make(chan error, 1)
	go func() { acquired <- r.Slots.Acquire(waiting, 1) }()
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for {
		select {
		case err := <-acquired:
			if err != nil {
				return nil, fmt.Errorf("waiting for a slot: %w", err)
			}
			return sync.OnceFunc(free), nil
		case <-beat.C:
			activity.RecordHeartbeat(ctx)
			continue
		case <-activity.GetWorkerStopChannel(ctx):
			err = errors.New("the worker is shutting down; another takes the run")
		case <-ctx.Done():
			err = errNoSlot
		}
		cancel()
		if <-acquired == nil { // it came all the same
			free()
		}
		return nil, err
	}
}
