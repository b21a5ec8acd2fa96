package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"hutong-reference/channel"
	"hutong-reference/component"
)

// Parameters are the names that the component reads.
var Parameters = []string{"timeout", "max_clock_offset"}

// Outputs are the names under which the component leaves data.
var Outputs = []string{"probe"}

// localTime bounds the checks that need no other party.
const localTime = 20 * time.Second

// Run tries everything out, writes the report, and returns an error that names what failed. config is how to reach another party.
func Run(ctx context.Context, task component.Task, config func(component.Party) channel.Config) error {
	r := component.NewReader(task.Parameters)
	timeout := time.Duration(r.Float("timeout", 60, 0.1, 3600) * float64(time.Second))
	maxOffset := time.Duration(r.Float("max_clock_offset", 5, 0.001, 1e6) * float64(time.Second))
	if err := r.Err(); err != nil {
		return err
	}

	found := &findings{}
	var heard []*dialogue
	found.try(func() []Check { return []Check{environment(task)} })
	found.try(func() []Check { return []Check{storage(ctx, task)} })
	found.try(func() []Check { return []Check{callback(ctx, task.Callback)} })
	for _, p := range task.Parties {
		if p == task.Self {
			continue
		}
		d := open(ctx, config(p), timeout, time.Now)
		defer d.close()
		heard = append(heard, d)
		found.try(func() []Check { return d.run(maxOffset) })
	}
	found.running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := conclude(ctx, task, found.checks)

	// A scheduler stops all as soon as one has failed: nobody ends before all that can be heard have written their reports.
	var waiting sync.WaitGroup
	for _, d := range heard {
		waiting.Go(d.done)
	}
	waiting.Wait()
	return err
}

// findings are what checks found that run at the same time.
type findings struct {
	mu      sync.Mutex
	checks  []Check
	running sync.WaitGroup
}

// try runs checks, and logs each when it is known: a probe that is stopped leaves at least that.
func (f *findings) try(do func() []Check) {
	f.running.Go(func() {
		done := do()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.checks = append(f.checks, done...)
		for _, c := range done {
			c.log()
		}
	})
}

// conclude writes the report and says what failed.
func conclude(ctx context.Context, task component.Task, checks []Check) error {
	order := []string{"environment", "storage", "callback", "transport_from", "transport_to", "clock"}
	slices.SortStableFunc(checks, func(a, b Check) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer), cmp.Compare(slices.Index(order, a.Name), slices.Index(order, b.Name)))
	})
	rep := Report{Component: task.Component, Role: task.Self.String(), NodeID: task.Self.NodeID, Time: time.Now().UTC(), Checks: checks}
	var failures []string
	for _, c := range checks {
		if c.OK {
			rep.Passed++
			continue
		}
		rep.Failed++
		failures = append(failures, strings.TrimSpace(c.Name+" "+c.Peer)+": "+c.Why)
	}
	rep.OK = rep.Failed == 0
	if err := writeReport(ctx, task, rep); err != nil {
		failures = append(failures, "report: "+err.Error())
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d of %d checks failed: %s", rep.Failed, len(checks), strings.Join(failures, "; "))
	}
	return nil
}

func writeReport(ctx context.Context, task component.Task, rep Report) error {
	address, err := output(task)
	if err != nil {
		return err
	}
	store, err := component.OpenStore(task.Storage)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, localTime)
	defer cancel()
	return component.WriteJSON(ctx, store, address, "report", "what a probe found", rep)
}

func output(task component.Task) (component.Address, error) {
	address, ok := task.Outputs[Outputs[0]]
	if !ok {
		return address, fmt.Errorf("variable runtime.component.output.%s is missing: the job declares no place for the report", Outputs[0])
	}
	return address, nil
}

func environment(task component.Task) Check {
	c := Check{Name: "environment", OK: true}
	var needed, others []string
	for _, name := range task.Missing {
		switch {
		case strings.HasPrefix(name, "config.inst_id."), name == "config.trace_id", name == "config.token", name == "config.log.path":
			others = append(others, name)
		default:
			needed = append(needed, name)
		}
	}
	if len(others) > 0 {
		c.Note = "missing, though not needed here: " + strings.Join(others, ", ")
	}
	if len(needed) > 0 {
		return c.failed(errors.New("missing: " + strings.Join(needed, ", ")))
	}
	return c
}

func storage(ctx context.Context, task component.Task) Check {
	c := Check{Name: "storage"}
	address, err := output(task)
	if err != nil {
		return c.failed(err)
	}
	store, err := component.OpenStore(task.Storage)
	if err != nil {
		return c.failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, localTime)
	defer cancel()
	began := time.Now()
	wrote, read := rand.Text(), ""
	if err := component.WriteJSON(ctx, store, address, "report", "a probe that has not ended", wrote); err != nil {
		return c.failed(err)
	}
	if err := component.ReadJSON(ctx, store, address, &read); err != nil {
		return c.failed(err)
	}
	if wrote != read {
		return c.failed(errors.New("what was read back is not what was written"))
	}
	return c.took(time.Since(began))
}

func callback(ctx context.Context, address string) Check {
	c := Check{Name: "callback"}
	if address == "" {
		return c.failed(errors.New("variable system.callback is missing"))
	}
	ctx, cancel := context.WithTimeout(ctx, localTime)
	defer cancel()
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return c.failed(fmt.Errorf("variable system.callback: %w", err))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c.failed(err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout {
		return c.failed(fmt.Errorf("a gateway answered HTTP %d: what is behind it does not", resp.StatusCode))
	}
	return c.took(time.Since(began))
}
