package fateflow

import (
	"encoding/json"

	"hutong/bfia"
)

// protocol marks the document of a job that a FATE-Flow schedules by its own protocol. FATE-Flow uses the
// same name.
const protocol = "fate"

// dag is the dag of FATE-Flow 2.2.0's dag_schema. Fields that no BFIA job can use are left out.
type dag struct {
	Parties    []Parties
	Conf       conf
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
		bfia.Required("conf", &d.Conf),
		bfia.Optional("stage", &d.Stage),
		bfia.Required("tasks", bfia.MapOf(&d.Tasks, nil)),
		bfia.Optional("party_tasks", bfia.MapOf(&d.PartyTasks, nil)))
}

// conf configures a job.
type conf struct {
	Scheduler   string                     `json:"scheduler_party_id"`
	Initiator   string                     `json:"initiator_party_id"`
	Priority    int                        `json:"priority"`
	SyncType    string                     `json:"sync_type"`
	Cores       int                        `json:"cores"`
	Inheritance json.RawMessage            `json:"inheritance"`
	Task        map[string]json.RawMessage `json:"task"`
}

// task is one task of the DAG.
type task struct {
	Component  string                     `json:"component_ref"`
	Parameters map[string]json.RawMessage `json:"parameters"`
	Inputs     struct {
		Data  Inputs `json:"data"`
		Model Inputs `json:"model"`
	} `json:"inputs"`
	Outputs map[string]map[string]json.RawMessage `json:"outputs"`
	Parties []Parties                             `json:"parties"`
	Conf    map[string]json.RawMessage            `json:"conf"`
	Stage   string                                `json:"stage"`
}

// partyTasks holds the parameters and configuration of tasks at some parties.
type partyTasks struct {
	Parties []Parties `json:"parties"`
	Tasks   map[string]struct {
		Parameters map[string]json.RawMessage `json:"parameters"`
		Conf       map[string]json.RawMessage `json:"conf"`
	} `json:"tasks"`
	Conf map[string]json.RawMessage `json:"conf"`
}
