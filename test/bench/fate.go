package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/test/interop/fateflow"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/ports"
)

// fateTasks are the tasks of the job of FATE's own components, which run one after the other.
var fateTasks = []string{"psi", "hetero_secureboost", "coordinated_lr"}

// fateSite is a server that answers FATE's clients, with the parties of a job.
type fateSite struct {
	url         string
	guest, host string
}

// measureFATE runs one job of FATE's own components alternately on a FATE-Flow in its standalone deployment
// and on two parties of Hutong with providers/fate. Both get the same DAG and rows, by the requests of FATE's
// clients. FATE-Flow's parties share a server and a folder of tables; those of Hutong have a transport each.
//
// With its defaults, FATE-Flow gives each task all cores of the job, and runs one task after the other.
func measureFATE(ctx context.Context, o options, into *report) error {
	if o.cache == "" {
		return errors.New("-cache is required: 'make bench-fate' installs FATE-Flow and FATE, and sets it")
	}
	program := filepath.Join(o.cache, "fate", "bin", "hutong-fate")
	d, err := startDeployment(ctx, o, manySlots, "--no-docker", "--allow", program)
	if err != nil {
		return err
	}
	defer d.stop()
	registration, err := exec.CommandContext(ctx, program, "register", "--command", program).Output()
	if err != nil {
		return fmt.Errorf("failed to describe FATE's components: %w", err)
	}
	for _, node := range []string{d.guest, d.host} {
		url := d.urls[node] + bfia.PathProviderRegister
		if err := d.clients[node].Call(ctx, http.MethodPost, url, registration, nil); err != nil {
			return err
		}
	}
	p, site, err := startStandalone(ctx, o)
	if p != nil {
		defer p.stop(context.WithoutCancel(ctx), nil)
	}
	if err != nil {
		return err
	}
	hutong := fateSite{url: d.urls[d.guest], guest: d.guest, host: d.host}
	for _, role := range roles {
		rows, err := os.ReadFile(filepath.Join("testdata", "breast", role+".csv"))
		if err != nil {
			return fmt.Errorf("%w: run this in the repository's root", err)
		}
		const common = `"delimiter":",","match_id_name":"id","dtype":"float32"`
		meta := "{" + common + "}"
		if role == "guest" {
			meta = "{" + common + `,"label_name":"y","label_type":"int32"}`
		}
		node := map[string]string{"guest": d.guest, "host": d.host}[role]
		if err := d.uploadAs(ctx, node, role, string(rows), meta); err != nil {
			return err
		}
		if err := site.upload(ctx, role, rows, meta); err != nil {
			return fmt.Errorf("failed to upload a dataset to FATE-Flow: %w", err)
		}
	}

	section := into.addSection("One job of FATE's components", "FATE-Flow 2.2.0, standalone")
	names := append([]string{"submission to end"}, fateTasks...)
	all := make([]breakdown, len(names))
	for range o.rounds {
		for i := range names {
			all[i].name = names[i]
		}
		for _, side := range []fateSite{site, hutong} {
			times, err := side.run(ctx)
			if err != nil {
				return err
			}
			for i, took := range times {
				to := &all[i].hutong
				if side == site {
					to = &all[i].baseline
				}
				to.add(took, nil)
			}
		}
		for i := range all {
			all[i].log(o)
		}
	}
	for i, one := range all {
		bound := target{} // single components vary with FATE's processes
		if i == 0 {
			bound = atMost(1)
		}
		section.add(compareMedians(one.name, one.hutong, one.baseline, bound))
	}
	return nil
}

// startStandalone starts a FATE-Flow that is both guest and host, with FATE's own components.
func startStandalone(ctx context.Context, o options) (*fateFlowPair, fateSite, error) {
	p := &fateFlowPair{}
	site := fateSite{guest: "9999", host: "10000"}
	var err error
	if p.dir, err = os.MkdirTemp("", "hutong-bench-fate-"); err != nil {
		return nil, site, err
	}
	first, err := ports.Free("127.0.0.1", 2)
	if err != nil {
		return p, site, err
	}
	server := &fateflow.Server{Dir: filepath.Join(p.dir, "fate_flow"), Cache: o.cache, Node: site.guest,
		Address: "127.0.0.1:" + strconv.Itoa(first), GRPCPort: first + 1, Components: true}
	if err := server.Install(); err != nil {
		return p, site, err
	}
	program, args, env := server.Command()
	if err := p.launch("fateflow", program, args, env); err != nil {
		return p, site, err
	}
	if err := pollUntil(ctx, 2*time.Minute, server.IsReady); err != nil {
		return p, site, fmt.Errorf("failed to start FATE-Flow at %s: %w", server.Address, err)
	}
	site.url = server.URL()
	return p, site, server.EnableWAL(ctx)
}

// upload uploads rows, which FATE-Flow does in a job of its own.
func (s fateSite) upload(ctx context.Context, name string, rows []byte, meta string) error {
	var created struct {
		JobID string `json:"job_id"`
	}
	body := map[string]any{"file": "", "head": true, "partitions": 1, "meta": json.RawMessage(meta),
		"namespace": "testspace", "name": name, "extend_sid": true}
	file, err := os.CreateTemp("", "hutong-bench-*.csv")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(rows)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	body["file"] = file.Name()
	if err := s.ask(ctx, http.MethodPost, bfia.PathDataUpload, body, &created); err != nil {
		return err
	}
	return s.awaitSuccess(ctx, created.JobID, "local", "0")
}

// ask sends a request of FATE's clients, and decodes the whole answer.
func (s fateSite) ask(ctx context.Context, method, path string, body, into any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	a, err := apiclient.Send(ctx, method, s.url+path, raw)
	if err != nil {
		return err
	}
	var envelope struct{ Code *int }
	if err := json.Unmarshal(a.Body, &envelope); err != nil || envelope.Code == nil || *envelope.Code != 0 {
		return fmt.Errorf("%s%s answers %s", s.url, path, a.Body)
	}
	return json.Unmarshal(a.Body, into)
}

// awaitSuccess polls a job until it has ended, and fails if it did not succeed.
func (s fateSite) awaitSuccess(ctx context.Context, jobID, role, party string) error {
	query := url.Values{"job_id": {jobID}, "role": {role}, "party_id": {party}}.Encode()
	return pollUntil(ctx, 15*time.Minute, func() (bool, error) {
		var answer struct{ Data []struct{ Status string } }
		if err := s.ask(ctx, http.MethodGet, fateclient.PathJobQuery+"?"+query, nil, &answer); err != nil {
			return false, err
		}
		switch status := answer.Data[0].Status; status {
		case "success":
			return true, nil
		case "failed", "canceled":
			return false, fmt.Errorf("job %s at %s is %s", jobID, s.url, status)
		}
		return false, nil
	})
}

// run submits the job, and returns the time until its end, and that of each task at the guest.
func (s fateSite) run(ctx context.Context) ([]time.Duration, error) {
	var created struct {
		JobID string `json:"job_id"`
	}
	began := time.Now()
	if err := s.ask(ctx, http.MethodPost, fateclient.PathJobSubmit, s.job(), &created); err != nil {
		return nil, err
	}
	if err := s.awaitSuccess(ctx, created.JobID, "guest", s.guest); err != nil {
		return nil, err
	}
	times := []time.Duration{time.Since(began)}
	var answer struct {
		Data []struct {
			Name    string `json:"task_name"`
			Status  string
			Elapsed int64 // milliseconds
		}
	}
	query := url.Values{"job_id": {created.JobID}, "role": {"guest"}, "party_id": {s.guest}}.Encode()
	if err := s.ask(ctx, http.MethodGet, fateclient.PathTaskQuery+"?"+query, nil, &answer); err != nil {
		return nil, err
	}
	for _, name := range fateTasks {
		found := false
		for _, task := range answer.Data {
			if task.Name == name && task.Status == "success" {
				times, found = append(times, time.Duration(task.Elapsed)*time.Millisecond), true
			}
		}
		if !found {
			return nil, fmt.Errorf("job %s at %s: the task %s did not succeed", created.JobID, s.url, name)
		}
	}
	return times, nil
}

// job returns the DAG: the rows in common, and two trainings with them.
func (s fateSite) job() map[string]any {
	type object = map[string]any
	party := func(role, id string) object { return object{"role": role, "party_id": []string{id}} }
	both := []any{party("guest", s.guest), party("host", s.host)}
	task := func(component, stage, input, from string, parameters object, parties []any) object {
		t := object{"component_ref": component, "stage": stage, "parameters": parameters, "parties": parties}
		if from != "" {
			source := object{"producer_task": from, "output_artifact_key": "output_data"}
			t["inputs"] = object{"data": object{input: object{"task_output_artifact": source}}}
		}
		return t
	}
	three := append(slices.Clone(both), party("arbiter", s.host))
	tasks := object{
		"reader": task("reader", "default", "", "", object{}, both),
		"psi":    task("psi", "default", "input_data", "reader", object{}, both),
		"hetero_secureboost": task("hetero_secureboost", "train", "train_data", "psi",
			object{"num_trees": 2, "max_depth": 3}, both),
		"coordinated_lr": task("coordinated_lr", "train", "train_data", "psi",
			object{"epochs": 2, "batch_size": 300}, three),
	}
	readers := object{}
	for role, id := range map[string]string{"guest": s.guest, "host": s.host} {
		read := object{"parameters": object{"namespace": "testspace", "name": role}}
		readers[role+"_"+id] = object{"parties": []any{party(role, id)}, "tasks": object{"reader": read}}
	}
	dag := object{"parties": three, "stage": "train", "conf": object{}, // FATE-Flow fails without conf
		"tasks": tasks, "party_tasks": readers}
	return object{"dag_schema": object{"dag": dag, "schema_version": "2.2.0"}}
}
