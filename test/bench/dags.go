package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

// exitProgram ends at once with exit code 0.
const exitProgram = "/bin/true"

// sleepProgram sleeps for the seconds in its argument.
const sleepProgram = "/bin/sleep"

// registerProgram registers a provider at both parties whose components are processes that run a command. The
// component Nothing has one input, and Join the given number.
func (d *deployment) registerProgram(ctx context.Context, name string, inputs int, command ...string) error {
	describe := func(component string, inputs int) map[string]any {
		ports := make([]map[string]string, inputs)
		for i := range ports {
			ports[i] = map[string]string{"name": fmt.Sprintf("in%d", i), "category": "dataset"}
		}
		return map[string]any{"componentName": component, "title": component, "provider": name,
			"version": "1", "roleList": []string{"guest", "host"}, "storageEngine": []string{"file"},
			"inputParam": []any{}, "inputData": ports,
			"outputData": []any{map[string]string{"name": "out", "category": "dataset"}},
			"result":     []any{}}
	}
	body, err := json.Marshal(
		map[string]any{"name": name, "version": "1", "device": bfia.DeviceProcess, "protocol": "bfia",
			"metadata": map[string]any{
				"command": command,
			}, "components_description": map[string]any{
				"Nothing": describe("Nothing", 1), "Join": describe("Join", inputs)}},
	)
	if err != nil {
		return err
	}
	for _, url := range d.urls {
		if err := apiclient.Call(ctx, http.MethodPost, url+bfia.PathProviderRegister, body, nil); err != nil {
			return fmt.Errorf("failed to register provider %s: %w", name, err)
		}
	}
	return nil
}

// shape is a kind of DAG. dependsOn returns the tasks on which the i-th of n depends.
type shape struct {
	name      string
	dependsOn func(i, n int) []int
}

var shapes = []shape{
	{"chain", func(i, _ int) []int {
		if i == 0 {
			return nil
		}
		return []int{i - 1}
	}},
	{"fan-out", func(i, _ int) []int {
		if i == 0 {
			return nil
		}
		return []int{0}
	}},
	{"diamond", func(i, n int) []int {
		switch {
		case i == 0:
			return nil
		case i < n-1:
			return []int{0}
		}
		middle := make([]int, n-2)
		for k := range middle {
			middle[k] = k + 1
		}
		return middle
	}},
}

// dagDocument returns a job of n tasks between both parties.
func (d *deployment) dagDocument(provider string, s shape, n int) ([]byte, error) {
	var components []any
	for i := range n {
		input := []any{}
		for _, up := range s.dependsOn(i, n) {
			input = append(input, map[string]string{"type": "dataset", "key": fmt.Sprintf("t%d.out", up)})
		}
		component := "Nothing"
		if len(input) > 1 {
			component = "Join"
		}
		components = append(
			components,
			map[string]any{"name": fmt.Sprintf("t%d", i), "componentName": component, "provider": provider,
				"version": "1", "input": input,
				"output": []any{map[string]string{"type": "dataset", "key": "out"}}},
		)
	}
	return json.Marshal(
		map[string]any{"flow_id": "bench", "dag": map[string]any{"version": "2.0", "components": components},
			"config": map[string]any{
				"version":   "2.0.0",
				"initiator": map[string]string{"role": "guest", "node_id": d.guest},
				"role":      map[string]any{"guest": []string{d.guest}, "host": []string{d.host}},
				"job_params": map[string]any{
					"common": map[string]any{"sync_type": "callback"},
				},
				"task_params": map[string]any{"common": map[string]any{}},
			}},
	)
}
