package fateclient

import (
	"encoding/json"

	"hutong/bfia"
)

// dag is the dag of a client's dag_schema. Fields that no BFIA job can use are left out.
type dag struct {
	Parties    []parties
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

// parties are the parties of one role.
type parties struct {
	Role    string
	PartyID texts
}

// UnmarshalJSON reads the parties. Their ids may be numbers.
func (p *parties) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := bfia.DecodeJSON(b, &object); err != nil {
		return err
	}
	return bfia.DecodeFields(object, bfia.Required("role", &p.Role),
		bfia.Required("party_id", &p.PartyID))
}

// task is one task of the DAG.
type task struct {
	Component  string
	Parameters map[string]json.RawMessage
	Inputs     map[string]inputs
	Outputs    map[string]map[string]output
	Parties    []parties
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
		bfia.Optional("inputs", bfia.MapOf(&t.Inputs, func(in *inputs) any {
			return bfia.MapOf((*map[string]map[string]channels)(in), func(sources *map[string]channels) any {
				return bfia.MapOf(sources, nil)
			})
		})),
		bfia.Optional("outputs", bfia.MapOf(&t.Outputs, func(out *map[string]output) any {
			return bfia.MapOf(out, nil)
		})),
		bfia.Optional("parties", bfia.ListOf(&t.Parties)),
		bfia.Optional("conf", &t.Conf),
		bfia.Optional("stage", &t.Stage))
}

// taskConf names the provider of a task.
type taskConf struct {
	Provider string `json:"provider"`
	Version  text   `json:"version"`
}

// inputs holds the channels of a task by input and by kind of source.
type inputs map[string]map[string]channels

// The kinds of sources of an input.
const (
	sourceTaskOutput = "task_output_artifact"
	sourceDataset    = "data_warehouse"
	sourceModel      = "model_warehouse"
)

// channels is one channel or a list of them.
type channels []channel

// UnmarshalJSON reads one channel or a list of them.
func (c *channels) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return bfia.ListOf((*[]channel)(c))(b)
	}
	if string(b) == "null" {
		return nil
	}
	*c = make(channels, 1)
	return bfia.DecodeJSON(b, &(*c)[0])
}

// channel names where the data of an input comes from: an output of another task, or a dataset.
type channel struct {
	ModelID   text      `json:"model_id"`
	Producer  string    `json:"producer_task"`
	Key       string    `json:"output_artifact_key"`
	Namespace text      `json:"namespace"`
	Name      text      `json:"name"`
	DatasetID string    `json:"dataset_id"`
	Parties   []parties `json:"parties"`
}

// output is an output of a task: the key and the type under which it is stored.
type output struct {
	Key  string `json:"output_artifact_key_alias"`
	Type string `json:"output_artifact_type_alias"`
}

// partyTasks holds the parameters of tasks at some parties, and the configuration of their parts.
type partyTasks struct {
	Parties []parties
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
