package fateflow

import (
	"encoding/json"
	"slices"

	"hutong/bfia"
)

// checkOutputs refuses outputs of a task that its component does not have.
func checkOutputs(task task, desc *bfia.Description) error {
	for _, kind := range sortedKeys(task.Outputs) {
		for _, key := range sortedKeys(task.Outputs[kind]) {
			if !slices.ContainsFunc(desc.OutputData, func(p bfia.DataPort) bool { return p.Name == key }) {
				return bfia.Errorf(bfia.CodeBadRequest,
					"outputs.%s.%s: %s has no such output (its outputs: %s)", kind, key, desc.ComponentName,
					bfia.DescribePorts(desc.OutputData))
			}
		}
	}
	return nil
}

// outputPort returns the producer's port that a channel refers to: by the port's name, or by the alias that
// the producer's task gives it.
func (t *translation) outputPort(c Channel) string {
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

// rootKey is the key in [wiring] of the party's own dataset, which has no key in the DAG.
const rootKey = ""

// wiring maps the DAG's key of an output, or [rootKey], to the input port that it feeds.
type wiring map[string]string

// inputs translates a task's channels to the component's inputs, and its dataset to a parameter.
//
// BFIA fills the ports of a component in their order and by their kind. A channel that would reach another
// port than the one that it names is refused.
func (t *translation) inputs(name string, c bfia.Component, desc *bfia.Description,
	params *parameters) ([]bfia.Port, error) {
	wires := wiring{}
	for _, kind := range []struct {
		name   string
		inputs Inputs
	}{{"data", t.Tasks[name].Inputs.Data}, {"model", t.Tasks[name].Inputs.Model}} {
		for _, port := range sortedKeys(kind.inputs) {
			if !slices.ContainsFunc(desc.InputData, func(p bfia.DataPort) bool { return p.Name == port }) {
				return nil, bfia.Errorf(bfia.CodeBadRequest,
					"inputs.%s.%s: %s has no such input (its inputs: %s)", kind.name, port,
					desc.ComponentName, bfia.DescribePorts(desc.InputData))
			}
			if err := t.input(name, port, kind.inputs[port], wires, params); err != nil {
				return nil, bfia.PrefixField("inputs."+kind.name+"."+port, err)
			}
		}
	}

	c.Input = wires.ports(desc)
	_, root := wires[rootKey]
	bound, err := bfia.BindInputs(c, desc, root)
	if err != nil {
		return nil, err
	}
	for _, b := range bound {
		if !b.IsRootModel() && wires[b.Key] != b.Port {
			return nil, bfia.Errorf(bfia.CodeBadRequest,
				"inputs: %s fills its inputs in their order (%s); %s can't be given without %s",
				desc.ComponentName, bfia.DescribePorts(desc.InputData), wires[b.Key], b.Port)
		}
	}
	return c.Input, nil
}

// ports returns the DAG's inputs in the order of the component's ports.
func (w wiring) ports(desc *bfia.Description) []bfia.Port {
	ports := []bfia.Port{}
	for _, p := range desc.InputData {
		for _, key := range sortedKeys(w) {
			if key != rootKey && w[key] == p.Name {
				ports = append(ports, bfia.Port{Type: p.Category, Key: key})
			}
		}
	}
	return ports
}

// input adds the channels of one input port to wires.
func (t *translation) input(task, port string, sources map[string]Channels, wires wiring,
	params *parameters) error {
	connected := false
	for _, source := range sortedKeys(sources) {
		for _, c := range sources[source] {
			roles := t.ownRoles(task)
			served := slices.DeleteFunc(slices.Clone(roles),
				func(role string) bool { return !c.ServesParty(role, t.node) })

			switch {
			case len(served) == 0, source == SourceTaskOutput && t.ranElsewhere(c):
				continue // the channel of another party

			case source == SourceModel:
				return bfia.Errorf(bfia.CodeBadRequest, "%s: models of other jobs are not supported here",
					source)

			case source == SourceDataset:
				if err := t.dataset(task, c, params); err != nil {
					return bfia.PrefixField(source, err)
				}
				if first, twice := wires[rootKey]; twice && first != port {
					return bfia.Errorf(bfia.CodeBadRequest,
						"%s: a task takes one dataset of a party here, and the input %s has one already",
						source, first)
				}
				wires[rootKey] = port
				continue

			case source != SourceTaskOutput:
				return bfia.Errorf(bfia.CodeBadRequest, "%s: is none of %s, %s", source, SourceTaskOutput,
					SourceDataset)

			case len(served) < len(roles):
				return bfia.Errorf(bfia.CodeBadRequest,
					"%s.parties: %s has several roles in the task, and the input is for some of them only",
					source, t.node)

			case !slices.Contains(t.tasks, c.Producer):
				return bfia.Errorf(bfia.CodeBadRequest, "%s.producer_task: %s runs no task %q", source,
					t.node, c.Producer)

			case connected:
				return bfia.Errorf(bfia.CodeBadRequest,
					"%s: several outputs for one input are not supported here", source)
			}

			key := c.Producer + "." + t.outputPort(c)
			if other, twice := wires[key]; twice {
				return bfia.Errorf(bfia.CodeBadRequest, "%s: %s already feeds the input %s", source, key,
					other)
			}
			wires[key], connected = port, true
		}
	}
	return nil
}

// ranElsewhere reports whether a channel without parties comes from a task that runs at other parties only.
func (t *translation) ranElsewhere(c Channel) bool {
	_, exists := t.Tasks[c.Producer]
	return len(c.Parties) == 0 && exists && !slices.Contains(t.tasks, c.Producer)
}

// dataset sets the parameter dataset_id, which names a dataset of this party.
func (t *translation) dataset(task string, c Channel, params *parameters) error {
	if c.JobID != "" || c.Producer != "" {
		return bfia.Errorf(bfia.CodeBadRequest,
			"producer_task: outputs of other jobs are not supported here; name a dataset by namespace and name")
	}
	if c.DatasetID != "" {
		return bfia.Errorf(bfia.CodeBadRequest,
			"dataset_id: exists in FATE only; name the dataset by namespace and name")
	}
	for _, f := range []struct{ name, value string }{{"namespace", string(c.Namespace)},
		{"name", string(c.Name)}} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}

	value, err := json.Marshal(bfia.Address{Namespace: string(c.Namespace), Name: string(c.Name)}.String())
	if err != nil {
		return err
	}
	for _, p := range t.parties {
		for i, id := range p.PartyID {
			if id != t.node || !slices.Contains(t.ownRoles(task), p.Role) || !c.ServesParty(p.Role, id) {
				continue
			}
			if err := params.set(p.Role, i, task, "dataset_id", value); err != nil {
				return err
			}
		}
	}
	return nil
}
