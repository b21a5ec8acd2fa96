package transport

import (
	"context"
	"slices"
	"sync"
)

// lane is what keeps its order on the way to a partner.
type lane struct{ session, topic, target string }

// turns lets one at a time into a lane, in the order of arrival.
type turns struct {
	mu    sync.Mutex
	lanes map[lane][]chan struct{}
}

// take waits for the lane; leave must follow unless it returns ctx's error.
func (t *turns) take(ctx context.Context, l lane) error {
	t.mu.Lock()
	if t.lanes == nil {
		t.lanes = make(map[lane][]chan struct{})
	}
	line, taken := t.lanes[l]
	if !taken {
		t.lanes[l] = nil
		t.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	t.lanes[l] = append(line, turn)
	t.mu.Unlock()

	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	if i := slices.Index(t.lanes[l], turn); i >= 0 {
		t.lanes[l] = slices.Delete(t.lanes[l], i, i+1)
		t.mu.Unlock()
		return ctx.Err()
	}
	t.mu.Unlock()
	t.leave(l) // the turn came at the same moment
	return ctx.Err()
}

func (t *turns) leave(l lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := t.lanes[l]
	if len(line) == 0 {
		delete(t.lanes, l)
		return
	}
	close(line[0])
	t.lanes[l] = slices.Delete(line, 0, 1)
}
