package fateclient

import (
	"cmp"
	"encoding/json"
	"slices"

	"hutong/bfia"
	"hutong/fateflow"
)

// Submission is a job as a client of FATE submits it.
type Submission struct {
	// document is the job if it is a BFIA document already.
	document json.RawMessage

	version fateflow.Text
	kind    string
	dag     dag
}

// ParseSubmission reads the body of a submission. Its dag_schema is a DAG of FATE, or a whole BFIA document.
func ParseSubmission(body []byte) (*Submission, error) {
	var in, schema map[string]json.RawMessage
	if err := bfia.DecodeJSON(body, &in); err != nil {
		return nil, err
	}
	if err := bfia.DecodeFields(in, bfia.Required("dag_schema", &schema)); err != nil {
		return nil, err
	}

	if _, is := schema["config"]; is {
		return &Submission{document: in["dag_schema"]}, nil
	}
	s := &Submission{}
	err := bfia.DecodeFields(schema, bfia.Optional("schema_version", &s.version),
		bfia.Optional("kind", &s.kind), bfia.Required("dag", &s.dag))
	return s, bfia.PrefixField("dag_schema", err)
}

// The kinds of a DAG. Either may use all components that registered providers have.
const (
	kindBFIA = "bfia"
	kindFATE = "fate"
)

// toyComponent is FATE's component of "flow test toy".
const toyComponent = "toy_example"

// defaultVersion is the version of a document whose submission names none.
const defaultVersion = "2.0.0"

// Document returns the BFIA document of a job that a node submits. It has no job id. The error for what a
// document can't express names the field and the reason.
//
// A task whose provider's version is not registered gets the registered one if there is only one: the
// components of the pipeline name the version of their own package.
func (s *Submission) Document(node string, catalog fateflow.Catalog) (*bfia.Document, error) {
	if s.document != nil {
		doc, err := bfia.ParseDocument(s.document)
		return doc, bfia.PrefixField("dag_schema", err)
	}

	if s.kind != "" && s.kind != kindFATE && s.kind != kindBFIA {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "dag_schema.kind: is %q, must be %q or %q", s.kind,
			kindFATE,
			kindBFIA)
	}
	for name, task := range s.dag.Tasks {
		if task.Component == toyComponent {
			return nil, bfia.Errorf(bfia.CodeBadRequest,
				"dag_schema.dag.tasks.%s.component_ref: %s: not at Hutong: "+
					"hutong job probe tests the connection of parties", name, toyComponent)
		}
	}
	t := &translation{dag: s.dag, kind: s.kind, node: node, catalog: catalog,
		params: params{}, described: map[string]*bfia.Description{}, components: map[string]*bfia.Component{}}
	object, err := t.document(string(cmp.Or(s.version, defaultVersion)))
	if err != nil {
		return nil, bfia.PrefixField("dag_schema.dag", err)
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, bfia.Wrap(bfia.CodeBadRequest, err, "dag_schema: failed to encode the job as a document")
	}
	return bfia.ParseDocument(raw)
}

type object = map[string]any

// translation is the state of one translation of a DAG.
type translation struct {
	dag
	kind    string
	node    string
	catalog fateflow.Catalog
	params  params // task_params of roles
	// readers are the tasks that only read a dataset.
	readers map[string]task
	// described holds the self-descriptions by task, components the components by task.
	described  map[string]*bfia.Description
	components map[string]*bfia.Component
}

// document returns the BFIA document as a JSON object.
func (t *translation) document(version string) (object, error) {
	roles := map[string][]string{}
	for _, p := range t.Parties {
		roles[p.Role] = t.nodesOf(p.Role)
	}
	if err := t.findReaders(); err != nil {
		return nil, err
	}
	names := sortedKeys(t.Tasks)
	// Outputs first: inputs name them.
	for _, name := range names {
		if err := t.component(name); err != nil {
			return nil, bfia.PrefixField("tasks."+name, err)
		}
	}
	components, common := []object{}, object{}
	for _, name := range names {
		if err := t.inputs(name); err != nil {
			return nil, bfia.PrefixField("tasks."+name+".inputs", err)
		}
		c := t.components[name]
		components = append(components, object{"name": c.Name, "componentName": c.ComponentName,
			"provider": c.Provider, "version": c.Version,
			"input": portObjects(c.Input), "output": portObjects(c.Output)})
		if common[name] = t.Tasks[name].Parameters; t.Tasks[name].Parameters == nil {
			common[name] = object{}
		}
	}
	jobParams, err := t.partyTasks()
	if err != nil {
		return nil, err
	}
	initiator, extra, err := t.initiator()
	if err != nil {
		return nil, err
	}

	doc := object{
		"flow_id": extra.FlowID,
		"dag":     object{"version": version, "components": components},
		"config": object{"version": version, "initiator": initiator, "role": roles,
			"job_params": jobParams, "task_params": t.params.with(common)},
	}
	if extra.OldJobID != "" {
		doc["old_job_id"] = extra.OldJobID
	}
	return doc, nil
}

// extra is conf.extra, in which a DAG has the fields of BFIA that FATE's own jobs lack.
type extra struct {
	FlowID    fateflow.Text `json:"flow_id"`
	OldJobID  fateflow.Text `json:"old_job_id"`
	Initiator struct {
		Role    string         `json:"role"`
		PartyID fateflow.Texts `json:"party_id"`
	} `json:"initiator"`
}

// initiator returns the initiator that the DAG names, or this party in its first role.
func (t *translation) initiator() (bfia.Initiator, extra, error) {
	var e extra
	if err := bfia.DecodeFields(t.Conf, bfia.Optional("extra", &e)); err != nil {
		return bfia.Initiator{}, e, bfia.PrefixField("conf", err)
	}
	named := e.Initiator
	switch len(named.PartyID) {
	case 0:
	case 1:
		return bfia.Initiator{Role: named.Role, NodeID: named.PartyID[0]}, e, nil
	default:
		return bfia.Initiator{}, e, bfia.Errorf(bfia.CodeBadRequest,
			"conf.extra.initiator.party_id: names %d parties, must be one", len(named.PartyID))
	}

	initiator := bfia.Initiator{NodeID: t.node}
	for _, p := range t.Parties {
		if slices.Contains(p.PartyID, t.node) {
			initiator.Role = p.Role
			break
		}
	}
	return initiator, e, nil
}

// partyTasks adds the parameters of party_tasks to t.params, and returns the job_params.
func (t *translation) partyTasks() (object, error) {
	common := object{}
	for _, name := range []string{"sync_type", "priority"} {
		if value, given := t.Conf[name]; given {
			common[name] = value
		}
	}

	confs := params{}
	for _, site := range sortedKeys(t.PartyTasks) {
		p := t.PartyTasks[site]
		for _, at := range p.Parties {
			key, err := t.positions(at)
			if err != nil {
				return nil, bfia.PrefixField("party_tasks."+site+".parties", err)
			}
			for _, name := range sortedKeys(p.Conf) {
				if err := confs.set(at.Role, key, "", name, p.Conf[name]); err != nil {
					return nil, bfia.PrefixField("party_tasks."+site+".conf", err)
				}
			}
			for _, name := range sortedKeys(p.Tasks) {
				if _, is := t.readers[name]; is {
					continue
				}
				if _, known := t.Tasks[name]; !known {
					return nil, bfia.Errorf(bfia.CodeBadRequest,
						"party_tasks.%s.tasks.%s: the DAG has no task of that name%s", site, name,
						bfia.DidYouMean(name, sortedKeys(t.Tasks)))
				}
				values := p.Tasks[name].Parameters
				for _, parameter := range sortedKeys(values) {
					if err := t.params.set(at.Role, key, name, parameter, values[parameter]); err != nil {
						return nil, bfia.PrefixField("party_tasks."+site+".tasks."+name+".parameters", err)
					}
				}
			}
		}
	}

	jobParams := object{"common": common}
	for role, byKey := range confs {
		values := object{}
		for key, byTask := range byKey {
			values[key] = byTask[""]
		}
		jobParams[role] = values
	}
	return jobParams, nil
}

// portObjects returns ports as JSON objects; no ports are an empty list.
func portObjects(ports []bfia.Port) []object {
	out := []object{}
	for _, p := range ports {
		out = append(out, object{"type": p.Type, "key": p.Key})
	}
	return out
}
