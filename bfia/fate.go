package bfia

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// FateJob is what a job in FATE-Flow's own language ([TranslateFate]) comes to at one party.
type FateJob struct {
	// Document is the party's part of it.
	Document *Document
	// Scheduler is the party that schedules it.
	Scheduler string
}

// FateCatalog is what a party has for jobs that come in FATE-Flow's own language.
type FateCatalog struct {
	Describe Describe
	// Find gives the registered providers of a component, as name and version, for tasks that name none.
	Find func(component string) ([][2]string, error)
}

// TranslateFate makes of a job in FATE-Flow 2.2.0's own language (dag of its dag_schema) the document of what a node runs of
// it. Tasks in which the node has no part are left out, and with them the inputs that come from there, as FATE-Flow leaves
// them out. What the protocol's documents have no words for is refused with the place and the reason.
func TranslateFate(dag []byte, jobID, node string, catalog FateCatalog) (*FateJob, error) {
	var in fateDAG
	if err := DecodeJSON(dag, &in); err != nil {
		return nil, prefixed("dag", err)
	}
	t := fateTranslation{fateDAG: in, node: node, catalog: catalog, described: map[string]*Description{}}
	doc, err := t.document(jobID)
	if err != nil {
		return nil, prefixed("dag", err)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, Wrap(CodeBadRequest, err, "dag: can't be written as a document")
	}
	parsed, err := ParseDocument(raw)
	if err != nil {
		return nil, err
	}
	return &FateJob{Document: parsed, Scheduler: in.Conf.Scheduler}, nil
}

// fateProtocol marks, as a document's protocol, a job whose scheduler speaks FATE-Flow's own; FATE-Flow itself calls it so.
const fateProtocol = "fate"

// Fate tells whether the job's scheduler is a FATE-Flow that speaks its own protocol.
func (d *Document) Fate() bool {
	var protocol string
	return json.Unmarshal(d.fields["protocol"], &protocol) == nil && protocol == fateProtocol
}

type fateTranslation struct {
	fateDAG
	node      string
	catalog   FateCatalog
	tasks     []string // those that run here, sorted
	parties   []fateParty
	described map[string]*Description // by task
}

type object = map[string]any

func (t *fateTranslation) document(jobID string) (object, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	components := []object{}
	params := fateParams{common: object{}, roles: map[string]map[string]object{}}
	for _, name := range t.tasks {
		c, err := t.component(name, &params)
		if err != nil {
			return nil, prefixed("tasks."+name, err)
		}
		components = append(components, c)
	}
	if err := t.parameters(&params); err != nil {
		return nil, err
	}
	common := object{"priority": min(max(t.Conf.Priority, 0), MaxPriority)}
	if t.Conf.SyncType != "" {
		common["sync_type"] = t.Conf.SyncType
	}
	roles := map[string][]string{}
	jobParams := object{"common": common}
	for _, p := range t.parties {
		roles[p.Role] = append(roles[p.Role], p.PartyID...)
	}
	if t.Conf.Cores > 0 {
		for role, nodes := range roles {
			byIndex := object{}
			for i := range nodes {
				byIndex[itoa(i)] = object{"resources": object{"cpu": t.Conf.Cores, "memory": -1, "disk": -1}}
			}
			jobParams[role] = byIndex
		}
	}
	taskParams := object{"common": params.common}
	for role, byIndex := range params.roles {
		taskParams[role] = byIndex
	}
	return object{"job_id": jobID, "protocol": fateProtocol, "dag": object{"version": "2.0", "components": components},
		"config": object{"version": "2.0.0", "initiator": object{"role": t.roleOf(t.Conf.Initiator), "node_id": t.Conf.Initiator},
			"role": roles, "job_params": jobParams, "task_params": taskParams}}, nil
}

// check finds the tasks that run here and who else takes part in them.
func (t *fateTranslation) check() error {
	for _, f := range []struct{ name, value string }{
		{"conf.scheduler_party_id", t.Conf.Scheduler}, {"conf.initiator_party_id", t.Conf.Initiator}} {
		if err := CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	if len(t.Conf.Inheritance) > 0 && string(t.Conf.Inheritance) != "null" {
		return Errorf(CodeBadRequest, "conf.inheritance: is FATE's own, and not supported here: submit the job without it")
	}
	if t.roleOf(t.node) == "" {
		return Errorf(CodeBadRequest, "parties: %s has no role", t.node)
	}
	with := func(p, q fateParty) bool {
		return p.Role == q.Role && slices.ContainsFunc(p.PartyID, func(id string) bool { return slices.Contains(q.PartyID, id) })
	}
	for _, name := range sortedKeys(t.Tasks) {
		if len(t.rolesHere(name)) > 0 {
			t.tasks = append(t.tasks, name)
		}
		for _, p := range t.Tasks[name].Parties {
			for _, id := range p.PartyID {
				if !slices.ContainsFunc(t.Parties, func(q fateParty) bool { return with(fateParty{p.Role, []string{id}}, q) }) {
					return Errorf(CodeBadRequest, "tasks.%s.parties: dag.parties has no %s %s", name, p.Role, id)
				}
			}
		}
	}
	if len(t.tasks) == 0 {
		return Errorf(CodeBadRequest, "tasks: none of them runs at %s; leave it out of dag.parties", t.node)
	}
	for _, p := range t.Parties {
		kept := fateParty{Role: p.Role}
		for _, id := range p.PartyID {
			if slices.ContainsFunc(t.tasks, func(task string) bool {
				return slices.ContainsFunc(t.partiesOf(task), func(q fateParty) bool { return with(fateParty{p.Role, []string{id}}, q) })
			}) {
				kept.PartyID = append(kept.PartyID, id)
			}
		}
		if len(kept.PartyID) > 0 {
			t.parties = append(t.parties, kept)
		}
	}
	return nil
}

// roleOf is the first role of a party; empty when it has none.
func (t *fateTranslation) roleOf(party string) string {
	for _, p := range t.Parties {
		if slices.Contains(p.PartyID, party) {
			return p.Role
		}
	}
	return ""
}

func (t *fateTranslation) partiesOf(task string) []fateParty {
	if own := t.Tasks[task].Parties; len(own) > 0 {
		return own
	}
	return t.Parties
}

// rolesHere are the roles in which this node runs a task, sorted.
func (t *fateTranslation) rolesHere(task string) []string {
	var roles []string
	for _, p := range t.partiesOf(task) {
		if slices.Contains(p.PartyID, t.node) {
			roles = append(roles, p.Role)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// component makes a task the DAG's component.
func (t *fateTranslation) component(name string, params *fateParams) (object, error) {
	task := t.Tasks[name]
	if err := CheckID("component_ref", task.Component); err != nil {
		return nil, err
	}
	if stage := task.Stage; stage == "predict" || stage == "cross_validation" || stage == "" && (t.Stage == "predict" || t.Stage == "cross_validation") {
		return nil, Errorf(CodeBadRequest, "stage: predict and cross_validation are FATE's own; a component of its own does it here")
	}
	provider, version, err := t.provider(name)
	if err != nil {
		return nil, err
	}
	desc, err := t.describe(name, provider, version)
	if err != nil {
		return nil, err
	}
	c := Component{Name: name, ComponentName: task.Component, Provider: provider, Version: version}
	for _, p := range desc.OutputData {
		c.Output = append(c.Output, Port{Type: p.Category, Key: p.Name})
	}
	if err := t.outputs(task, desc); err != nil {
		return nil, err
	}
	if err := t.runsWhereItsComponentDoes(name, desc); err != nil {
		return nil, err
	}
	if c.Input, err = t.inputs(name, c, desc, params); err != nil {
		return nil, err
	}
	params.common[name] = orEmpty(task.Parameters)
	ports := func(list []Port) []object {
		out := []object{}
		for _, p := range list {
			out = append(out, object{"type": p.Type, "key": p.Key})
		}
		return out
	}
	return object{"name": c.Name, "componentName": c.ComponentName, "provider": c.Provider, "version": c.Version,
		"input": ports(c.Input), "output": ports(c.Output)}, nil
}

func orEmpty(values map[string]json.RawMessage) map[string]json.RawMessage {
	if values == nil {
		return map[string]json.RawMessage{}
	}
	return values
}

// runsWhereItsComponentDoes refuses what the protocol can't say: there a component runs at all nodes of its roles.
func (t *fateTranslation) runsWhereItsComponentDoes(name string, desc *Description) error {
	has := func(list []fateParty, role, id string) bool {
		return slices.ContainsFunc(list, func(p fateParty) bool { return p.Role == role && slices.Contains(p.PartyID, id) })
	}
	for _, p := range t.parties {
		for _, id := range p.PartyID {
			runs, would := has(t.partiesOf(name), p.Role, id), slices.Contains(desc.RoleList, p.Role)
			if runs && !would {
				return Errorf(CodeBadRequest, "parties: %s does not run at %s %s; its roles are %s", desc.ComponentName, p.Role, id, strings.Join(desc.RoleList, ", "))
			}
			if would && !runs {
				return Errorf(CodeBadRequest, "parties: leaves out %s %s, which runs other tasks of %s: here a component runs at all parties of its roles",
					p.Role, id, t.node)
			}
		}
	}
	return nil
}

// provider finds a task's provider: where its conf names none, the one that has the component here.
func (t *fateTranslation) provider(name string) (provider, version string, err error) {
	component := t.Tasks[name].Component
	var named *Registration
	for i, role := range t.rolesHere(name) {
		full, err := t.providerAt(name, role)
		if err != nil {
			return "", "", err
		}
		var r *Registration
		if full != "" {
			if r, err = ParseProviderName(full); err != nil {
				return "", "", prefixed("conf", err)
			}
		}
		if i > 0 && ((r == nil) != (named == nil) || r != nil && r.FullName() != named.FullName()) {
			return "", "", Errorf(CodeBadRequest, "conf.provider: %s has two roles in the task with a provider each", t.node)
		}
		named = r
	}
	if named != nil && named.Name != "*" && named.Version != "" && named.Version != "*" {
		return named.Name, named.Version, nil
	}
	found, err := t.catalog.Find(component)
	if err != nil {
		return "", "", err
	}
	var fit []string
	for _, p := range found {
		if named == nil || named.Name == "*" || named.Name == p[0] {
			fit = append(fit, p[0]+":"+p[1])
			provider, version = p[0], p[1]
		}
	}
	switch len(fit) {
	case 0:
		return "", "", Errorf(CodeNotFound, "component_ref: no provider that is registered at %s has %s", t.node, component)
	case 1:
		return provider, version, nil
	}
	slices.Sort(fit)
	return "", "", Errorf(CodeBadRequest, "conf.provider: %s has %s of several providers, so name one: %s", t.node, component, strings.Join(fit, ", "))
}

// providerAt is what the confs say of one role: those of the job, the task, the party and its task, later ones before
// earlier ones.
func (t *fateTranslation) providerAt(name, role string) (string, error) {
	said := struct{ job, task, party string }{}
	place := ""
	if err := providerIn(t.Conf.Task, &said.job); err != nil {
		return "", err
	}
	if err := providerIn(t.Tasks[name].Conf, &said.task); err != nil {
		return "", err
	}
	for _, site := range sortedKeys(t.PartyTasks) {
		p := t.PartyTasks[site]
		if !p.names(role, t.node) {
			continue
		}
		var all, own string
		if err := providerIn(p.Conf, &all); err != nil {
			return "", prefixed("party_tasks."+site, err)
		}
		if err := providerIn(p.Tasks[name].Conf, &own); err != nil {
			return "", prefixed("party_tasks."+site+".tasks."+name, err)
		}
		if own == "" {
			own = all
		}
		if own != "" && said.party != "" && own != said.party {
			return "", Errorf(CodeBadRequest, "conf.provider: party_tasks.%s and party_tasks.%s name different ones", place, site)
		}
		if own != "" {
			said.party, place = own, site
		}
	}
	switch {
	case said.party != "":
		return said.party, nil
	case said.task != "":
		return said.task, nil
	}
	return said.job, nil
}

func providerIn(conf map[string]json.RawMessage, into *string) error {
	return prefixed("conf", decodeFields(conf, field{"provider", into, false}))
}

func (t *fateTranslation) describe(name, provider, version string) (*Description, error) {
	if d := t.described[name]; d != nil {
		return d, nil
	}
	d, err := t.catalog.Describe(provider, version, t.Tasks[name].Component)
	if err != nil {
		return nil, placed("component_ref", err)
	}
	t.described[name] = d
	return d, nil
}

// fateParams are task_params as they grow.
type fateParams struct {
	common object
	roles  map[string]map[string]object // by role, index and task
}

// set gives a part of a task a parameter.
func (p *fateParams) set(role string, index int, task, name string, value json.RawMessage) error {
	if p.roles[role] == nil {
		p.roles[role] = map[string]object{}
	}
	if p.roles[role][itoa(index)] == nil {
		p.roles[role][itoa(index)] = object{}
	}
	values, _ := p.roles[role][itoa(index)][task].(map[string]json.RawMessage)
	if values == nil {
		values = map[string]json.RawMessage{}
		p.roles[role][itoa(index)][task] = values
	}
	if old, twice := values[name]; twice && string(old) != string(value) {
		return Errorf(CodeBadRequest, "%s: is given twice, with different values, to %s.%d", name, role, index)
	}
	values[name] = value
	return nil
}

// parameters are those of party_tasks, for this node.
func (t *fateTranslation) parameters(params *fateParams) error {
	for _, site := range sortedKeys(t.PartyTasks) {
		p := t.PartyTasks[site]
		for _, task := range sortedKeys(p.Tasks) {
			if !slices.Contains(t.tasks, task) {
				continue
			}
			for _, role := range t.parties {
				for i, id := range role.PartyID {
					if id != t.node || !p.names(role.Role, id) {
						continue
					}
					values := p.Tasks[task].Parameters
					for _, name := range sortedKeys(values) {
						if err := params.set(role.Role, i, task, name, values[name]); err != nil {
							return prefixed(fmt.Sprintf("party_tasks.%s.tasks.%s.parameters", site, task), err)
						}
					}
				}
			}
		}
	}
	return nil
}
