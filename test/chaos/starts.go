package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

// ledger is the file into which a task that runs as a process writes itself before it begins.
func (p *party) startLog() string { return filepath.Join(p.dir, "ledger") }

// runTask is what the process device runs: it writes one line for the run whose folder it is in, and becomes the provider.
// The line is the witness of which runs began, and how often; Hutong has no part in it.
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
	file := filepath.Join(filepath.Dir(filepath.Dir(dir)), "ledger")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, filepath.Base(dir)); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	provider := filepath.Join(filepath.Dir(self), "provider")
	return syscall.Exec(provider, []string{provider}, os.Environ())
}

// creations counts how often each run was created, as its Docker Engine tells.
type creationCounter struct {
	mu  sync.Mutex
	ids map[string]map[string]bool // by run: the ids of its containers
}

func newCreationCounter() *creationCounter {
	return &creationCounter{ids: map[string]map[string]bool{}}
}

// watch reads the engine's events, once more from where it stopped when the engine was away: an engine that starts has made
// nothing before it tells of it, and keeps its last 256 events.
func (c *creationCounter) watch(ctx context.Context, docker *client.Client, since time.Time) {
	for ctx.Err() == nil {
		asked := time.Now()
		messages, failed := docker.Events(ctx, events.ListOptions{Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
			Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("event", "create"))})
		for open := true; open; {
			select {
			case m := <-messages:
				c.add(m.Actor.Attributes["name"], m.Actor.ID)
				since = time.Unix(0, m.TimeNano)
			case <-failed:
				open = false
			}
		}
		if since.Before(asked.Add(-time.Minute)) {
			since = asked.Add(-time.Minute) // an event twice is harmless
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (c *creationCounter) add(run, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids[run] == nil {
		c.ids[run] = map[string]bool{}
	}
	c.ids[run][id] = true
}

// counts is how often each run of a party was created.
func (p *party) countStarts() (map[string]int, error) {
	counts := map[string]int{}
	if p.dockerSocket != "" {
		p.creations.mu.Lock()
		defer p.creations.mu.Unlock()
		for run, ids := range p.creations.ids {
			counts[run] = len(ids)
		}
		return counts, nil
	}
	f, err := os.Open(p.startLog())
	if os.IsNotExist(err) {
		return counts, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		counts[strings.TrimSpace(lines.Text())]++
	}
	return counts, nil
}
