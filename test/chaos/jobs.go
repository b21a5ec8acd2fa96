package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
)

// The providers of the jobs: the reference algorithms, and its component for tests.
const (
	algorithms    = "hutong"
	sleepProvider = "chaos"
)

// prepare registers the providers and uploads the data at every party.
func (w *deployment) registerAndUpload(ctx context.Context, root string) error {
	reference, err := os.ReadFile(filepath.Join(root, "providers", "reference", "provider.json"))
	if err != nil {
		return err
	}
	var inputs []any
	for i := range 4 {
		inputs = append(inputs, map[string]any{"name": fmt.Sprintf("in%d", i+1), "category": "dataset"})
	}
	sleep, err := json.Marshal(map[string]any{"name": sleepProvider, "version": "1", "protocol": "bfia", "components_description": map[string]any{
		"Sleep": map[string]any{"componentName": "Sleep", "title": "Sleep", "provider": sleepProvider, "version": "1", "roleList": []string{"guest", "host"},
			"storageEngine": []string{"file"}, "inputParam": []any{}, "inputData": inputs,
			"outputData": []any{map[string]any{"name": "out", "category": "dataset"}}, "result": []any{}}}})
	if err != nil {
		return err
	}
	for _, p := range w.parties {
		for _, registration := range [][]byte{reference, sleep} {
			var fields map[string]any
			if err := json.Unmarshal(registration, &fields); err != nil {
				return err
			}
			if fields["device"], fields["metadata"] = "docker", map[string]any{"image": providerImage}; p.dockerSocket == "" {
				fields["device"], fields["metadata"] = "process", map[string]any{"command": []string{filepath.Join(w.bin, "chaos"), "task"}}
			}
			body, err := json.Marshal(fields)
			if err != nil {
				return err
			}
			if _, err := call(ctx, http.MethodPost, p.url()+bfia.PathProviderRegister, body); err != nil {
				return fmt.Errorf("registering at %s: %w", p.name, err)
			}
		}
		for file, args := range map[string][]string{"guest.csv": {"--name", "breast_guest", "--label", "y"}, "host.csv": {"--name", "breast_host"}} {
			c := exec.CommandContext(ctx, filepath.Join(w.bin, "hutong"), append([]string{"--url", p.url(), "data", "upload", "--namespace", "demo", "--id", "id",
				"--partitions", "4", "--file", filepath.Join(root, "testdata", "breast", file)}, args...)...)
			if out, err := c.CombinedOutput(); err != nil {
				return fmt.Errorf("uploading at %s: %w: %s", p.name, err, out)
			}
		}
	}
	return nil
}

// call sends one request and answers the data of a good envelope.
func call(ctx context.Context, method, url string, body []byte) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, 70*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var env bfia.Envelope
	if err := json.Unmarshal(answer, &env); err != nil {
		return nil, fmt.Errorf("%s answers %.200s", url, answer)
	}
	if !env.OK() {
		return nil, fmt.Errorf("%s: code %d: %s", url, env.Code, env.Text())
	}
	return env.Data, nil
}

// document is a job's DAG and configuration.
func (w *deployment) jobDocument(root string, j JobPlan) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "demo", "job.json"))
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
		roles[role] = []string{w.parties[name].node}
	}
	config["job_params"].(map[string]any)["common"].(map[string]any)["priority"] = j.Priority
	config["role"], config["initiator"] = roles, map[string]any{"role": "guest", "node_id": w.parties[j.Roles["guest"]].node}
	sleep := func(name string, seconds int, exitCode int, after ...string) (component, values map[string]any) {
		inputs := []any{}
		for _, a := range after {
			inputs = append(inputs, map[string]string{"type": "dataset", "key": a + ".out"})
		}
		return map[string]any{"name": name, "componentName": "Sleep", "provider": sleepProvider, "version": "1", "input": inputs,
			"output": []any{map[string]string{"type": "dataset", "key": "out"}}}, map[string]any{"seconds": seconds, "exit_code": exitCode}
	}
	var components []any
	common := map[string]any{}
	add := func(name string, seconds int, exitCode int, after ...string) {
		c, v := sleep(name, seconds, exitCode, after...)
		components, common[name] = append(components, c), v
	}
	switch j.Kind {
	case jobBoost:
		return json.Marshal(job)
	case jobLR:
		params["common"].(map[string]any)["hetero_lr_1"] = map[string]any{"id": "id", "label": "y", "max_iter": 2, "batch_size": -1,
			"learning_rate": 0.15, "penalty": "L2", "alpha": 0.01, "optimizer": "rmsprop", "encrypt_param": map[string]any{"method": "Paillier", "key_length": 1024}}
		return json.Marshal(job)
	case jobSleeps:
		add("first", 1, 0)
		last := []string{}
		for i := range 4 {
			a, b := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)
			add(a, i%3, 0, "first")
			add(b, (i+1)%3, 0, a)
			last = append(last, b)
		}
		add("last", 1, 0, last...)
	case jobFails:
		add("s1", 2, 3)
		add("s2", 1, 0, "s1")
	case jobStops:
		add("s1", 60, 0)
		add("s2", 1, 0, "s1")
	}
	job["dag"].(map[string]any)["components"] = components
	config["task_params"] = map[string]any{"common": common}
	return json.Marshal(job)
}

// jobRun is a job as its client knows it.
type jobRun struct {
	JobPlan
	submitted time.Time // when it was taken
	tries     int
	ended     time.Time
	err       error
}

// run submits a job until it is taken, stops it if it is to be stopped, and waits for its end at the party that submitted
// it. A client that gets no answer, or a bad one, tries again: that must never make two jobs of one.
func (w *deployment) runJob(ctx context.Context, root string, r *jobRun) {
	guest := w.parties[r.Roles["guest"]]
	body, err := w.jobDocument(root, r.JobPlan)
	if err != nil {
		r.err = err
		return
	}
	again := func(do func() (bool, error)) {
		for {
			done, err := do()
			if done || ctx.Err() != nil {
				return
			}
			r.err = err
			select {
			case <-time.After(500 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	again(func() (bool, error) {
		r.tries++
		_, err := call(ctx, http.MethodPost, guest.url()+bfia.PathPlatformCreateAll, body)
		return err == nil, err
	})
	r.submitted = time.Now()
	if r.Kind == jobStops {
		select {
		case <-time.After(r.StopAt):
		case <-ctx.Done():
		}
		again(func() (bool, error) {
			_, err := call(ctx, http.MethodPost, guest.url()+bfia.PathPlatformStopAll, []byte(`{"job_id":"`+r.ID+`"}`))
			return err == nil, err
		})
	}
	again(func() (bool, error) {
		data, err := call(ctx, http.MethodGet, guest.url()+bfia.PathPlatformStatusAll+"?job_id="+r.ID, nil)
		var status bfia.JobStatus
		if err == nil {
			err = json.Unmarshal(data, &status)
		}
		return err == nil && status.State.Terminal(), err
	})
	if ctx.Err() == nil {
		r.ended, r.err = time.Now(), nil
	}
}

// results are what a job left at its parties: by party, task and name of the output, its content in a form in which equal
// results are equal.
func (w *deployment) results(ctx context.Context, r *jobRun) (map[string]string, error) {
	found := map[string]string{}
	for _, name := range slices.Sorted(maps.Values(r.Roles)) {
		p := w.parties[name]
		data, err := call(ctx, http.MethodGet, p.url()+bfia.PathJobOutputs+"?job_id="+r.ID, nil)
		if err != nil {
			return nil, err
		}
		var list struct{ Outputs []bfia.Output }
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, err
		}
		for _, o := range list.Outputs {
			role, _, _ := strings.Cut(o.Role, ".")
			key := o.TaskName + " " + role + " " + o.Output
			found[key] = ""
			// Keys are drawn anew for each job, so models differ; rows and measures don't.
			if o.TaskName == "intersect_rsa_1" && o.Output == "train_data" || strings.HasSuffix(o.Output, "-auc") || strings.HasSuffix(o.Output, "-ks") {
				text, err := download(ctx, p, o)
				if err != nil {
					return nil, fmt.Errorf("output %s of job %s at %s: %w", key, r.ID, name, err)
				}
				lines := strings.Split(strings.TrimSpace(text), "\n")
				slices.Sort(lines)
				found[key] = strings.Join(lines, "\n")
			}
		}
	}
	return found, nil
}

func download(ctx context.Context, p *party, o bfia.Output) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s?namespace=%s&name=%s", p.url(), bfia.PathDataDownload, o.Namespace, o.Name), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
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
