package main

import (
	"context"
	"fmt"
	"time"
)

// manySlots is the number of slots of each party where processes end at once: enough not to limit the rate.
const manySlots = 16

// measureTemporal compares jobs of processes that end at once with Temporal workflows of as many activities.
// The count is taken in two ways. The first is the job's four processes in two waves, the least that any
// orchestrator on Temporal needs. The second is all activities that the job's three workflows schedule at
// both parties, including the commands between them.
func measureTemporal(ctx context.Context, o options, into *report) error {
	d, err := startDeployment(ctx, o, manySlots, "--no-docker")
	if err != nil {
		return err
	}
	defer d.stop()
	if err := d.registerProgram(ctx, "nothing", 1, exitProgram); err != nil {
		return err
	}
	document, err := d.dagDocument("nothing", shapes[0], 2)
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
	cost, err := d.historyOf(ctx, t.status.JobID)
	if err != nil {
		return err
	}
	b, err := startTemporalBaseline(d)
	if err != nil {
		return err
	}
	defer b.stop()
	var hutong, least, same samples
	n := 50
	if _, err := b.runMany(ctx, n, 2, 2); err != nil { // to warm up
		return err
	}
	for range max(o.rounds, 1) + 1 {
		took, err := b.runMany(ctx, n, 2, 2)
		if err != nil {
			return err
		}
		least.add(took, nil)
		if took, err = b.runMany(ctx, n, 2, max(1, cost.activities/2)); err != nil {
			return err
		}
		same.add(took, nil)
		err = d.withProfile(ctx, o, "temporal", func() (err error) {
			took, _, err = d.runMany(ctx, document, n)
			return err
		})
		if err != nil {
			return err
		}
		hutong.add(took, nil)
	}
	c := into.addSection("Jobs of processes that end at once, each second", "Temporal only")
	rates := func(name string, other samples, t target, notes ...string) {
		mine, theirs := perSecond(n, median(hutong.total)), perSecond(n, median(other.total))
		c.add(
			figure{name: name, measured: fmt.Sprintf("%.1f /s", mine),
				baseline: fmt.Sprintf("%.1f /s", theirs), ratio: mine / theirs, target: t, notes: notes},
		)
	}
	rates("workflows of 4 activities", least, atLeast(0.7), "a job's 4 processes")
	rates(
		fmt.Sprintf("workflows of %d activities", max(1, cost.activities/2)*2),
		same,
		target{},
		fmt.Sprintf("all %d activities of a job; its %d workflows have %d workflow tasks and %d events",
			cost.activities, cost.workflows, cost.workflowTasks, cost.events),
	)
	return nil
}

// measureDAGs measures how the time of a task grows with the size of its DAG.
func measureDAGs(ctx context.Context, o options, into *report) error {
	d, err := startDeployment(ctx, o, manySlots, "--no-docker")
	if err != nil {
		return err
	}
	defer d.stop()
	most := o.tasks[len(o.tasks)-1]
	if err := d.registerProgram(ctx, "nothing", most, exitProgram); err != nil {
		return err
	}
	c := into.addSection("DAGs: time for each task", fmt.Sprintf("with %d tasks", o.tasks[0]))
	for _, s := range shapes {
		var first time.Duration
		for i, n := range o.tasks {
			document, err := d.dagDocument("nothing", s, n)
			if err != nil {
				return err
			}
			var took samples
			var last jobTimes
			repeat, cpu := 1, d.cpu()
			if n <= 20 {
				repeat = 3
			}
			for range repeat {
				err := d.withProfile(ctx, o, fmt.Sprintf("dag-%s-%d", s.name, n), func() (err error) {
					if last, err = d.runJob(ctx, document); err != nil {
						return err
					}
					return d.awaitHost(ctx, last)
				})
				if err != nil {
					return fmt.Errorf("failed to run a %s of %d tasks: %w", s.name, n, err)
				}
				took.add(last.finished.Sub(last.submitted), nil)
			}
			each := median(took.total) / time.Duration(n)
			cpu = (d.cpu() - cpu) / time.Duration(n*repeat)
			if i == 0 {
				first = each
			}
			cost, err := d.historyOf(ctx, last.status.JobID)
			if err != nil {
				return err
			}
			c.add(
				figure{
					name:     fmt.Sprintf("%s of %d", s.name, n),
					measured: formatDuration(each),
					baseline: formatDuration(first),
					ratio:    float64(each) / float64(first),
					notes: []string{
						fmt.Sprintf(
							"Hutong's CPU for each task: %s; submission answered in %s; "+
								"longest history %d events, largest %.1f MB; %.0f MB of memory",
							formatDuration(cpu),
							formatDuration(last.answered.Sub(last.submitted)),
							cost.longest,
							float64(cost.bytes)/1e6,
							float64(d.memory())/1e6,
						),
					},
				},
			)
		}
	}
	return nil
}

// measureJobs measures how the time of a job and the memory grow with the number of jobs at once.
func measureJobs(ctx context.Context, o options, into *report) error {
	d, err := startDeployment(ctx, o, manySlots, "--no-docker")
	if err != nil {
		return err
	}
	defer d.stop()
	if err := d.registerProgram(ctx, "nothing", 1, exitProgram); err != nil {
		return err
	}
	document, err := d.dagDocument("nothing", shapes[0], 2)
	if err != nil {
		return err
	}
	if _, _, err := d.runMany(ctx, document, 2); err != nil { // to warm up
		return err
	}
	c := into.addSection("Jobs at once: time for each job", fmt.Sprintf("with %d jobs", o.jobs[0]))
	var first time.Duration
	var before int64
	for i, n := range o.jobs {
		var took time.Duration
		cpu := d.cpu()
		err := d.withProfile(ctx, o, fmt.Sprintf("jobs-%d", n), func() (err error) {
			took, _, err = d.runMany(ctx, document, n)
			return err
		})
		if err != nil {
			return fmt.Errorf("failed to run %d jobs at once: %w", n, err)
		}
		each, memory := took/time.Duration(n), d.memory()
		cpu = (d.cpu() - cpu) / time.Duration(n)
		if i == 0 {
			first, before = each, memory
		}
		c.add(
			figure{
				name:     fmt.Sprintf("%d jobs", n),
				measured: formatDuration(each),
				baseline: formatDuration(first),
				ratio:    float64(each) / float64(first),
				notes: []string{
					fmt.Sprintf("Hutong's CPU for each job: %s; %.0f MB of memory, %.2f times",
						formatDuration(cpu), float64(memory)/1e6, float64(memory)/float64(before)),
				},
			},
		)
	}
	return nil
}
