package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"hutong/bfia"
)

// plain runs the job's commands as child processes and nothing else.
type plain struct {
	provider, dir, callback string
	count                   atomic.Int64
}

func (p *plain) one(ctx context.Context, task int, role string) error {
	cmd := exec.CommandContext(ctx, p.provider, "CallbackOnly")
	id := fmt.Sprintf("task-%d", p.count.Add(1))
	env := []string{"runtime.component.name=" + waves[task], "config.task_id=" + id, "config.self_role=" + role + ".0",
		"config.node_id.guest.0=G", "config.node_id.host.0=H", "system.callback=" + p.callback,
		"system.storage=file://" + filepath.Join(p.dir, role)}
	for i := range []int{2, 5}[task] { // as many outputs as the job's task has
		address, err := json.Marshal(map[string]string{"namespace": fmt.Sprintf("%s-%d", role, i), "name": id})
		if err != nil {
			return err
		}
		env = append(env, fmt.Sprintf("runtime.component.output.o%d=%s", i, address))
	}
	cmd.Env = env
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, output.String())
	}
	return nil
}

var roles = []string{"guest", "host"}

func (p *plain) job(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for task := range waves {
		if err := parallel(2, 2, func(i int) error { return p.one(ctx, task, roles[i]) }); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (p *plain) many(ctx context.Context, n int) (time.Duration, error) {
	began := time.Now()
	err := parallel(4*n, 2*slots, func(i int) error { return p.one(ctx, i/2%2, roles[i%2]) })
	return time.Since(began), err
}

// statusSpans are the parts of a job as its status tells them.
var statusSpans = []string{"submitted → answered", "→ first task starts", "→ it ended", "→ second task starts", "→ it ended", "→ FINISHED"}

func spansOfStatus(t jobTimes) ([]time.Duration, error) {
	at := []time.Time{t.submitted, t.answered}
	for _, task := range t.status.Tasks {
		if task.StartedAt == nil || task.EndedAt == nil {
			return nil, fmt.Errorf("the status of task %s has no times", task.Name)
		}
		at = append(at, *task.StartedAt, *task.EndedAt)
	}
	at = append(at, t.finished)
	var s []time.Duration
	for i := range len(at) - 1 {
		s = append(s, at[i+1].Sub(at[i]))
	}
	return s, nil
}

func measureProcesses(ctx context.Context, o options, into *report) error {
	d, err := startDeployment(ctx, o, slots, "--no-docker")
	if err != nil {
		return err
	}
	defer d.stop()
	const provider = "unionpay"
	if err := d.prepare(ctx, provider, bfia.DeviceProcess, bfia.Metadata{Command: []string{o.provider, "CallbackOnly"}}); err != nil {
		return err
	}
	document, err := d.document(provider)
	if err != nil {
		return err
	}
	p := &plain{provider: o.provider, dir: filepath.Join(d.dir, "alone")}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	var server callbacks
	defer server.close()
	if p.callback, err = server.serve("http://127.0.0.1:1/callback", nil); err != nil {
		return err
	}
	chapter := into.chapter("The seed's job, processes", "child processes alone")
	one := split{name: "one job, processes", spans: statusSpans}
	for i := range o.runs + 1 {
		took, err := p.job(ctx)
		if err != nil {
			return err
		}
		t, err := d.job(ctx, document)
		if err != nil {
			return err
		}
		if err := d.settle(ctx, t); err != nil {
			return err
		}
		spent, err := spansOfStatus(t)
		if err != nil {
			return err
		}
		if i == 0 {
			continue // to warm up
		}
		one.alone.add(took, nil)
		one.hutong.add(t.finished.Sub(t.submitted), spent)
		one.log(o)
	}
	chapter.add(timed("one job", one.hutong, one.alone, target{}))
	into.splits = append(into.splits, one)
	for _, n := range o.many {
		many := split{name: fmt.Sprintf("%d jobs at once", n)}
		var cpu []time.Duration
		for range o.roundsOf(n) {
			took, err := p.many(ctx, n)
			if err != nil {
				return err
			}
			many.alone.add(took, nil)
			before := d.cpu()
			err = d.profiled(ctx, o, fmt.Sprintf("many-%d-process", n), func() (err error) {
				took, _, err = d.many(ctx, document, n)
				return err
			})
			if err != nil {
				return err
			}
			many.hutong.add(took, nil)
			cpu = append(cpu, (d.cpu()-before)/time.Duration(n))
			many.log(o)
		}
		chapter.add(timed(many.name, many.hutong, many.alone, target{}, "Hutong's CPU for each job: "+text(median(cpu))))
	}
	return nil
}
