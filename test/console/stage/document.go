package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"hutong/bfia"
)

type object = map[string]any

// followProvider is the registration of the component Follow; see [follow]. Join is the same with two inputs.
// Evaluation writes a report; see [evaluate].
func followProvider(files string) (object, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	describe := func(name string, inputs ...string) object {
		ports := []object{}
		for _, input := range inputs {
			ports = append(ports, object{"name": input, "category": "dataset"})
		}
		return object{"componentName": name, "title": name, "provider": "stage", "version": "1.0.0",
			"roleList": []string{"guest", "host"}, "storageEngine": []string{"file"},
			"inputParam": []object{{"name": "file", "title": "file", "description": "what the task follows",
				"type": "string", "optional": "true", "defaultValue": "", "UIPattern": "editeable",
				"groupTag": "general", "UIType": "input"}},
			"inputData":  ports,
			"outputData": []object{{"name": "out", "category": "dataset"}}, "result": []object{}}
	}
	evaluation := describe("Evaluation")
	evaluation["outputData"] = []object{{"name": "report", "category": "report"}}
	return object{"name": "stage", "version": "1.0.0", "device": bfia.DeviceProcess, "protocol": "bfia",
		"metadata": object{"command": []string{program, followCommand, files}},
		"components_description": object{"Follow": describe("Follow", "in"),
			"Join": describe("Join", "left", "right"), "Evaluation": evaluation}}, nil
}

var (
	inDocker = regexp.MustCompile(`"device": *"docker"`)
	image    = regexp.MustCompile(`"image": *"[^"]*"`)
)

// referenceProvider is the registration of the reference provider for the process driver.
func referenceProvider(bin string) (json.RawMessage, error) {
	text, err := os.ReadFile("providers/reference/provider.json")
	if err != nil {
		return nil, fmt.Errorf("%w: run this in the repository's root", err)
	}
	edited := inDocker.ReplaceAllString(string(text), `"device": "process"`)
	program := strconv.Quote(filepath.Join(bin, "provider"))
	return json.RawMessage(image.ReplaceAllString(edited, `"command": [`+program+`]`)), nil
}

// referenceJob is the reference job with another flow, and with the given dataset of the host.
func referenceJob(flow, hostDataset string) (json.RawMessage, error) {
	text, err := os.ReadFile("deploy/demo/job.json")
	if err != nil {
		return nil, fmt.Errorf("%w: run this in the repository's root", err)
	}
	return json.RawMessage(strings.NewReplacer(`"flow_id": "demo"`, `"flow_id": `+strconv.Quote(flow),
		"demo#breast_host", hostDataset, `"sync_type": "poll"`, `"sync_type": "callback"`).
		Replace(string(text))), nil
}

// followTask is a task of component Follow, or of Join if two others come before it.
type followTask struct {
	name string
	// after are the tasks whose outputs it reads.
	after []string
	// guest and host are the files that its parts follow. A part without one ends at once.
	guest, host string
}

// followJob is a job of Follow tasks.
func followJob(flow string, tasks ...followTask) object {
	components := []object{}
	params := map[string]object{"guest": {}, "host": {}}
	for _, t := range tasks {
		name := "Follow"
		if len(t.after) > 1 {
			name = "Join"
		}
		inputs := []object{}
		for _, before := range t.after {
			inputs = append(inputs, object{"type": "dataset", "key": before + ".out"})
		}
		components = append(components, object{"name": t.name, "componentName": name, "provider": "stage",
			"version": "1.0.0", "input": inputs, "output": []object{{"type": "dataset", "key": "out"}}})
		for role, file := range map[string]string{"guest": t.guest, "host": t.host} {
			if file != "" {
				params[role][t.name] = object{"file": file}
			}
		}
	}
	return object{"flow_id": flow, "dag": object{"version": "2.0", "components": components},
		"config": object{"version": "2.0.0",
			"initiator":  object{"role": "guest", "node_id": guestNode},
			"role":       object{"guest": []string{guestNode}, "host": []string{hostNode}},
			"job_params": object{"common": object{"sync_type": "callback"}},
			"task_params": object{"common": object{}, "guest": object{"0": params["guest"]},
				"host": object{"0": params["host"]}}}}
}

// evaluationJob is a job of one task of component Evaluation.
func evaluationJob(flow string) object {
	job := followJob(flow, followTask{name: "evaluate"})
	component := job["dag"].(object)["components"].([]object)[0]
	component["componentName"] = "Evaluation"
	component["output"] = []object{{"type": "report", "key": "report"}}
	return job
}

// largeJob is a job of n tasks in layers, each of which reads from two tasks of the layer before. The first
// one follows a file, so that all others wait.
func largeJob(n int, file string) object {
	const width = 25
	tasks := []followTask{{name: "t0", guest: file, host: file}}
	for i := 1; i < n; i++ {
		t := followTask{name: fmt.Sprintf("t%d", i), after: []string{"t0"}}
		if i > width {
			column := (i - 1) % width
			first := i - column - width // the first task of the layer before
			t.after = []string{fmt.Sprintf("t%d", first+column),
				fmt.Sprintf("t%d", first+(column+1)%width)}
		}
		tasks = append(tasks, t)
	}
	return followJob("large-graph", tasks...)
}
