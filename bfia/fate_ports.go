package bfia

import (
	"encoding/json"
	"slices"
)

// fateDAG is the dag of FATE-Flow 2.2.0's dag_schema. What is not named here does not concern a BFIA job.
type fateDAG struct {
	Parties    []fateParty
	Conf       fateConf
	Stage      string
	Tasks      map[string]fateTask
	PartyTasks map[string]fatePartyTasks
}

type fateParty struct {
	Role    string   `json:"role"`
	PartyID []string `json:"party_id"`
}

type fateConf struct {
	Scheduler   string                     `json:"scheduler_party_id"`
	Initiator   string                     `json:"initiator_party_id"`
	Priority    int                        `json:"priority"`
	SyncType    string                     `json:"sync_type"`
	Cores       int                        `json:"cores"`
	Inheritance json.RawMessage            `json:"inheritance"`
	Task        map[string]json.RawMessage `json:"task"`
}

type fateTask struct {
	Component  string                     `json:"component_ref"`
	Parameters map[string]json.RawMessage `json:"parameters"`
	Inputs     struct {
		Data  fateInputs `json:"data"`
		Model fateInputs `json:"model"`
	} `json:"inputs"`
	Outputs map[string]map[string]json.RawMessage `json:"outputs"`
	Parties []fateParty                           `json:"parties"`
	Conf    map[string]json.RawMessage            `json:"conf"`
	Stage   string                                `json:"stage"`
}

// fateInputs are channels by input and kind of source: one, or a list.
type fateInputs map[string]map[string]fateChannels

type fateChannels []fateChannel

// UnmarshalJSON reads one channel, or a list of them.
func (c *fateChannels) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return listOf((*[]fateChannel)(c))(b)
	}
	if string(b) == "null" {
		return nil
	}
	*c = make(fateChannels, 1)
	return DecodeJSON(b, &(*c)[0])
}

type fateChannel struct {
	Producer  string      `json:"producer_task"`
	Key       string      `json:"output_artifact_key"`
	JobID     string      `json:"job_id"`
	Namespace string      `json:"namespace"`
	Name      string      `json:"name"`
	DatasetID string      `json:"dataset_id"`
	Parties   []fateParty `json:"parties"`
}

type fatePartyTasks struct {
	Parties []fateParty `json:"parties"`
	Tasks   map[string]struct {
		Parameters map[string]json.RawMessage `json:"parameters"`
		Conf       map[string]json.RawMessage `json:"conf"`
	} `json:"tasks"`
	Conf map[string]json.RawMessage `json:"conf"`
}

func (p fatePartyTasks) names(role, party string) bool {
	return slices.ContainsFunc(p.Parties, func(q fateParty) bool { return q.Role == role && slices.Contains(q.PartyID, party) })
}

// UnmarshalJSON reads the DAG; its errors name the task.
func (d *fateDAG) UnmarshalJSON(b []byte) error {
	var object map[string]json.RawMessage
	if err := DecodeJSON(b, &object); err != nil {
		return err
	}
	return decodeFields(object, field{"parties", listOf(&d.Parties), true}, field{"conf", &d.Conf, true}, field{"stage", &d.Stage, false},
		field{"tasks", mapOf(&d.Tasks, nil), true}, field{"party_tasks", mapOf(&d.PartyTasks, nil), false})
}

// The kinds of sources of an input.
const (
	fateTaskOutput = "task_output_artifact"
	fateData       = "data_warehouse"
	fateModel      = "model_warehouse"
)

// outputs refuses what a task is to give and its component does not.
func (t *fateTranslation) outputs(task fateTask, desc *Description) error {
	for _, kind := range sortedKeys(task.Outputs) {
		for _, key := range sortedKeys(task.Outputs[kind]) {
			if !slices.ContainsFunc(desc.OutputData, func(p DataPort) bool { return p.Name == key }) {
				return Errorf(CodeBadRequest, "outputs.%s.%s: %s gives none (its outputs: %s)", kind, key, desc.ComponentName, portList(desc.OutputData))
			}
		}
	}
	return nil
}

// produced is the port that another task calls by an output's key: the port's own name, or the alias that its task gives it.
func (t *fateTranslation) produced(c fateChannel) string {
	for _, keys := range t.Tasks[c.Producer].Outputs {
		for _, key := range sortedKeys(keys) {
			var out struct {
				Alias string `json:"output_artifact_key_alias"`
			}
			if json.Unmarshal(keys[key], &out) == nil && out.Alias == c.Key {
				return key
			}
		}
	}
	return c.Key
}

// inputs makes a task's channels the component's inputs, and its dataset a parameter. Each must come to the port that it
// names: the protocol fills a component's ports in their order.
func (t *fateTranslation) inputs(name string, c Component, desc *Description, params *fateParams) ([]Port, error) {
	wanted := map[string]string{} // port by the DAG's key; that of the root dataset has none
	for _, kind := range []struct {
		name   string
		inputs fateInputs
	}{{"data", t.Tasks[name].Inputs.Data}, {"model", t.Tasks[name].Inputs.Model}} {
		for _, port := range sortedKeys(kind.inputs) {
			if !slices.ContainsFunc(desc.InputData, func(p DataPort) bool { return p.Name == port }) {
				return nil, Errorf(CodeBadRequest, "inputs.%s.%s: %s takes none (its inputs: %s)", kind.name, port, desc.ComponentName, portList(desc.InputData))
			}
			if err := t.input(name, port, kind.inputs[port], wanted, params); err != nil {
				return nil, prefixed("inputs."+kind.name+"."+port, err)
			}
		}
	}
	ports := []Port{}
	for _, p := range desc.InputData {
		for _, key := range sortedKeys(wanted) {
			if key != "" && wanted[key] == p.Name {
				ports = append(ports, Port{Type: p.Category, Key: key})
			}
		}
	}
	c.Input = ports
	_, root := wanted[""]
	bound, err := wireInputs(c, desc, root)
	if err != nil {
		return nil, err
	}
	for _, b := range bound {
		if wanted[b.Key] != b.Port {
			return nil, Errorf(CodeBadRequest, "inputs: %s fills its inputs in their order (%s), so %s can't be had without %s",
				desc.ComponentName, portList(desc.InputData), wanted[b.Key], b.Port)
		}
	}
	return ports, nil
}

// input takes one input's channels.
func (t *fateTranslation) input(task, port string, sources map[string]fateChannels, wanted map[string]string, params *fateParams) error {
	roles := t.rolesHere(task)
	taken := false
	for _, source := range sortedKeys(sources) {
		for _, c := range sources[source] {
			reached := 0
			for _, role := range roles {
				if len(c.Parties) == 0 || (fatePartyTasks{Parties: c.Parties}).names(role, t.node) {
					reached++
				}
			}
			switch {
			case reached == 0, source == fateTaskOutput && len(c.Parties) == 0 && !slices.Contains(t.tasks, c.Producer) && t.has(c.Producer):
				continue // another party's
			case source == fateModel:
				return Errorf(CodeBadRequest, "%s: models of other jobs are not supported here", source)
			case source == fateData:
				if err := t.dataset(task, c, params); err != nil {
					return prefixed(source, err)
				}
				if first, twice := wanted[""]; twice && first != port {
					return Errorf(CodeBadRequest, "%s: a task has one dataset of a party's here, and %s has one already", source, first)
				}
				wanted[""] = port
				continue
			case source != fateTaskOutput:
				return Errorf(CodeBadRequest, "%s: is none of %s, %s", source, fateTaskOutput, fateData)
			case reached < len(roles):
				return Errorf(CodeBadRequest, "%s.parties: %s has several roles in the task, and the input is for some of them only", source, t.node)
			case !slices.Contains(t.tasks, c.Producer):
				return Errorf(CodeBadRequest, "%s.producer_task: %s runs no task %q", source, t.node, c.Producer)
			case taken:
				return Errorf(CodeBadRequest, "%s: several outputs for one input are not supported here", source)
			}
			key := c.Producer + "." + t.produced(c)
			if other, twice := wanted[key]; twice {
				return Errorf(CodeBadRequest, "%s: %s is the input %s already", source, key, other)
			}
			wanted[key], taken = port, true
		}
	}
	return nil
}

func (t *fateTranslation) has(task string) bool {
	_, is := t.Tasks[task]
	return is
}

// dataset makes a dataset of this party's the parameter that names it.
func (t *fateTranslation) dataset(task string, c fateChannel, params *fateParams) error {
	if c.JobID != "" || c.Producer != "" {
		return Errorf(CodeBadRequest, "producer_task: outputs of other jobs are not supported here; name a dataset by namespace and name")
	}
	if c.DatasetID != "" {
		return Errorf(CodeBadRequest, "dataset_id: is FATE's own; name the dataset by namespace and name")
	}
	for _, f := range []struct{ name, value string }{{"namespace", c.Namespace}, {"name", c.Name}} {
		if err := CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	value, err := json.Marshal(Address{Namespace: c.Namespace, Name: c.Name}.String())
	if err != nil {
		return err
	}
	for _, p := range t.parties {
		for i, id := range p.PartyID {
			if id != t.node || !slices.Contains(t.rolesHere(task), p.Role) || len(c.Parties) > 0 && !(fatePartyTasks{Parties: c.Parties}).names(p.Role, id) {
				continue
			}
			if err := params.set(p.Role, i, task, "dataset_id", value); err != nil {
				return err
			}
		}
	}
	return nil
}
