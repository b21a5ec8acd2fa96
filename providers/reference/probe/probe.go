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

// Parameters lists the parameters that the component reads.
var Parameters = []string{"timeout", "max_clock_offset"}

// Outputs lists the outputs that the component writes.
var Outputs = []string{"probe"}

// localTimeout limits the checks that need no other party.
const localTimeout = 20 * time.Second

// Run runs all checks, writes the report, and returns an error that names the failed checks. config returns
// the configuration of the link to another party.
func Run(ctx context.Context, task component.Task, config func(component.Party) channel.Config) error {
	r := component.NewReader(task.Parameters)
	timeout := time.Duration(r.Float("timeout", 60, 0.1, 3600) * float64(time.Second))
	maxOffset := time.Duration(r.Float("max_clock_offset", 5, 0.001, 1e6) * float64(time.Second))
	if err := r.Err(); err != nil {
		return err
	}

	found := &results{}
	var peers []*peerProbe
	found.start(func() []Check { return []Check{environment(task)} })
	found.start(func() []Check { return []Check{storage(ctx, task)} })
	found.start(func() []Check { return []Check{callback(ctx, task.Callback)} })
	for _, p := range task.Parties {
		if p == task.Self {
			continue
		}
		d := openPeer(ctx, config(p), timeout, time.Now)
		defer d.close()
		peers = append(peers, d)
		found.start(func() []Check { return d.run(maxOffset) })
	}

	found.running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := summarize(ctx, task, found.checks)

	// A scheduler stops all parties as soon as one fails. So wait until all reachable parties have written
	// their reports.
	var waiting sync.WaitGroup
	for _, d := range peers {
		waiting.Go(d.finish)
	}
	waiting.Wait()
	return err
}

// results collects the results of concurrent checks.
type results struct {
	mu      sync.Mutex
	checks  []Check
	running sync.WaitGroup
}

// start runs checks in the background and logs each result at once. So even a stopped probe leaves some
// results.
func (f *results) start(do func() []Check) {
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

// summarize writes the report and returns an error that names the failed checks.
func summarize(ctx context.Context, task component.Task, checks []Check) error {
	order := []string{"environment", "storage", "callback", "transport_from", "transport_to", "clock"}
	slices.SortStableFunc(checks, func(a, b Check) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer),
			cmp.Compare(slices.Index(order, a.Name), slices.Index(order, b.Name)))
	})
	rep := Report{
		Component: task.Component, Role: task.Self.String(), NodeID: task.Self.NodeID,
		Time: time.Now().UTC(), Checks: checks,
	}
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
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	return component.WriteJSON(ctx, store, address, "report", "results of a probe", rep)
}

func output(task component.Task) (component.Address, error) {
	address, ok := task.Outputs[Outputs[0]]
	if !ok {
		return address, fmt.Errorf(
			"variable runtime.component.output.%s is missing: the job does not declare the report",
			Outputs[0],
		)
	}
	return address, nil
}

func environment(task component.Task) Check {
	c := Check{Name: "environment", OK: true}
	var required, others []string
	for _, name := range task.Missing {
		switch {
		case strings.HasPrefix(name, "config.inst_id."),
			name == "config.trace_id",
			name == "config.token",
			name == "config.log.path":
			others = append(others, name)
		default:
			required = append(required, name)
		}
	}

	if len(others) > 0 {
		c.Note = "missing, but not required here: " + strings.Join(others, ", ")
	}
	if len(required) > 0 {
		return c.withError(errors.New("missing: " + strings.Join(required, ", ")))
	}
	return c
}

func storage(ctx context.Context, task component.Task) Check {
	c := Check{Name: "storage"}
	address, err := output(task)
	if err != nil {
		return c.withError(err)
	}
	store, err := component.OpenStore(task.Storage)
	if err != nil {
		return c.withError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	began := time.Now()
	wrote, read := rand.Text(), ""
	if err := component.WriteJSON(ctx, store, address, "report", "unfinished probe", wrote); err != nil {
		return c.withError(err)
	}
	if err := component.ReadJSON(ctx, store, address, &read); err != nil {
		return c.withError(err)
	}
	if wrote != read {
		return c.withError(errors.New("the document that was read back differs from the written one"))
	}
	return c.withDuration(time.Since(began))
}

// callback checks that the address of callbacks answers HTTP.
func callback(ctx context.Context, address string) Check {
	c := Check{Name: "callback"}
	if address == "" {
		return c.withError(errors.New("variable system.callback is missing"))
	}
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return c.withError(fmt.Errorf("variable system.callback: %w", err))
	}
	resp, err := component.PartyClient.Do(req)
	if err != nil {
		return c.withError(err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout {
		return c.withError(
			fmt.Errorf("a gateway returned HTTP %d: the server behind it does not answer", resp.StatusCode),
		)
	}
	return c.withDuration(time.Since(began))
}
