package gate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"hutong/bfia"
)

const (
	// listFor is how long a list of containers is used. The containers of other processes of the same runner,
	// which exist for a moment when one replaces another, are missing from it for that long.
	listFor = time.Second
	// A container may call before its driver lists it. For findFor after the start of any container the gate
	// looks again, every findEvery.
	findEvery = 50 * time.Millisecond
	findFor   = 3 * time.Second
	// A container's first call waits up to describeFor for a party's service that does not answer, such as a
	// database that restarts. Clients of S3 try again for some seconds only, and then the task would fail.
	describeEvery = 250 * time.Millisecond
	describeFor   = 20 * time.Second
	// listTimeout bounds the reading of a list.
	listTimeout = 10 * time.Second
)

// directory finds the run that a caller is. A driver may give the address of an ended container to the next
// one at once. So an answer comes from a list that was begun after the question, or from an earlier one if no
// container was started since.
type directory struct {
	containers func(context.Context) ([]Container, error)
	describe   func(context.Context, Container) (Run, error)
	stopped    context.Context    // ends with the gate
	describing singleflight.Group // by the container's id

	mu       sync.Mutex
	epoch    int // counts the starts of containers, at their beginning and their end
	starting int
	started  time.Time      // the end of the last start
	cached   *list          // nil: none, or it is no longer true
	current  *list          // that is being read; nil: none
	next     *list          // that is read after the current one, for those who ask meanwhile
	runs     map[string]Run // by the container's id
}

// list is a list of containers. It does not change once done is closed.
type list struct {
	done      chan struct{}
	epoch     int
	began     time.Time
	byAddress map[string]Container
	byName    map[string]Container
	err       error
}

func newList() *list { return &list{done: make(chan struct{})} }

// beginStart must be called before a container is started, and its result afterwards.
func (d *directory) beginStart() (end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.starting++
	d.forget()
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.starting--
		d.started = time.Now()
		d.forget()
	})
}

func (d *directory) forget() { d.epoch++; d.cached = nil }

// atAddress returns the run of a container by its address.
func (d *directory) atAddress(ctx context.Context, address string) (Run, bool, error) {
	return d.find(ctx, func(l *list) (Container, bool) { c, ok := l.byAddress[address]; return c, ok })
}

// named returns the run of a container by its name.
func (d *directory) named(ctx context.Context, name string) (Run, bool, error) {
	return d.find(ctx, func(l *list) (Container, bool) {
		c, ok := l.byName[name]
		return c, ok && (c.Address != "" || !c.Addressed) // a container that calls has its address
	})
}

// find looks for a container until it is listed, or can no longer be one that has just started.
func (d *directory) find(ctx context.Context, lookUp func(*list) (Container, bool)) (Run, bool, error) {
	for {
		d.mu.Lock()
		mayCome := d.starting > 0 || time.Since(d.started) < findFor
		d.mu.Unlock()
		container, found, err := d.lookUp(ctx, lookUp)
		if err != nil {
			return Run{}, false, err
		}
		if found {
			run, err := d.run(ctx, container)
			return run, err == nil, err
		}
		if !mayCome {
			return Run{}, false, nil
		}
		select {
		case <-ctx.Done():
			return Run{}, false, ctx.Err()
		case <-time.After(findEvery):
		}
	}
}

// lookUp looks into the cached list, and into a new one if there is none or it lacks the container.
func (d *directory) lookUp(
	ctx context.Context,
	lookUp func(*list) (Container, bool),
) (Container, bool, error) {
	d.mu.Lock()
	if d.cached != nil && time.Since(d.cached.began) < listFor {
		if c, ok := lookUp(d.cached); ok {
			d.mu.Unlock()
			return c, true, nil
		}
	}
	l := d.ask()
	d.mu.Unlock()

	select {
	case <-ctx.Done():
		return Container{}, false, ctx.Err()
	case <-l.done:
	}
	if l.err != nil {
		return Container{}, false, l.err
	}
	c, ok := lookUp(l)
	return c, ok, nil
}

// ask returns a list that begins from now on. All who ask while another one is read share it.
func (d *directory) ask() *list {
	switch {
	case d.current == nil:
		d.current = newList()
		d.begin()
		return d.current
	case d.next == nil:
		d.next = newList()
	}
	return d.next
}

// begin reads the current list, and then the next one.
func (d *directory) begin() {
	l := d.current
	l.epoch, l.began = d.epoch, time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
		defer cancel()
		l.read(d.containers(ctx))
		d.mu.Lock()
		defer d.mu.Unlock()
		if l.err == nil {
			d.keep(l)
		}
		d.current, d.next = d.next, nil
		if d.current != nil {
			d.begin()
		}
		close(l.done)
	}()
}

// read fills a list.
func (l *list) read(containers []Container, err error) {
	if err != nil {
		l.err = fmt.Errorf("failed to list the containers of the gate: %w", err)
		return
	}
	l.byAddress, l.byName = map[string]Container{}, map[string]Container{}
	for _, c := range containers {
		l.byName[c.Name] = c
		if c.Addressed && c.Address != "" {
			l.byAddress[c.Address] = c
		}
	}
}

// keep caches a list, unless a container was started since it began, and forgets the runs of containers that
// are gone.
func (d *directory) keep(l *list) {
	if l.epoch == d.epoch && d.starting == 0 {
		d.cached = l
	}
	for id, run := range d.runs {
		if c, ok := l.byName[run.Container]; !ok || c.ID != id {
			delete(d.runs, id)
		}
	}
}

// run returns what a container runs.
func (d *directory) run(ctx context.Context, c Container) (Run, error) {
	d.mu.Lock()
	run, ok := d.runs[c.ID]
	d.mu.Unlock()
	if !ok {
		// One description at a time: an untrusted container may have thousands of requests open.
		described := d.describing.DoChan(c.ID, func() (any, error) { return d.describeSoon(c) })
		select {
		case <-ctx.Done():
			return Run{}, ctx.Err()
		case answer := <-described:
			if answer.Err != nil {
				return Run{}, fmt.Errorf("failed to read what container %s may do: %w", c.Name, answer.Err)
			}
			run = answer.Val.(Run)
		}
	}
	run.Address = c.Address // a created container has none yet
	return run, nil
}

// describeSoon describes a container, and waits for a service of the party that does not answer.
func (d *directory) describeSoon(c Container) (Run, error) {
	for deadline := time.Now().Add(describeFor); ; {
		run, err := d.describe(d.stopped, c)
		if err == nil {
			run.Container, run.ID = c.Name, c.ID
			d.mu.Lock()
			d.runs[c.ID] = run
			d.mu.Unlock()
		}
		if err == nil || bfia.CodeOf(err) != bfia.CodeUnavailable || time.Now().After(deadline) {
			return run, err
		}
		select {
		case <-d.stopped.Done():
			return Run{}, err
		case <-time.After(describeEvery):
		}
	}
}

// owner returns the name of the container that has an address.
func (d *directory) owner(ctx context.Context, address string) (name string, found bool, err error) {
	c, found, err := d.lookUp(
		ctx,
		func(l *list) (Container, bool) { c, ok := l.byAddress[address]; return c, ok },
	)
	return c.Name, found, err
}
