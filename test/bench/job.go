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

// document is the seed's job, between this deployment's parties, with the provider of that name.
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

// jobTimes are the moments of one job.
type jobTimes struct {
	submitted, answered, finished time.Time
	status                        bfia.JobStatus
}

// job submits a job and waits until it is FINISHED.
func (d *deployment) runJob(ctx context.Context, document []byte) (t jobTimes, err error) {
	var created bfia.JobCreated
	t.submitted = time.Now()
	if err := apiclient.Call(ctx, http.MethodPost, d.urls[d.guest]+bfia.PathPlatformCreateAll, document, &created); err != nil {
		return t, fmt.Errorf("submit: %w", err)
	}
	t.answered = time.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	every := 5 * time.Millisecond // of a large job the question is no small matter
	if len(document) > 20_000 {
		every = 100 * time.Millisecond
	}
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
			return t, fmt.Errorf("job %s does not end: %w", created.JobID, ctx.Err())
		}
	}
	return t, t.checkSuccess()
}

func (t *jobTimes) checkSuccess() error {
	for _, task := range t.status.Tasks {
		if task.State != bfia.TaskSuccess {
			return fmt.Errorf("task %s of job %s is %s: %s", task.Name, t.status.JobID, task.State, task.Reason)
		}
	}
	return nil
}

func (d *deployment) status(ctx context.Context, node, jobID string, into *bfia.JobStatus) error {
	err := apiclient.Call(ctx, http.MethodGet, d.urls[node]+bfia.PathPlatformStatusAll+"?job_id="+url.QueryEscape(jobID), nil, into)
	if err != nil {
		return fmt.Errorf("status of job %s at %s: %w", jobID, node, err)
	}
	return nil
}

// settle waits until both parties have ended the job too, so that nothing of it is left to disturb what comes next.
func (d *deployment) awaitParticipants(ctx context.Context, t jobTimes) error {
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

// concurrentClients is how many clients submit at the same time where many jobs are submitted.
const concurrentClients = 32

// many submits n jobs at once and tells how long it took until the last was FINISHED, and their ids. One request at a time asks for all
// of them: more would load what is measured.
func (d *deployment) runMany(ctx context.Context, document []byte, n int) (time.Duration, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	began := time.Now()
	ids := make([]string, n)
	if err := forEachParallel(n, min(n, concurrentClients), func(i int) error {
		var created bfia.JobCreated
		for {
			err := apiclient.Call(ctx, http.MethodPost, d.urls[d.guest]+bfia.PathPlatformCreateAll, document, &created)
			ids[i] = created.JobID
			var busy *apiclient.Error
			if !errors.As(err, &busy) || busy.Code != bfia.CodeUnavailable { // it says that it is to be submitted again
				return err
			}
		}
	}); err != nil {
		return 0, nil, fmt.Errorf("submit: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var list bfia.JobList
		if err := apiclient.Call(ctx, http.MethodGet, fmt.Sprintf("%s%s?limit=%d", d.urls[d.guest], bfia.PathPlatformJobList, n), nil, &list); err != nil {
			return 0, nil, err
		}
		if !slices.ContainsFunc(ids, func(id string) bool { return list.JobList[id] != bfia.JobFinished }) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, nil, fmt.Errorf("the jobs do not end: %w", ctx.Err())
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
		if err := d.awaitParticipants(ctx, t); err != nil {
			return 0, nil, err
		}
	}
	return took, ids, nil
}

// profiled writes a CPU profile of hutong while f runs.
func (d *deployment) withProfile(ctx context.Context, o options, name string, f func() error) error {
	if d.pprof == "" {
		return f()
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { done <- d.fetchProfile(ctx, filepath.Join(o.profile, name+".pprof"), 15) }()
	if err := f(); err != nil {
		return err
	}
	return <-done
}

func (d *deployment) fetchProfile(ctx context.Context, file string, seconds int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", d.pprof, seconds), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: HTTP %d", resp.StatusCode)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	_, err = io.Copy(out, resp.Body)
	return err
}
