package fateflow

import (
	"encoding/json"
	"slices"

	"hutong/bfia"
)

// protocol marks the document of a job that a FATE-Flow schedules by its own protocol. FATE-Flow uses the
// same name.
const protocol = "fate"

// dag is the dag of FATE-Flow 2.2.0's dag_schema. Fields that no BFIA job can use are left out.
type dag struct {
	Parties    []parties
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

// parties are the parties of one role.
type parties struct {
	Role    string   `json:"role"`
	PartyID []string `json:"party_id"`
}

// contains reports whether a list of parties has a party in a role.
func contains(list []parties, role, party string) bool {
	return slices.ContainsFunc(list,
		func(p parties) bool { return p.Role == role && slices.Contains(p.PartyID, party) })
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
		Data  inputs `json:"data"`
		Model inputs `json:"model"`
	} `json:"inputs"`
	Outputs map[string]map[string]json.RawMessage `json:"outputs"`
	Parties []parties                             `json:"parties"`
	Conf    map[string]json.RawMessage            `json:"conf"`
	Stage   string                                `json:"stage"`
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
	Producer  string    `json:"producer_task"`
	Key       string    `json:"output_artifact_key"`
	JobID     string    `json:"job_id"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	DatasetID string    `json:"dataset_id"`
	Parties   []parties `json:"parties"`
}

// servesParty reports whether the channel is for a party in a role. A channel that names no parties is for
// all.
func (c channel) servesParty(role, party string) bool {
	return len(c.Parties) == 0 || contains(c.Parties, role, party)
}

// partyTasks holds the parameters and configuration of tasks at some parties.
type partyTasks struct {
	Parties []parties `json:"parties"`
	Tasks   map[string]struct {
		Parameters map[string]json.RawMessage `json:"parameters"`
		Conf       map[string]json.RawMessage `json:"conf"`
	} `json:"tasks"`
	Conf map[string]json.RawMessage `json:"conf"`
}
