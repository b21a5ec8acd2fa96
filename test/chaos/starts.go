package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

// startLog is the file to which each task that runs as a process appends a line before it starts.
func (p *party) startLog() string { return filepath.Join(p.dir, "starts") }

// runTask is the command that the process driver runs: it appends a line for the container in whose folder it
// runs, with the time, then executes the provider. The lines count the starts independently of Hutong.
func runTask() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	// The folder is <data_dir>/runs/<run>.
	file := filepath.Join(filepath.Dir(filepath.Dir(dir)), "starts")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, filepath.Base(dir), time.Now().UnixNano()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	provider := filepath.Join(filepath.Dir(self), "provider")
	return syscall.Exec(provider, []string{provider}, os.Environ())
}

// creationCounter counts how often each container was created, from the events of its Docker Engine.
type creationCounter struct {
	mu  sync.Mutex
	ids map[string]map[string]time.Time // by run: when its containers were created, by id
}

func newCreationCounter() *creationCounter {
	return &creationCounter{ids: map[string]map[string]time.Time{}}
}

// watch reads the events of the Docker Engine. After an interruption it resumes where it stopped: a Docker
// Engine that starts creates nothing before it answers, and it keeps its last 256 events. It also reads
// starts: a Docker Engine that is killed while it creates a container may keep the container and lose the
// event. Ids are counted once.
func (c *creationCounter) watch(ctx context.Context, docker *client.Client, since time.Time) {
	for ctx.Err() == nil {
		asked := time.Now()
		messages, failed := docker.Events(
			ctx,
			events.ListOptions{Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
				Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("event", "create"),
					filters.Arg("event", "start"))},
		)
		for open := true; open; {
			select {
			case m := <-messages:
				c.add(m.Actor.Attributes["name"], m.Actor.ID, time.Unix(0, m.TimeNano))
				since = time.Unix(0, m.TimeNano)
			case <-failed:
				open = false
			}
		}
		if since.Before(asked.Add(-time.Minute)) {
			since = asked.Add(-time.Minute) // reading an event twice is harmless
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (c *creationCounter) add(run, id string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids[run] == nil {
		c.ids[run] = map[string]time.Time{}
	}
	if before, known := c.ids[run][id]; !known || at.Before(before) {
		c.ids[run][id] = at
	}
}

// listStarts returns when each container of a party was started.
func (p *party) listStarts() (map[string][]time.Time, error) {
	starts := map[string][]time.Time{}
	if p.dockerSocket != "" {
		p.creations.mu.Lock()
		defer p.creations.mu.Unlock()
		for run, ids := range p.creations.ids {
			starts[run] = slices.SortedFunc(maps.Values(ids), time.Time.Compare)
		}
		return starts, nil
	}
	f, err := os.Open(p.startLog())
	if os.IsNotExist(err) {
		return starts, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var run string
		var nanos int64
		if _, err := fmt.Sscan(lines.Text(), &run, &nanos); err != nil {
			return nil, fmt.Errorf("failed to read the starts of %s: line %q: %w", p.name, lines.Text(), err)
		}
		starts[run] = append(starts[run], time.Unix(0, nanos))
	}
	return starts, lines.Err()
}
