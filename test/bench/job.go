package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

// referenceJob returns the reference job between this deployment's parties, with a provider.
func (d *deployment) referenceJob(provider string) ([]byte, error) {
	body, err := os.ReadFile(filepath.Join(vectorsDir, "job_create_all.request.json"))
	if err != nil {
		return nil, err
	}
	var job map[string]any
	if err := json.Unmarshal(body, &job); err != nil {
		return nil, err
	}
	for _, c := range job["dag"].(map[string]any)["components"].([]any) {
		c.(map[string]any)["provider"] = provider
	}
	config := job["config"].(map[string]any)
	config["initiator"] = map[string]any{"role": "guest", "node_id": d.guest}
	config["role"] = map[string]any{"guest": []string{d.guest}, "host": []string{d.host}}
	return json.Marshal(job)
}

// jobTimes holds the times of one job.
type jobTimes struct {
	submitted, answered, finished time.Time
	status                        bfia.JobStatus
}

// runJob submits a job and waits until it is FINISHED.
func (d *deployment) runJob(ctx context.Context, document []byte) (t jobTimes, err error) {
	var created bfia.JobCreated
	t.submitted = time.Now()
	url := d.urls[d.guest] + bfia.PathPlatformCreateAll
	if err := d.clients[d.guest].Call(ctx, http.MethodPost, url, document, &created); err != nil {
		return t, fmt.Errorf("failed to submit a job: %w", err)
	}
	t.answered = time.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	every := 5 * time.Millisecond // less often for a large job, whose status is expensive
	if len(document) > 20_000 {
		every = 100 * time.Millisecond
	}
	every = max(every, d.every)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := d.status(ctx, d.guest, created.JobID, &t.status); err != nil {
			return t, err
		}
		if t.status.State == bfia.JobFinished {
			t.finished = time.Now()
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t, fmt.Errorf("job %s did not end: %w", created.JobID, ctx.Err())
		}
	}
	return t, t.checkSuccess()
}

func (t *jobTimes) checkSuccess() error {
	for _, task := range t.status.Tasks {
		if task.State != bfia.TaskSuccess {
			return fmt.Errorf("task %s of job %s is %s: %s", task.Name, t.status.JobID, task.State,
				task.Reason)
		}
	}
	return nil
}

func (d *deployment) status(ctx context.Context, node, jobID string, into *bfia.JobStatus) error {
	err := d.clients[node].Call(ctx, http.MethodGet,
		d.urls[node]+bfia.PathPlatformStatusAll+"?job_id="+url.QueryEscape(jobID), nil, into)
	if err != nil {
		return fmt.Errorf("failed to read the status of job %s at %s: %w", jobID, node, err)
	}
	return nil
}

// awaitHost waits until the job has ended at the other party too, so that it does not disturb the next
// measurement.
func (d *deployment) awaitHost(ctx context.Context, t jobTimes) error {
	for {
		var own bfia.JobStatus
		if err := d.status(ctx, d.host, t.status.JobID, &own); err != nil {
			return err
		}
		if own.State == bfia.JobFinished {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// concurrentClients is the number of clients that submit many jobs.
const concurrentClients = 16

// runMany submits n jobs at once. It returns their ids, and the time until the last was FINISHED. It polls
// all of them with one request, since more would add to the measured load.
func (d *deployment) runMany(ctx context.Context, document []byte, n int) (time.Duration, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	began := time.Now()
	ids := make([]string, n)
	if err := forEachParallel(n, min(n, concurrentClients), func(i int) error {
		var created bfia.JobCreated
		for {
			url := d.urls[d.guest] + bfia.PathPlatformCreateAll
			err := d.clients[d.guest].Call(ctx, http.MethodPost, url, document, &created)
			ids[i] = created.JobID
			var busy *apiclient.Error
			if !errors.As(err, &busy) || busy.Code != bfia.CodeUnavailable { // which asks the client to retry
				return err
			}
		}
	}); err != nil {
		return 0, nil, fmt.Errorf("failed to submit a job: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var list bfia.JobList
		url := fmt.Sprintf("%s%s?limit=%d", d.urls[d.guest], bfia.PathPlatformJobList, n)
		if err := d.clients[d.guest].Call(ctx, http.MethodGet, url, nil, &list); err != nil {
			return 0, nil, err
		}
		if !slices.ContainsFunc(ids, func(id string) bool { return list.JobList[id] != bfia.JobFinished }) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, nil, fmt.Errorf("the jobs did not end: %w", ctx.Err())
		}
	}
	took := time.Since(began)
	for _, id := range ids {
		var t jobTimes
		if err := d.status(ctx, d.guest, id, &t.status); err != nil {
			return 0, nil, err
		}
		if err := t.checkSuccess(); err != nil {
			return 0, nil, err
		}
		if err := d.awaitHost(ctx, t); err != nil {
			return 0, nil, err
		}
	}
	return took, ids, nil
}

// withProfile writes a CPU profile of hutong while f runs.
func (d *deployment) withProfile(ctx context.Context, o options, name string, f func() error) error {
	if d.pprof == "" {
		return f()
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	url := "http://" + d.pprof + "/debug/pprof/profile?seconds=15"
	go func() { done <- fetchProfile(ctx, url, filepath.Join(o.profile, name+".pprof")) }()
	if err := f(); err != nil {
		return err
	}
	return <-done
}

func fetchProfile(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("failed to fetch a profile: HTTP %d", resp.StatusCode)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	_, err = io.Copy(out, resp.Body)
	return err
}
