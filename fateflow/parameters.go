package fateflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"hutong/bfia"
)

// parameters collects the task_params of a document.
type parameters struct {
	common object
	// roles holds the values by role, index, task and name.
	roles map[string]map[string]map[string]map[string]json.RawMessage
}

func newParameters() *parameters {
	return &parameters{common: object{}, roles: map[string]map[string]map[string]map[string]json.RawMessage{}}
}

// taskParams returns the task_params as a JSON object.
func (p *parameters) taskParams() object {
	params := object{"common": p.common}
	for role, byIndex := range p.roles {
		params[role] = byIndex
	}
	return params
}

// set sets a parameter of one part of a task. It refuses a second, different value.
func (p *parameters) set(role string, index int, task, name string, value json.RawMessage) error {
	byIndex := child(p.roles, role)
	byTask := child(byIndex, strconv.Itoa(index))
	values := child(byTask, task)

	if old, twice := values[name]; twice && string(old) != string(value) {
		return bfia.Errorf(bfia.CodeBadRequest, "%s: is given twice, with different values, to %s.%d", name,
			role, index)
	}
	values[name] = value
	return nil
}

// child returns the map under a key; it creates the map if there is none.
func child[V any](parent map[string]map[string]V, key string) map[string]V {
	if parent[key] == nil {
		parent[key] = map[string]V{}
	}
	return parent[key]
}

// partyParameters adds the parameters that party_tasks has for this node.
func (t *translation) partyParameters(params *parameters) error {
	for _, site := range sortedKeys(t.PartyTasks) {
		p := t.PartyTasks[site]
		for _, task := range sortedKeys(p.Tasks) {
			if !slices.Contains(t.tasks, task) {
				continue
			}
			if err := t.setAll(params, p, task); err != nil {
				return bfia.PrefixField(fmt.Sprintf("party_tasks.%s.tasks.%s.parameters", site, task), err)
			}
		}
	}
	return nil
}

// setAll sets the parameters that one entry of party_tasks has for a task, in all roles of this node.
func (t *translation) setAll(params *parameters, p partyTasks, task string) error {
	values := p.Tasks[task].Parameters
	for _, role := range t.parties {
		for i, id := range role.PartyID {
			if id != t.node || !contains(p.Parties, role.Role, id) {
				continue
			}
			for _, name := range sortedKeys(values) {
				if err := params.set(role.Role, i, task, name, values[name]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
