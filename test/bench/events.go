package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

// eventWatcher collects Docker's events of containers with a label.
type eventWatcher struct {
	mu        sync.Mutex
	events    []events.Message
	inspected []container.InspectResponse
	failed    error
	cancel    context.CancelFunc
	done      chan struct{}
}

// watchEvents collects events of containers whose label has one of the values. With inspect it also reads the
// configuration of each created container.
func watchEvents(ctx context.Context, docker *client.Client, inspect bool, label string,
	values ...string) *eventWatcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &eventWatcher{cancel: cancel, done: make(chan struct{})}
	messages, failed := docker.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", label))})
	go func() {
		defer close(w.done)
		for {
			select {
			case m := <-messages:
				if slices.Contains(values, m.Actor.Attributes[label]) {
					w.record(ctx, docker, m, inspect)
				}
			case err := <-failed:
				if ctx.Err() == nil {
					w.mu.Lock()
					w.failed = fmt.Errorf("failed to read events of Docker: %w", err)
					w.mu.Unlock()
				}
				return
			}
		}
	}()
	return w
}

func (w *eventWatcher) record(ctx context.Context, docker *client.Client, m events.Message, inspect bool) {
	if m.Action == events.ActionCreate && inspect {
		c, err := docker.ContainerInspect(ctx, m.Actor.ID)
		w.mu.Lock()
		if err != nil {
			w.failed = err
		}
		w.inspected = append(w.inspected, c)
		w.mu.Unlock()
	}
	w.mu.Lock()
	w.events = append(w.events, m)
	w.mu.Unlock()
}

// awaitDestroyed waits until the given number of containers is destroyed, and returns and clears the events.
func (w *eventWatcher) awaitDestroyed(ctx context.Context, destroyed int) ([]events.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		w.mu.Lock()
		n := 0
		for _, m := range w.events {
			if m.Action == events.ActionDestroy {
				n++
			}
		}
		err := w.failed
		if n >= destroyed && err == nil {
			all := w.events
			w.events = nil
			w.mu.Unlock()
			return all, nil
		}
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("only %d of %d containers were removed: %w", n, destroyed, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (w *eventWatcher) stop() {
	w.cancel()
	<-w.done
}

// spans are the consecutive phases of one job, according to Docker's events. A container's first event comes
// when it has been created.
type spans [8]time.Duration

var spanNames = [8]string{
	"submitted → answered", "→ first container created", "→ both started", "→ both ended",
	"→ next container created", "→ both started", "→ both ended", "→ FINISHED (baseline: removed)",
}

// spansOf computes the spans of a job of the reference tasks. A task's containers are created when the first
// one is, and have started or ended when the last one has.
func spansOf(all []events.Message, submitted, answered, finished time.Time) spans {
	at := []time.Time{submitted, answered}
	for _, task := range referenceTasks {
		var created, started, ended time.Time
		for _, m := range all {
			if m.Actor.Attributes["hutong.task"] != task {
				continue
			}
			moment := time.Unix(0, m.TimeNano)
			switch m.Action {
			case events.ActionCreate:
				if created.IsZero() || moment.Before(created) {
					created = moment
				}
			case events.ActionStart:
				if moment.After(started) {
					started = moment
				}
			case events.ActionDie:
				if moment.After(ended) {
					ended = moment
				}
			}
		}
		at = append(at, created, started, ended)
	}
	at = append(at, finished)

	var s spans
	for i := range s {
		s[i] = at[i+1].Sub(at[i])
	}
	return s
}
