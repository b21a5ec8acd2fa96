package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

// fewWaiting is the number of waiting jobs of the baseline.
const fewWaiting = 100

// promisedRestart bounds the time from the start of a killed deployment, whatever waits there, until the next
// job runs.
const promisedRestart = time.Minute

// holdProgram ends when the process ends whose id is its argument.
const holdProgram = "/usr/bin/tail"

// queueCosts are the costs of one number of waiting jobs.
type queueCosts struct {
	next    []time.Duration // from the request to stop a running job until a waiting one runs
	idle    float64         // cores that Hutong uses while nothing happens
	restart time.Duration   // from the start of a killed deployment until a waiting job runs
	ready   time.Duration   // until its parties are ready
	memory  int64
}

// measureQueue measures what a job costs that ends, and the start of the next one, while few jobs and while
// many wait, and a restart. All slots are held by jobs that run until they are stopped.
func measureQueue(ctx context.Context, o options, into *report) error {
	c := into.addSection(fmt.Sprintf("The queue, with %d waiting jobs", o.waiting),
		fmt.Sprintf("with %d", fewWaiting))
	few, err := o.queueCosts(ctx, fewWaiting)
	if err != nil {
		return err
	}
	many, err := o.queueCosts(ctx, o.waiting)
	if err != nil {
		return err
	}
	c.add(figure{
		name:     "from the stop of a job to the start of the next",
		measured: formatDuration(median(many.next)),
		baseline: formatDuration(median(few.next)),
		ratio:    float64(median(many.next)) / float64(median(few.next)),
		target:   atMost(1.5),
	})
	c.add(figure{
		name:     "cores in use while all wait",
		measured: fmt.Sprintf("%.2f", many.idle),
		baseline: fmt.Sprintf("%.2f", few.idle),
		ratio:    many.idle / few.idle,
		notes: []string{fmt.Sprintf("memory %.0f MB and %.0f MB", float64(many.memory)/1e6,
			float64(few.memory)/1e6)},
	})
	c.add(figure{
		name:     "from the start of a killed deployment to the start of the next job",
		measured: formatDuration(many.restart),
		baseline: formatDuration(promisedRestart) + " (promised)",
		ratio:    many.restart.Seconds() / promisedRestart.Seconds(),
		target:   atMost(1),
		notes: []string{fmt.Sprintf("ready after %s; with %d waiting jobs after %s, and the next job after %s",
			formatDuration(many.ready), fewWaiting, formatDuration(few.ready), formatDuration(few.restart))},
	})
	return nil
}

// queueCosts measures a deployment in which a number of jobs wait.
func (o options) queueCosts(ctx context.Context, waiting int) (costs queueCosts, err error) {
	d, err := startDeployment(ctx, o, slots, "--no-docker")
	if err != nil {
		return costs, err
	}
	defer d.stop()
	untilExit := "--pid=" + strconv.Itoa(os.Getpid())
	err = d.registerProgram(ctx, "hold", 1, holdProgram, "-f", "/dev/null", untilExit)
	if err != nil {
		return costs, err
	}
	document, err := d.dagDocument("hold", shapes[0], 1)
	if err != nil {
		return costs, err
	}
	q := queueOfDeployment{d: d, seen: map[string]bool{}}
	for range slots {
		if err := d.submit(ctx, document); err != nil {
			return costs, err
		}
		if _, err := q.awaitStart(ctx); err != nil {
			return costs, err
		}
	}
	if err := forEachParallel(waiting, 8, func(int) error { return d.submit(ctx, document) }); err != nil {
		return costs, fmt.Errorf("failed to submit %d jobs: %w", waiting, err)
	}

	const idle = 20 * time.Second
	cpu := d.cpu()
	select {
	case <-ctx.Done():
		return costs, ctx.Err()
	case <-time.After(idle):
	}
	costs.idle = (d.cpu() - cpu).Seconds() / idle.Seconds()
	costs.memory = d.memory()

	err = d.withProfile(ctx, o, fmt.Sprintf("queue-%d", waiting), func() error {
		for range o.runs {
			took, err := q.replaceOne(ctx)
			if err != nil {
				return err
			}
			costs.next = append(costs.next, took)
		}
		return nil
	})
	if err != nil {
		return costs, err
	}

	d.kill()
	began := time.Now()
	if err := d.start(ctx, o); err != nil {
		return costs, fmt.Errorf("failed to start again: %w", err)
	}
	costs.ready = time.Since(began)
	if _, err := q.replaceOne(ctx); err != nil {
		return costs, fmt.Errorf("after the restart: %w", err)
	}
	costs.restart = time.Since(began)
	return costs, nil
}

// submit submits a job, and tries again if the party is busy, or could not create it in time.
func (d *deployment) submit(ctx context.Context, document []byte) error {
	for {
		err := apiclient.Call(ctx, http.MethodPost, d.urls[d.guest]+bfia.PathPlatformCreateAll, document, nil)
		var refused *apiclient.Error
		if !errors.As(err, &refused) || refused.RetryAfter == 0 && refused.Code != bfia.CodePartnerDown {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(refused.RetryAfter, 100*time.Millisecond)):
		}
	}
}

// queueOfDeployment follows which jobs run.
type queueOfDeployment struct {
	d       *deployment
	seen    map[string]bool // all jobs that have run
	running []string        // in the order in which they were seen
}

// replaceOne stops the job that has run for longest, and returns the time until another one runs.
func (q *queueOfDeployment) replaceOne(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	body := []byte(`{"job_id":` + strconv.Quote(q.running[0]) + `}`)
	url := q.d.urls[q.d.guest] + bfia.PathPlatformStopAll
	if err := apiclient.Call(ctx, http.MethodPost, url, body, nil); err != nil {
		return 0, fmt.Errorf("failed to stop job %s: %w", q.running[0], err)
	}
	q.running = q.running[1:]
	started, err := q.awaitStart(ctx)
	return started.Sub(began), err
}

// awaitStart waits until a further job runs.
func (q *queueOfDeployment) awaitStart(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	url := q.d.urls[q.d.guest] + bfia.PathPlatformJobList + "?job_status=" + string(bfia.JobRunning)
	for {
		var list bfia.JobList
		if err := apiclient.Call(ctx, http.MethodGet, url, nil, &list); err != nil {
			return time.Time{}, fmt.Errorf("failed to list the running jobs: %w", err)
		}
		for _, job := range list.Jobs {
			if !q.seen[job.JobID] {
				q.seen[job.JobID] = true
				q.running = append(q.running, job.JobID)
				return time.Now(), nil
			}
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no further job started: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
