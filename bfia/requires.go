package bfia

import (
	"encoding/json"
	"fmt"
	"maps"
)

// AnyTask stands in a job's requires for all tasks.
const AnyTask = "*"

// Constraints are the labels that a job wants of the host on which a part of a task runs: job_params.common.requires, and
// job_params.<role>.<n>.requires over it, are {"<task, or *>": {"label": "value"}}. In each of them the task's own labels
// stand over those of "*". It is Hutong's own, and other vendors' parties pass over it.
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

// requires are the labels by task that stand in one layer of job_params.
func (l layer) constraints() (map[string]map[string]string, error) {
	var byTask map[string]map[string]string
	labels := func(into *map[string]string) any { return MapOf(into, nil) }
	if err := DecodeFields(l.values, Optional("requires", MapOf(&byTask, labels))); err != nil {
		return nil, PrefixField("config.job_params."+l.place, err)
	}
	for _, task := range sortedKeys(byTask) {
		if err := CheckLabels(fmt.Sprintf("config.job_params.%s.requires.%s", l.place, task), byTask[task]); err != nil {
			return nil, err
		}
	}
	return byTask, nil
}

// checkConstraints refuses what is no requirement, and one of a task that the DAG doesn't have, at all parts.
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
				return Errorf(CodeBadRequest, "config.job_params.%s.requires.%s: the DAG has no task of that name", l.place, task)
			}
		}
	}
	return nil
}

// providerLabels are a registration's metadata.requires: encoding/json would not name the place of what is wrong.
type providerLabels map[string]string

// UnmarshalJSON reads the object.
func (l *providerLabels) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	return PrefixField("metadata.requires", MapOf((*map[string]string)(l), nil)(b))
}

// ProviderConstraints are the labels that a provider wants of the hosts on which its components run: metadata.requires of
// its registration, as the store keeps it.
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

// CheckLabels tells what is wrong with the labels of a host, or with those that are wanted of one, or nil; field names
// the whole in the message. Names and values are written as ids are.
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
