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

// startLog is the file to which each task that runs as a process appends a line before it starts.
func (p *party) startLog() string { return filepath.Join(p.dir, "starts") }

// runTask is the command that the process driver runs: it appends a line for the container in whose folder it
// runs, then executes the provider. The lines count the starts independently of Hutong.
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
	if _, err := fmt.Fprintln(f, filepath.Base(dir)); err != nil {
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
	ids map[string]map[string]bool // by run: the ids of its containers
}

func newCreationCounter() *creationCounter {
	return &creationCounter{ids: map[string]map[string]bool{}}
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
				c.add(m.Actor.Attributes["name"], m.Actor.ID)
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

func (c *creationCounter) add(run, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids[run] == nil {
		c.ids[run] = map[string]bool{}
	}
	c.ids[run][id] = true
}

// countStarts returns how often each container of a party was started.
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
