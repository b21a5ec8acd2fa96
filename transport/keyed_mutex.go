package transport

import (
	"context"
	"slices"
	"sync"
)

// forwardKey identifies the pushes to a partner that must keep their order.
type forwardKey struct{ session, topic, target string }

// keyedMutex is a mutex for each key. Waiters of a key are served first in, first out.
type keyedMutex struct {
	mu      sync.Mutex
	waiting map[forwardKey][]chan struct{} // has an entry for each locked key
}

// lock locks a key. unlock must follow, unless lock returns ctx's error.
func (k *keyedMutex) lock(ctx context.Context, key forwardKey) error {
	k.mu.Lock()
	if k.waiting == nil {
		k.waiting = make(map[forwardKey][]chan struct{})
	}
	waiters, locked := k.waiting[key]
	if !locked {
		k.waiting[key] = nil
		k.mu.Unlock()
		return nil
	}
	granted := make(chan struct{})
	k.waiting[key] = append(waiters, granted)
	k.mu.Unlock()

	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}

	k.mu.Lock()
	if i := slices.Index(k.waiting[key], granted); i >= 0 {
		k.waiting[key] = slices.Delete(k.waiting[key], i, i+1)
		k.mu.Unlock()
		return ctx.Err()
	}
	k.mu.Unlock()
	k.unlock(key) // it was granted at the same moment
	return ctx.Err()
}

// unlock passes the key to its first waiter.
func (k *keyedMutex) unlock(key forwardKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	waiters := k.waiting[key]
	if len(waiters) == 0 {
		delete(k.waiting, key)
		return
	}
	close(waiters[0])
	k.waiting[key] = slices.Delete(waiters, 0, 1)
}
