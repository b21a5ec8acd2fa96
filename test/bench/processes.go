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

// processBaseline runs the job's commands as child processes and nothing else.
type processBaseline struct {
	provider, dir, callback string
	count                   atomic.Int64
}

func (p *processBaseline) runProcess(ctx context.Context, task int, role string) error {
	cmd := exec.CommandContext(ctx, p.provider, "CallbackOnly")
	id := fmt.Sprintf("task-%d", p.count.Add(1))
	env := []string{"runtime.component.name=" + referenceTasks[task], "config.task_id=" + id,
		"config.self_role=" + role + ".0", "config.node_id.guest.0=G", "config.node_id.host.0=H",
		"system.callback=" + p.callback, "system.storage=file://" + filepath.Join(p.dir, role)}
	for i := range []int{2, 5}[task] { // as many outputs as the job's task has
		address, err := json.Marshal(
			map[string]string{"namespace": fmt.Sprintf("%s-%d", role, i), "name": id},
		)
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

func (p *processBaseline) runJob(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for task := range referenceTasks {
		run := func(i int) error { return p.runProcess(ctx, task, roles[i]) }
		if err := forEachParallel(2, 2, run); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (p *processBaseline) runMany(ctx context.Context, n int) (time.Duration, error) {
	began := time.Now()
	err := forEachParallel(4*n, 2*slots, func(i int) error { return p.runProcess(ctx, i/2%2, roles[i%2]) })
	return time.Since(began), err
}

// statusSpans are the phases of a job according to its status.
var statusSpans = []string{"submitted → answered", "→ first task starts", "→ it ends", "→ second task starts",
	"→ it ends", "→ FINISHED"}

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

// measureProcesses compares the reference job as processes with the same commands as child processes.
func measureProcesses(ctx context.Context, o options, into *report) error {
	d, err := startDeployment(ctx, o, slots, "--no-docker")
	if err != nil {
		return err
	}
	defer d.stop()
	const provider = "unionpay"
	metadata := bfia.Metadata{Command: []string{o.provider, "CallbackOnly"}}
	if err := d.registerAndUpload(ctx, provider, bfia.DeviceProcess, metadata); err != nil {
		return err
	}
	document, err := d.referenceJob(provider)
	if err != nil {
		return err
	}
	p := &processBaseline{provider: o.provider, dir: filepath.Join(d.dir, "alone")}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	var server callbackServer
	defer server.close()
	if p.callback, err = server.serve("http://127.0.0.1:1/callback", nil); err != nil {
		return err
	}
	section := into.addSection("The reference job, processes", "child processes only")
	one := breakdown{name: "one job, processes", spans: statusSpans}
	for i := range o.runs + 1 {
		took, err := p.runJob(ctx)
		if err != nil {
			return err
		}
		t, err := d.runJob(ctx, document)
		if err != nil {
			return err
		}
		if err := d.awaitHost(ctx, t); err != nil {
			return err
		}
		spent, err := spansOfStatus(t)
		if err != nil {
			return err
		}
		if i == 0 {
			continue // to warm up
		}
		one.baseline.add(took, nil)
		one.hutong.add(t.finished.Sub(t.submitted), spent)
		one.log(o)
	}
	section.add(compareMedians("one job", one.hutong, one.baseline, target{}))
	into.splits = append(into.splits, one)
	for _, n := range o.many {
		if err := measureManyProcesses(ctx, o, d, p, document, n, section); err != nil {
			return err
		}
	}
	return nil
}

// measureManyProcesses measures n jobs at once.
func measureManyProcesses(
	ctx context.Context, o options, d *deployment, p *processBaseline, document []byte, n int,
	section *reportSection,
) error {
	many := breakdown{name: fmt.Sprintf("%d jobs at once", n)}
	var cpu []time.Duration
	for range o.roundsFor(n) {
		took, err := p.runMany(ctx, n)
		if err != nil {
			return err
		}
		many.baseline.add(took, nil)
		before := d.cpu()
		err = d.withProfile(ctx, o, fmt.Sprintf("many-%d-process", n), func() (err error) {
			took, _, err = d.runMany(ctx, document, n)
			return err
		})
		if err != nil {
			return err
		}
		many.hutong.add(took, nil)
		cpu = append(cpu, (d.cpu()-before)/time.Duration(n))
		many.log(o)
	}
	section.add(compareMedians(many.name, many.hutong, many.baseline, target{},
		"Hutong's CPU for each job: "+formatDuration(median(cpu))))
	return nil
}
