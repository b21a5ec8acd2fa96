package bfia

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// AnyTask is the key for all tasks in a job's requires.
const AnyTask = "*"

// Constraints returns the labels that a job requires of the runner of a part of a task.
//
// They come from job_params.common.requires and job_params.<role>.<n>.requires, which overrides it. Both have
// the form {"<task, or *>": {"label": "value"}}; the labels of a task override those of "*". They are
// Hutong's addition; other implementations ignore them.
func (c *Config) Constraints(task string, part Part) (map[string]string, error) {
	merged := map[string]string{}
	for _, l := range c.JobParams.layers(part.Role, part.Index) {
		byTask, err := l.constraints()
		if err != nil {
			return nil, err
		}
		maps.Copy(merged, byTask[AnyTask])
		maps.Copy(merged, byTask[task])
	}
	return merged, nil
}

// constraints returns the labels by task of one layer of job_params.
func (l layer) constraints() (map[string]map[string]string, error) {
	var byTask map[string]map[string]string
	labels := func(into *map[string]string) any { return MapOf(into, nil) }
	if err := DecodeFields(l.values, Optional("requires", MapOf(&byTask, labels))); err != nil {
		return nil, PrefixField("config.job_params."+l.place, err)
	}
	for _, task := range sortedKeys(byTask) {
		field := fmt.Sprintf("config.job_params.%s.requires.%s", l.place, task)
		if err := CheckLabels(field, byTask[task]); err != nil {
			return nil, err
		}
	}
	return byTask, nil
}

// checkConstraints refuses invalid constraints, and those of a task that the DAG does not have, at all parts.
func checkConstraints(c *Config, place map[string]int) error {
	all := []layer{{"common", c.JobParams.Common}}
	for _, role := range sortedKeys(c.JobParams.Roles) {
		for _, key := range sortedKeys(c.JobParams.Roles[role]) {
			all = append(all, layer{role + "." + key, c.JobParams.Roles[role][key]})
		}
	}
	for _, l := range all {
		byTask, err := l.constraints()
		if err != nil {
			return err
		}
		for _, task := range sortedKeys(byTask) {
			if _, known := place[task]; !known && task != AnyTask {
				return Errorf(CodeBadRequest,
					"config.job_params.%s.requires.%s: the DAG has no task of that name%s", l.place, task,
					DidYouMean(task, sortedKeys(place)))
			}
		}
	}
	return nil
}

// providerLabels is a registration's metadata.requires. Its errors name the path, which those of
// encoding/json do not.
type providerLabels map[string]string

// UnmarshalJSON reads the object.
func (l *providerLabels) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	return PrefixField("metadata.requires", MapOf((*map[string]string)(l), nil)(b))
}

// ProviderConstraints returns the labels that a provider requires of a runner: metadata.requires of its
// stored registration.
func ProviderConstraints(metadata json.RawMessage) (map[string]string, error) {
	if len(metadata) == 0 {
		return nil, nil
	}
	var m struct {
		Requires providerLabels `json:"requires"`
	}
	if err := DecodeJSON(metadata, &m); err != nil {
		return nil, err
	}
	return m.Requires, CheckLabels("metadata.requires", m.Requires)
}

// CheckLabels returns an error if labels of a runner, or constraints, are not valid; field is the path for
// the message. Names and values have the form of ids.
func CheckLabels(field string, labels map[string]string) error {
	for _, name := range sortedKeys(labels) {
		if err := CheckID(field+"."+name, name); err != nil {
			return err
		}
		if err := CheckID(field+"."+name, labels[name]); err != nil {
			return err
		}
	}
	return nil
}

// LabelGPU is the label of runners with GPUs. A task that requires it, and requests no number of GPUs in its
// resources, gets one.
const LabelGPU = "gpu"

// RequiresGPU reports whether labels require a runner with a GPU.
func RequiresGPU(labels map[string]string) bool {
	value, required := labels[LabelGPU]

	return required && !slices.Contains([]string{"0", "false", "no", "none"}, strings.ToLower(value))
}
