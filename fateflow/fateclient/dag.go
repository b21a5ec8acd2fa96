package fateclient

import (
	"encoding/json"

	"hutong/bfia"
	"hutong/fateflow"
)

// dag is the dag of a client's dag_schema. Fields that no BFIA job can use are left out.
type dag struct {
	Parties    []fateflow.Parties
	Conf       map[string]json.RawMessage
	Stage      string
	Tasks      map[string]task
	PartyTasks map[string]partyTasks
}

// UnmarshalJSON reads the DAG. Its errors name the task.
func (d *dag) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := bfia.DecodeJSON(b, &object); err != nil {
		return err
	}
	return bfia.DecodeFields(object,
		bfia.Required("parties", bfia.ListOf(&d.Parties)),
		bfia.Optional("conf", &d.Conf),
		bfia.Optional("stage", &d.Stage),
		bfia.Required("tasks", bfia.MapOf(&d.Tasks, nil)),
		bfia.Optional("party_tasks", bfia.MapOf(&d.PartyTasks, nil)))
}

// task is one task of the DAG.
type task struct {
	Component  string
	Parameters map[string]json.RawMessage
	Inputs     map[string]fateflow.Inputs
	Outputs    map[string]map[string]output
	Parties    []fateflow.Parties
	Conf       taskConf
	Stage      string
}

// UnmarshalJSON reads the task. Its errors name the field.
func (t *task) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := bfia.DecodeJSON(b, &object); err != nil {
		return err
	}
	return bfia.DecodeFields(object,
		bfia.Required("component_ref", &t.Component),
		bfia.Optional("parameters", &t.Parameters),
		bfia.Optional("inputs", bfia.MapOf(&t.Inputs, nil)),
		bfia.Optional("outputs", bfia.MapOf(&t.Outputs, func(out *map[string]output) any {
			return bfia.MapOf(out, nil)
		})),
		bfia.Optional("parties", bfia.ListOf(&t.Parties)),
		bfia.Optional("conf", &t.Conf),
		bfia.Optional("stage", &t.Stage))
}

// taskConf names the provider of a task.
type taskConf struct {
	Provider string        `json:"provider"`
	Version  fateflow.Text `json:"version"`
}

// output is an output of a task: the key and the type under which it is stored.
type output struct {
	Key  string `json:"output_artifact_key_alias"`
	Type string `json:"output_artifact_type_alias"`
}

// partyTasks holds the parameters of tasks at some parties, and the configuration of their parts.
type partyTasks struct {
	Parties []fateflow.Parties
	Conf    map[string]json.RawMessage
	Tasks   map[string]partyTask
}

type partyTask struct {
	Parameters map[string]json.RawMessage `json:"parameters"`
}

// UnmarshalJSON reads the parameters. Its errors name the task.
func (p *partyTasks) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := bfia.DecodeJSON(b, &object); err != nil {
		return err
	}
	return bfia.DecodeFields(object,
		bfia.Required("parties", bfia.ListOf(&p.Parties)),
		bfia.Optional("conf", &p.Conf),
		bfia.Optional("tasks", bfia.MapOf(&p.Tasks, nil)))
}
