package fateclient

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hutong/bfia"
	"hutong/fateflow"
)

// stages are the stages of FATE, with the suffix of the component that does it: BFIA has no stages.
var stages = map[string]string{"default": "", "train": "", "predict": bfia.PredictSuffix,
	"cross_validation": "_cv"}

// component adds a task to t.components, with its outputs and without its inputs.
func (t *translation) component(name string) error {
	task := t.Tasks[name]
	if err := bfia.CheckID("component_ref", task.Component); err != nil {
		return err
	}
	stage := cmp.Or(task.Stage, t.Stage, "default")
	suffix, known := stages[stage]
	if !known {
		return bfia.Errorf(bfia.CodeBadRequest, "stage: %q is none of %s", stage,
			strings.Join(sortedKeys(stages), ", "))
	}
	task.Component += suffix

	provider, err := t.provider(task)
	if err != nil {
		return err
	}
	desc, err := t.catalog.Describe(provider.Name, provider.Version, task.Component)
	if err != nil {
		return bfia.PrefixPlace("component_ref", err)
	}
	c := &bfia.Component{Name: name, ComponentName: task.Component, Provider: provider.Name,
		Version: provider.Version}
	if len(task.Outputs) == 0 && t.kind != kindBFIA {
		// The pipeline lists no outputs in a DAG of FATE's own kind, and FATE-Flow keeps all of them.
		for _, port := range desc.OutputData {
			c.Output = append(c.Output, bfia.Port{Type: port.Category, Key: port.Name})
		}
	} else if c.Output, err = outputs(task, desc); err != nil {
		return bfia.PrefixField("outputs", err)
	}
	t.described[name], t.components[name] = desc, c
	return nil
}

// provider returns the provider that a task names, in its registered version if there is only one, or the
// only provider that has the component.
func (t *translation) provider(task task) (fateflow.Provider, error) {
	registered, err := t.catalog.Find(task.Component)
	if err != nil {
		return fateflow.Provider{}, err
	}

	full := task.Conf.Provider
	named := &bfia.Registration{}
	if full != "" {
		if named, err = bfia.ParseProviderName(full); err != nil {
			return fateflow.Provider{}, bfia.PrefixField("conf", err)
		}
	}
	version := cmp.Or(named.Version, string(task.Conf.Version))
	fits := slices.DeleteFunc(slices.Clone(registered),
		func(p fateflow.Provider) bool { return named.Name != "" && named.Name != p.Name })
	exact := slices.DeleteFunc(slices.Clone(fits),
		func(p fateflow.Provider) bool { return p.Version != version })
	if len(exact) == 1 {
		return exact[0], nil
	}

	var names []string
	for _, p := range registered {
		names = append(names, p.Name+":"+p.Version)
	}
	switch {
	case len(registered) == 0:
		return fateflow.Provider{}, bfia.Errorf(bfia.CodeNotFound,
			"component_ref: no provider that is registered at %s has %s", t.node, task.Component)
	case len(fits) == 0:
		return fateflow.Provider{}, bfia.Errorf(bfia.CodeNotFound,
			"conf.provider: %s has no provider %q with %s; it has %s", t.node, named.Name, task.Component,
			strings.Join(names, ", "))
	case len(fits) > 1:
		return fateflow.Provider{}, bfia.Errorf(bfia.CodeBadRequest,
			"conf: %s has %s of several providers or versions; name one of %s in provider and version",
			t.node, task.Component, strings.Join(names, ", "))
	}
	return fits[0], nil
}

// outputs returns a task's outputs in the order of the component's description, with the keys and types that
// the DAG gives them.
//
// BFIA knows ports by their order and type only. An output before which the DAG leaves out one that would
// take its port gets the type in the description; if that does not help, the outputs before it are added.
func outputs(task task, desc *bfia.Description) ([]bfia.Port, error) {
	given := map[string]output{}
	for _, kind := range sortedKeys(task.Outputs) {
		for _, port := range sortedKeys(task.Outputs[kind]) {
			if !slices.ContainsFunc(desc.OutputData, named(port)) {
				if isOfOtherStage(task.Outputs[kind], kind, desc) {
					continue
				}
				return nil, bfia.Errorf(bfia.CodeBadRequest, "%s.%s: %s of %s:%s has no such output "+
					"(its outputs: %s)", kind, port, desc.ComponentName, desc.Provider, desc.Version,
					bfia.DescribePorts(desc.OutputData))
			}
			if _, twice := given[port]; twice {
				return nil, bfia.Errorf(bfia.CodeBadRequest, "%s.%s: is given twice", kind, port)
			}
			out := task.Outputs[kind][port]
			given[port] = output{Key: cmp.Or(out.Key, port), Type: cmp.Or(out.Type, kind)}
		}
	}

	// With the DAG's own types, then with the description's, then with all ports.
	for _, attempt := range []struct{ described, all bool }{{}, {described: true}, {described: true,
		all: true}} {
		var ports []bfia.Port
		var want []string
		for _, port := range desc.OutputData {
			out, is := given[port.Name]
			switch {
			case is && attempt.described && bfia.SameFamily(out.Type, port.Category):
				out.Type = port.Category
			case is:
			case !is && attempt.all:
				out = output{Key: port.Name, Type: port.Category}
			case !is:
				continue
			}
			ports, want = append(ports, bfia.Port{Type: out.Type, Key: out.Key}), append(want, port.Name)
		}
		if bound, err := bfia.BindOutputs(bfia.Component{Output: ports}, desc); err == nil &&
			slices.EqualFunc(bound, want, func(b bfia.Binding, port string) bool { return b.Port == port }) {
			return ports, nil
		}
	}
	return nil, bfia.Errorf(bfia.CodeBadRequest,
		"the types of the outputs don't fit those of %s (%s)", desc.ComponentName,
		bfia.DescribePorts(desc.OutputData))
}

// isOfOtherStage reports whether outputs that a component lacks may be left out: the pipeline lists those of
// all stages. If the component has none of a kind that is listed, their names are wrong.
func isOfOtherStage(listed map[string]output, kind string, desc *bfia.Description) bool {
	has := false
	for _, port := range desc.OutputData {
		if KindOf(port.Category) != kind {
			continue
		}
		has = true
		if _, is := listed[port.Name]; is {
			return true
		}
	}
	return !has
}

func named(name string) func(bfia.DataPort) bool {
	return func(p bfia.DataPort) bool { return p.Name == name }
}

// wire is what feeds an input port: an output of another task, rootDataset or rootModel.
type wire struct {
	key, kind string // of the output, whose key contains a '.'
}

// inputs sets a task's inputs, and its datasets as parameters of its parts.
func (t *translation) inputs(name string) error {
	task, desc := t.Tasks[name], t.described[name]
	wires := map[string]wire{}
	for _, kind := range sortedKeys(task.Inputs) {
		for _, port := range sortedKeys(task.Inputs[kind]) {
			if !slices.ContainsFunc(desc.InputData, named(port)) {
				return bfia.Errorf(bfia.CodeBadRequest,
					"%s.%s: %s of %s:%s has no such input (its inputs: %s)",
					kind, port, desc.ComponentName, desc.Provider, desc.Version,
					bfia.DescribePorts(desc.InputData))
			}
			w, err := t.input(name, task.Inputs[kind][port])
			if err != nil {
				return bfia.PrefixField(kind+"."+port, err)
			}
			if w != nil {
				wires[port] = *w
			}
		}
	}
	return t.bind(t.components[name], desc, wires)
}

// The keys of what feeds an input from outside of the job.
const (
	rootDataset = "dataset"
	rootModel   = "model"
)

// root returns the input port that a dataset, or a model of an earlier job, feeds, or "" if there is none.
func root(wires map[string]wire, key string) (string, error) {
	found := ""
	for _, port := range sortedKeys(wires) {
		if wires[port].key != key {
			continue
		}
		if found != "" {
			return "", bfia.Errorf(bfia.CodeBadRequest,
				"%s and %s both name a %s; a task takes one of each party",
				found, port, key)
		}
		found = port
	}
	return found, nil
}

// bind sets the inputs of a component so that each wire reaches its port, first with the types of the
// outputs, then with those of the description.
func (t *translation) bind(c *bfia.Component, desc *bfia.Description, wires map[string]wire) error {
	dataset, err := root(wires, rootDataset)
	if err != nil {
		return err
	}
	model, err := root(wires, rootModel)
	if err != nil {
		return err
	}

	for _, described := range []bool{false, true} {
		c.Input = nil
		var want []bfia.Binding
		for _, port := range desc.InputData {
			w, is := wires[port.Name]
			if !is || port.Name == dataset || port.Name == model {
				continue
			}
			if described && bfia.SameFamily(w.kind, port.Category) {
				w.kind = port.Category
			}
			c.Input = append(c.Input, bfia.Port{Type: w.kind, Key: w.key})
			want = append(want, bfia.Binding{Port: port.Name, Type: w.kind, Key: w.key})
		}
		bound, err := bfia.BindInputs(*c, desc, true)
		if err == nil && fits(bound, want, dataset, model) {
			return nil
		}
	}
	return bfia.Errorf(bfia.CodeBadRequest,
		"%s takes its inputs in their order (%s); one can't be given without those of its type before it",
		desc.ComponentName, bfia.DescribePorts(desc.InputData))
}

// fits reports whether outputs, the dataset and the model have reached their ports.
func fits(bound, want []bfia.Binding, dataset, model string) bool {
	boundDataset, boundModel := "", ""
	for _, b := range bound {
		switch {
		case b.IsRootDataset():
			boundDataset = b.Port
		case b.IsRootModel():
			boundModel = b.Port
		case !slices.Contains(want, b):
			return false
		}
	}
	return (dataset == "" || dataset == boundDataset) && (model == "" || model == boundModel)
}

// input returns what feeds an input port, or nil if nothing does.
func (t *translation) input(name string, sources map[string]fateflow.Channels) (*wire, error) {
	var fed *wire
	for _, source := range sortedKeys(sources) {
		for i, c := range sources[source] {
			place := source
			if len(sources[source]) > 1 {
				place += "[" + strconv.Itoa(i) + "]"
			}
			var w *wire
			var err error
			switch source {
			case fateflow.SourceTaskOutput:
				if _, is := t.readers[c.Producer]; is {
					w, err = &wire{key: rootDataset}, t.readDataset(name, c)
				} else {
					w, err = t.producer(c)
				}
			case fateflow.SourceDataset:
				w, err = &wire{key: rootDataset}, t.dataset(name, c)
			case fateflow.SourceModel:
				w, err = &wire{key: rootModel}, t.model(name, c)
			default:
				err = bfia.Errorf(bfia.CodeBadRequest, "body: is none of %s, %s, %s",
					fateflow.SourceTaskOutput, fateflow.SourceDataset, fateflow.SourceModel)
			}
			if err != nil {
				return nil, bfia.PrefixField(place, err)
			}
			if fed != nil && *fed != *w {
				return nil, bfia.Errorf(bfia.CodeBadRequest, "%s: another source feeds the input already",
					place)
			}
			fed = w
		}
	}
	return fed, nil
}

// producer returns the output that a channel names, by its port or its alias.
func (t *translation) producer(c fateflow.Channel) (*wire, error) {
	from, known := t.components[c.Producer]
	if !known {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "producer_task: the DAG has no task %q%s", c.Producer,
			bfia.DidYouMean(c.Producer, sortedKeys(t.Tasks)))
	}

	// FATE's clients name the port, though the output is stored under its alias.
	alias := c.Key
	for _, ports := range t.Tasks[c.Producer].Outputs {
		if out, is := ports[c.Key]; is {
			alias = cmp.Or(out.Key, c.Key)
		}
	}
	i := slices.IndexFunc(from.Output, func(p bfia.Port) bool { return p.Key == alias })
	if i < 0 {
		return nil, bfia.Errorf(bfia.CodeBadRequest,
			"output_artifact_key: the task %s does not list an output %q in its outputs", c.Producer, c.Key)
	}
	return &wire{key: c.Producer + "." + from.Output[i].Key, kind: from.Output[i].Type}, nil
}

// dataset sets the parameter dataset_id of the parts for which a channel is.
func (t *translation) dataset(name string, c fateflow.Channel) error {
	id := c.DatasetID
	if id == "" {
		for _, f := range []struct{ name, value string }{
			{"namespace", string(c.Namespace)}, {"name", string(c.Name)},
		} {
			if err := bfia.CheckID(f.name, f.value); err != nil {
				return err
			}
		}
		id = bfia.Address{Namespace: string(c.Namespace), Name: string(c.Name)}.String()
	}
	value, err := json.Marshal(id)
	if err != nil {
		return err
	}

	return t.setRoot(name, c, "dataset_id", value)
}

// setRoot sets a parameter of the parts for which a channel is.
func (t *translation) setRoot(name string, c fateflow.Channel, parameter string,
	value json.RawMessage,
) error {
	at := c.Parties
	if len(at) == 0 {
		at = t.partiesOf(name)
	}
	for _, p := range at {
		for _, id := range p.PartyID {
			index, err := t.positions(fateflow.Parties{Role: p.Role, PartyID: fateflow.Texts{id}})
			if err != nil {
				return bfia.PrefixField("parties", err)
			}
			if err := t.params.set(p.Role, index, name, parameter, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// model sets the parameter model_id of a task, which names the model of an earlier job. The id of a model is
// that of its job.
func (t *translation) model(name string, c fateflow.Channel) error {
	var warehouse struct {
		ID fateflow.Text `json:"model_id"`
	}
	if raw, given := t.Conf["model_warehouse"]; given {
		if err := bfia.DecodeJSON(raw, &warehouse); err != nil {
			return err
		}
	}
	ref := bfia.ModelRef{JobID: string(cmp.Or(c.ModelID, warehouse.ID)), Task: c.Producer, Output: c.Key}
	for _, f := range []struct{ name, value string }{{"model_id", ref.JobID}, {"producer_task", ref.Task}} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	value, err := json.Marshal(ref.String())
	if err != nil {
		return err
	}
	for _, p := range t.partiesOf(name) {
		for _, id := range p.PartyID {
			if !c.ServesParty(p.Role, id) {
				return t.setRoot(name, c, bfia.ModelParam, value)
			}
		}
	}
	// A FATE-Flow passes its containers those parameters only that all roles have.
	task := t.Tasks[name]
	if old, twice := task.Parameters[bfia.ModelParam]; twice && !bytes.Equal(old, value) {
		return bfia.Errorf(bfia.CodeBadRequest, "%s: is given twice, with different values", bfia.ModelParam)
	}
	task.Parameters = maps.Clone(task.Parameters)
	if task.Parameters == nil {
		task.Parameters = map[string]json.RawMessage{}
	}
	task.Parameters[bfia.ModelParam] = value
	t.Tasks[name] = task
	return nil
}

// partiesOf returns the parties of a task: its own, or those of the job.
func (t *translation) partiesOf(name string) []fateflow.Parties {
	if own := t.Tasks[name].Parties; len(own) > 0 {
		return own
	}
	return t.Parties
}
