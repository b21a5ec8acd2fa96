package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

// The providers of the jobs: the reference algorithms, and their component Sleep for tests.
const (
	sleepProvider = "chaos"
)

// registerAndUpload registers the providers and uploads the datasets at every party.
func (d *deployment) registerAndUpload(ctx context.Context) error {
	reference, err := os.ReadFile(filepath.Join(d.root, "providers", "reference", "provider.json"))
	if err != nil {
		return err
	}
	sleep, err := sleepRegistration()
	if err != nil {
		return err
	}

	for _, p := range d.parties {
		for _, registration := range [][]byte{reference, sleep} {
			if err := d.register(ctx, p, registration); err != nil {
				return fmt.Errorf("failed to register a provider at %s: %w", p.name, err)
			}
		}
		if err := d.upload(ctx, p); err != nil {
			return err
		}
		if err := d.grant(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// upload uploads the datasets of the jobs at a party.
func (d *deployment) upload(ctx context.Context, p *party) error {
	for file, args := range map[string][]string{"guest.csv": {"--name", "breast_guest", "--label", "y"},
		"host.csv": {"--name", "breast_host"}} {
		args = append([]string{"data", "upload", "--namespace", "demo", "--id", "id",
			"--partitions", "4", "--file", filepath.Join(d.root, "testdata", "breast", file)}, args...)
		if err := d.command(ctx, p, args...); err != nil {
			return fmt.Errorf("failed to upload %s: %w", file, err)
		}
	}
	return nil
}

// sleepRegistration returns the registration of the component Sleep, with up to four inputs.
func sleepRegistration() ([]byte, error) {
	var inputs []any
	for i := range 4 {
		inputs = append(inputs, map[string]any{"name": fmt.Sprintf("in%d", i+1), "category": "dataset"})
	}
	return json.Marshal(map[string]any{
		"name": sleepProvider, "version": "1", "protocol": "bfia",
		"components_description": map[string]any{"Sleep": map[string]any{
			"componentName": "Sleep", "title": "Sleep", "provider": sleepProvider, "version": "1",
			"roleList": []string{"guest", "host"}, "storageEngine": []string{"file"},
			"inputParam": []any{}, "inputData": inputs,
			"outputData": []any{map[string]any{"name": "out", "category": "dataset"}}, "result": []any{}}}})
}

// register registers a provider at a party, for containers or for processes as the party runs them.
func (d *deployment) register(ctx context.Context, p *party, registration []byte) error {
	var fields map[string]any
	if err := json.Unmarshal(registration, &fields); err != nil {
		return err
	}
	fields["device"], fields["metadata"] = "docker", map[string]any{"image": providerImage}
	if p.dockerSocket == "" {
		command := []string{filepath.Join(d.bin, "chaos"), "task"}
		fields["device"], fields["metadata"] = "process", map[string]any{"command": command}
	}

	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return call(ctx, p, http.MethodPost, bfia.PathProviderRegister, body, nil)
}

// call sends one request to a party and decodes the data of its answer unless data is nil.
func call(ctx context.Context, p *party, method, path string, body []byte, data any) error {
	ctx, cancel := context.WithTimeout(ctx, 70*time.Second)
	defer cancel()
	return p.client.Call(ctx, method, p.url()+path, body, data)
}

// jobDocument returns a job's DAG and configuration.
func (d *deployment) jobDocument(j JobPlan) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(d.root, "deploy", "demo", "job.json"))
	if err != nil {
		return nil, err
	}
	if j.Kind == jobLR {
		text = bytes.ReplaceAll(text, []byte("hetero_secureboost_1"), []byte("hetero_lr_1"))
		text = bytes.ReplaceAll(text, []byte("HeteroSecureBoost"), []byte("HeteroLR"))
	}
	var job map[string]any
	if err := json.Unmarshal(text, &job); err != nil {
		return nil, err
	}
	config := job["config"].(map[string]any)
	params := config["task_params"].(map[string]any)
	job["job_id"], job["flow_id"] = j.ID, string(j.Kind)
	roles := map[string]any{}
	for role, name := range j.Roles {
		roles[role] = []string{d.parties[name].node}
	}
	config["job_params"].(map[string]any)["common"].(map[string]any)["priority"] = j.Priority
	config["role"], config["initiator"] = roles, map[string]any{"role": "guest",
		"node_id": d.parties[j.Roles["guest"]].node}
	switch j.Kind {
	case jobBoost:
	case jobLR:
		params["common"].(map[string]any)["hetero_lr_1"] = map[string]any{
			"id": "id", "label": "y", "max_iter": 2, "batch_size": -1, "learning_rate": 0.15,
			"penalty": "L2", "alpha": 0.01, "optimizer": "rmsprop",
			"encrypt_param": map[string]any{"method": "Paillier", "key_length": 1024}}
	default:
		tasks := sleepTasksOf(j.Kind)
		job["dag"].(map[string]any)["components"] = tasks.components
		config["task_params"] = map[string]any{"common": tasks.params}
	}
	return json.Marshal(job)
}

// sleepTasks is a DAG of Sleep tasks with their parameters.
type sleepTasks struct {
	components []any
	params     map[string]any
}

// add adds a task that depends on others.
func (s *sleepTasks) add(name string, seconds, exitCode int, after ...string) {
	inputs := []any{}
	for _, a := range after {
		inputs = append(inputs, map[string]string{"type": "dataset", "key": a + ".out"})
	}
	s.components = append(s.components, map[string]any{
		"name": name, "componentName": "Sleep", "provider": sleepProvider, "version": "1", "input": inputs,
		"output": []any{map[string]string{"type": "dataset", "key": "out"}}})
	s.params[name] = map[string]any{"seconds": seconds, "exit_code": exitCode}
}

// sleepTasksOf returns the tasks of a job of a kind that only sleeps.
func sleepTasksOf(kind JobKind) *sleepTasks {
	s := &sleepTasks{params: map[string]any{}}
	switch kind {
	case jobSleeps:
		s.add("first", 1, 0)
		last := []string{}
		for i := range 4 {
			a, b := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)
			s.add(a, i%3, 0, "first")
			s.add(b, (i+1)%3, 0, a)
			last = append(last, b)
		}
		s.add("last", 1, 0, last...)
	case jobFails:
		s.add("s1", 2, 3)
		s.add("s2", 1, 0, "s1")
	case jobStops:
		s.add("s1", 60, 0)
		s.add("s2", 1, 0, "s1")
	}
	return s
}

// jobRun is a planned job as its client sees it.
type jobRun struct {
	JobPlan
	began     time.Time // when it was first submitted
	submitted time.Time // when it was accepted
	tries     int
	ended     time.Time
	err       error
	// unknown is set if its scheduler, which was restored meanwhile, does not know the job any more, and
	// refusal if its submission was refused because of a restore. The client leaves the job then.
	unknown bool
	refusal string
}

// restoreRefusal is in the message with which a party refuses a job from before its restore.
const restoreRefusal = "was restored from a backup, so the job may have run"

// runJob submits a job until it is accepted, stops it if its plan says so, and waits for its end at the party
// that submitted it. After an error or without an answer it tries again, which must never create two jobs.
func (d *deployment) runJob(ctx context.Context, r *jobRun) {
	guest := d.parties[r.Roles["guest"]]
	r.began = time.Now()
	if d.restores { // parties that were restored judge a job by the time in its id
		r.ID = bfia.NewJobID(r.began, 0)
	}
	body, err := d.jobDocument(r.JobPlan)
	if err != nil {
		r.err = err
		return
	}
	// retry repeats a request until it succeeds. It reports false if the client leaves the job.
	retry := func(do func() (bool, error)) bool {
		for {
			done, err := do()
			if done {
				return true
			}
			if ctx.Err() != nil {
				return false
			}
			r.err = err
			if d.leaves(r, err) {
				return false
			}
			waitUntil(ctx, time.Now().Add(500*time.Millisecond))
		}
	}
	if !retry(func() (bool, error) {
		r.tries++
		err := call(ctx, guest, http.MethodPost, bfia.PathPlatformCreateAll, body, nil)
		return err == nil, err
	}) {
		return
	}
	r.submitted = time.Now()
	if r.Kind == jobStops {
		waitUntil(ctx, r.submitted.Add(r.StopAt))
		if !retry(func() (bool, error) {
			body := []byte(`{"job_id":"` + r.ID + `"}`)
			err := call(ctx, guest, http.MethodPost, bfia.PathPlatformStopAll, body, nil)
			return err == nil, err
		}) {
			return
		}
	}
	if retry(func() (bool, error) {
		var status bfia.JobStatus
		err := call(ctx, guest, http.MethodGet, bfia.PathPlatformStatusAll+"?job_id="+r.ID, nil, &status)
		return err == nil && status.State.Terminal(), err
	}) {
		r.ended, r.err = time.Now(), nil
	}
}

// leaves reports whether a client leaves a job after an answer, because of a restore, and records why.
func (d *deployment) leaves(r *jobRun, err error) bool {
	var answer *apiclient.Error
	if !errors.As(err, &answer) {
		return false
	}
	switch {
	case strings.Contains(answer.Text, restoreRefusal):
		r.refusal = answer.Text
	case answer.Code == bfia.CodeNotFound && d.restoredSince(r.Roles["guest"], r.began):
		r.unknown = true
	}
	return r.unknown || r.refusal != ""
}

// results returns a job's outputs at its parties, by task, role and output, and why those can't be read that
// are missing, by the same or by the party. Their content is normalized, so that equal results are equal.
func (d *deployment) results(ctx context.Context, r *jobRun) (found, unreadable map[string]string) {
	found, unreadable = map[string]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Values(r.Roles)) {
		p := d.parties[name]
		var list struct{ Outputs []bfia.Output }
		err := call(ctx, p, http.MethodGet, bfia.PathJobOutputs+"?job_id="+r.ID, nil, &list)
		if err != nil {
			unreadable[name] = err.Error()
			continue
		}

		for _, o := range list.Outputs {
			role, _, _ := strings.Cut(o.Role, ".")
			key := o.TaskName + " " + role + " " + o.Output
			// Each job generates its own keys, so models differ. Rows and metrics don't.
			if o.TaskName == "intersect_rsa_1" && o.Output == "train_data" ||
				strings.HasSuffix(o.Output, "-auc") ||
				strings.HasSuffix(o.Output, "-ks") {
				text, err := download(ctx, p, o)
				if err != nil {
					unreadable[key] = err.Error()
					continue
				}
				lines := strings.Split(strings.TrimSpace(text), "\n")
				slices.Sort(lines)
				found[key] = strings.Join(lines, "\n")
			} else {
				found[key] = ""
			}
		}
	}
	return found, unreadable
}

func download(ctx context.Context, p *party, o bfia.Output) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("%s%s?namespace=%s&name=%s", p.url(), bfia.PathDataDownload, o.Namespace, o.Name), nil)
	if err != nil {
		return "", err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP %d: %.200s", resp.StatusCode, b)
	}
	return string(b), err
}
