package fateflow

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hutong/bfia"
)

// Job is a FATE-Flow job as one party runs it.
type Job struct {
	// Document is the party's part of the job.
	Document *bfia.Document
	// Scheduler is the node id of the job's scheduler.
	Scheduler string
}

// Catalog gives access to the providers that are registered at a party.
type Catalog struct {
	// Describe returns the self-description of a component.
	Describe bfia.Describe
	// Find returns the registered providers of a component. It serves tasks that name no provider.
	Find func(component string) ([]Provider, error)
}

// Provider names a registered provider.
type Provider struct {
	Name, Version string
}

// Translate turns a job in FATE-Flow 2.2.0's own language, the dag of its dag_schema, into the BFIA document
// of the tasks that a node runs.
//
// It leaves out the tasks in which the node has no part and the inputs that come from them, as FATE-Flow
// does. It refuses what a BFIA document can't express; the error names the field and the reason.
func Translate(dagJSON []byte, jobID, node string, catalog Catalog) (*Job, error) {
	var in dag
	if err := bfia.DecodeJSON(dagJSON, &in); err != nil {
		return nil, bfia.PrefixField("dag", err)
	}

	t := translation{dag: in, node: node, catalog: catalog, described: map[string]*bfia.Description{}}
	doc, err := t.document(jobID)
	if err != nil {
		return nil, bfia.PrefixField("dag", err)
	}

	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeBadRequest, err, "dag: failed to encode the job as a document")
	}
	parsed, err := bfia.ParseDocument(raw)
	if err != nil {
		return nil, err
	}
	return &Job{Document: parsed, Scheduler: in.Conf.Scheduler}, nil
}

// translation is the state of one call of [Translate].
type translation struct {
	dag
	node    string
	catalog Catalog
	// tasks are the names of the tasks that run at the node, sorted.
	tasks []string
	// parties are the parties that take part in those tasks.
	parties []Parties
	// described holds the self-descriptions by task.
	described map[string]*bfia.Description
}

type object = map[string]any

// document returns the BFIA document as a JSON object.
func (t *translation) document(jobID string) (object, error) {
	if err := t.checkConf(); err != nil {
		return nil, err
	}
	if err := t.selectTasks(); err != nil {
		return nil, err
	}
	t.selectParties()

	components := []object{}
	params := newParameters()
	for _, name := range t.tasks {
		c, err := t.component(name, params)
		if err != nil {
			return nil, bfia.PrefixField("tasks."+name, err)
		}
		components = append(components, c)
	}
	if err := t.partyParameters(params); err != nil {
		return nil, err
	}

	roles := map[string][]string{}
	for _, p := range t.parties {
		roles[p.Role] = append(roles[p.Role], p.PartyID...)
	}
	config := object{
		"version":     "2.0.0",
		"initiator":   object{"role": t.roleOf(t.Conf.Initiator), "node_id": t.Conf.Initiator},
		"role":        roles,
		"job_params":  t.jobParameters(roles),
		"task_params": params.taskParams(),
	}
	return object{
		"job_id":   jobID,
		"protocol": protocol,
		"dag":      object{"version": "2.0", "components": components},
		"config":   config,
	}, nil
}

// jobParameters returns the job_params: priority, sync_type, and the cores of each part.
func (t *translation) jobParameters(roles map[string][]string) object {
	common := object{"priority": min(max(t.Conf.Priority, 0), bfia.MaxPriority)}
	if t.Conf.SyncType != "" {
		common["sync_type"] = t.Conf.SyncType
	}

	params := object{"common": common}
	if t.Conf.Cores <= 0 {
		return params
	}
	for role, nodes := range roles {
		byIndex := object{}
		for i := range nodes {
			resources := object{"cpu": t.Conf.Cores, "memory": -1, "disk": -1}
			byIndex[strconv.Itoa(i)] = object{"resources": resources}
		}
		params[role] = byIndex
	}
	return params
}

// checkConf checks the job's configuration, and that the node has a role.
func (t *translation) checkConf() error {
	for _, f := range []struct{ name, value string }{
		{"conf.scheduler_party_id", t.Conf.Scheduler},
		{"conf.initiator_party_id", t.Conf.Initiator},
	} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}

	if len(t.Conf.Inheritance) > 0 && string(t.Conf.Inheritance) != "null" {
		return bfia.Errorf(bfia.CodeBadRequest,
			"conf.inheritance: exists in FATE only and is not supported here; submit the job without it")
	}
	if t.roleOf(t.node) == "" {
		return bfia.Errorf(bfia.CodeBadRequest, "parties: %s has no role", t.node)
	}
	return nil
}

// selectTasks sets t.tasks. It checks that dag.parties has the parties of every task.
func (t *translation) selectTasks() error {
	for _, name := range sortedKeys(t.Tasks) {
		if len(t.ownRoles(name)) > 0 {
			t.tasks = append(t.tasks, name)
		}
		for _, p := range t.Tasks[name].Parties {
			for _, id := range p.PartyID {
				if !contains(t.Parties, p.Role, id) {
					return bfia.Errorf(bfia.CodeBadRequest, "tasks.%s.parties: dag.parties has no %s %s",
						name, p.Role, id)
				}
			}
		}
	}

	if len(t.tasks) == 0 {
		return bfia.Errorf(bfia.CodeBadRequest, "tasks: none of them runs at %s; remove it from dag.parties",
			t.node)
	}
	return nil
}

// selectParties sets t.parties: the parties of the job that take part in one of t.tasks.
func (t *translation) selectParties() {
	for _, p := range t.Parties {
		kept := Parties{Role: p.Role}
		for _, id := range p.PartyID {
			takesPart := func(task string) bool { return contains(t.partiesOf(task), p.Role, id) }
			if slices.ContainsFunc(t.tasks, takesPart) {
				kept.PartyID = append(kept.PartyID, id)
			}
		}
		if len(kept.PartyID) > 0 {
			t.parties = append(t.parties, kept)
		}
	}
}

// roleOf returns the first role of a party, or "" if it has none.
func (t *translation) roleOf(party string) string {
	for _, p := range t.dag.Parties {
		if slices.Contains(p.PartyID, party) {
			return p.Role
		}
	}
	return ""
}

// partiesOf returns the parties of a task: its own, or those of the job.
func (t *translation) partiesOf(task string) []Parties {
	if own := t.Tasks[task].Parties; len(own) > 0 {
		return own
	}
	return t.dag.Parties
}

// ownRoles returns the roles in which the node runs a task, sorted.
func (t *translation) ownRoles(task string) []string {
	var roles []string
	for _, p := range t.partiesOf(task) {
		if slices.Contains(p.PartyID, t.node) {
			roles = append(roles, p.Role)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// component translates a task to a component of the BFIA DAG and adds its parameters to params.
func (t *translation) component(name string, params *parameters) (object, error) {
	task := t.Tasks[name]
	if err := bfia.CheckID("component_ref", task.Component); err != nil {
		return nil, err
	}
	stage := task.Stage
	if stage == "" {
		stage = t.Stage
	}
	if stage == "predict" || stage == "cross_validation" {
		return nil, bfia.Errorf(bfia.CodeBadRequest,
			"stage: predict and cross_validation exist in FATE only; use a separate component for them")
	}

	provider, err := t.provider(name)
	if err != nil {
		return nil, err
	}
	desc, err := t.describe(name, provider)
	if err != nil {
		return nil, err
	}
	if err := checkOutputs(task, desc); err != nil {
		return nil, err
	}
	if err := t.checkParties(name, desc); err != nil {
		return nil, err
	}

	c := bfia.Component{
		Name:          name,
		ComponentName: task.Component,
		Provider:      provider.Name,
		Version:       provider.Version,
	}
	for _, p := range desc.OutputData {
		c.Output = append(c.Output, bfia.Port{Type: p.Category, Key: p.Name})
	}
	if c.Input, err = t.inputs(name, c, desc, params); err != nil {
		return nil, err
	}

	params.common[name] = object{}
	if task.Parameters != nil {
		params.common[name] = task.Parameters
	}
	return object{
		"name":          c.Name,
		"componentName": c.ComponentName,
		"provider":      c.Provider,
		"version":       c.Version,
		"input":         portObjects(c.Input),
		"output":        portObjects(c.Output),
	}, nil
}

// portObjects returns ports as JSON objects; no ports are an empty list.
func portObjects(ports []bfia.Port) []object {
	out := []object{}
	for _, p := range ports {
		out = append(out, object{"type": p.Type, "key": p.Key})
	}
	return out
}

// checkParties refuses a task that BFIA can't express: a BFIA component runs at all nodes of its roles.
func (t *translation) checkParties(name string, desc *bfia.Description) error {
	for _, p := range t.parties {
		for _, id := range p.PartyID {
			runs, hasRole := contains(t.partiesOf(name), p.Role, id), slices.Contains(desc.RoleList, p.Role)
			if runs && !hasRole {
				return bfia.Errorf(bfia.CodeBadRequest, "parties: %s does not run at %s %s; its roles are %s",
					desc.ComponentName, p.Role, id, strings.Join(desc.RoleList, ", "))
			}
			if hasRole && !runs {
				return bfia.Errorf(bfia.CodeBadRequest,
					"parties: leaves out %s %s, which runs other tasks of %s: "+
						"here a component runs at all parties of its roles",
					p.Role, id, t.node)
			}
		}
	}
	return nil
}

// describe returns the self-description of a task's component.
func (t *translation) describe(name string, provider Provider) (*bfia.Description, error) {
	if d := t.described[name]; d != nil {
		return d, nil
	}
	d, err := t.catalog.Describe(provider.Name, provider.Version, t.Tasks[name].Component)
	if err != nil {
		return nil, bfia.PrefixPlace("component_ref", err)
	}
	t.described[name] = d
	return d, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
