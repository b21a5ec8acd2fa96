package bfia

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Prediction describes a job that applies the model of an earlier job to other rows.
type Prediction struct {
	Model    ModelRef
	Training *Document // of the job that trained it
	// Component applies the model. Empty: the component that trained it, with [PredictSuffix].
	Component string
	Initiator string // its node id
	// Datasets has the dataset of each part that read one in the training, as namespace#name, by the part
	// (guest.0) or by the node id.
	Datasets map[string]string
	// TrainingDatasets makes a part without an entry in Datasets read the dataset of the training again.
	// Otherwise the prediction is refused.
	TrainingDatasets bool
	Describe         Describe
}

// PredictedTask is a task of a prediction.
type PredictedTask struct {
	Name, Component string
	// Model is the model that the task applies; nil for a task that runs as in the training.
	Model *ModelRef
}

// Document returns the document of the job, and its tasks: the task that trained the model and those on
// which it depends, under their names. Each that trained a model, and whose provider has a component of the
// same name with [PredictSuffix], is replaced by that component with the trained model. The others run as in
// the training, such as an intersection. The parties, the resources and the parameters are those of the
// training, as far as the components describe them.
func (p Prediction) Document() (map[string]any, []PredictedTask, error) {
	trained, ok := p.Training.DAG.component(p.Model.Task)
	if !ok {
		return nil, nil, Errorf(CodeNotFound, "model: job %s has no task %q", p.Model.JobID, p.Model.Task)
	}
	b := predicting{Prediction: p, outputs: map[string]map[string]Port{}, roles: map[string]bool{},
		params: map[string]map[string]tasksParams{}, used: map[string]bool{}}
	for _, name := range p.Training.DAG.Ancestors(trained.Name) {
		c, _ := p.Training.DAG.component(name)
		if err := b.add(c); err != nil {
			return nil, nil, err
		}
	}
	if err := b.checkDatasets(); err != nil {
		return nil, nil, err
	}
	role := ""
	for _, part := range p.Training.Config.PartsOf(p.Initiator) {
		role = cmp.Or(role, part.Role)
	}
	if role == "" {
		return nil, nil, Errorf(CodeConflict, "model: %s has no role in job %s, which trained it",
			p.Initiator, p.Training.JobID)
	}
	nodes := maps.Clone(p.Training.Config.Role)
	maps.DeleteFunc(nodes, func(role string, _ []string) bool { return !b.roles[role] })
	config := map[string]any{"version": p.Training.Config.Version,
		"initiator": Initiator{Role: role, NodeID: p.Initiator}, "role": nodes,
		"job_params": b.jobParams(), "task_params": b.taskParams()}
	return map[string]any{"flow_id": p.Training.FlowID, "config": config,
		"dag": DAG{Version: p.Training.DAG.Version, Components: b.components}}, b.tasks, nil
}

// tasksParams are the parameters of tasks, by the task's name and their own.
type tasksParams map[string]map[string]any

// predicting builds the document of a [Prediction].
type predicting struct {
	Prediction
	components []Component
	tasks      []PredictedTask
	// outputs has the outputs of replaced tasks, by the outputs of the training that they replace.
	outputs map[string]map[string]Port
	roles   map[string]bool
	params  map[string]map[string]tasksParams // by role and index
	missing []string                          // parts without a dataset
	used    map[string]bool                   // keys of Datasets
}

// add adds the task that replaces one of the training.
func (b *predicting) add(c Component) error {
	was, err := b.Describe(c.Provider, c.Version, c.ComponentName)
	if err != nil {
		return PrefixPlace("task "+c.Name, err)
	}
	desc, err := b.predictor(c)
	if err != nil {
		return err
	}
	task := PredictedTask{Name: c.Name, Component: c.ComponentName}
	now := c
	now.Input = nil
	for _, in := range c.Input {
		upstream, output, _ := strings.Cut(in.Key, ".")
		if out, replaced := b.outputs[upstream][output]; replaced {
			in = Port{Type: out.Type, Key: upstream + "." + out.Key}
		}
		if desc == nil || familyOf(in.Type) == familyData {
			now.Input = append(now.Input, in)
		}
	}
	if desc != nil {
		task.Component, task.Model = desc.ComponentName, &ModelRef{JobID: b.Model.JobID, Task: c.Name}
		if c.Name == b.Model.Task {
			task.Model.Output = b.Model.Output
		}
		now.ComponentName = desc.ComponentName
		now.Output = b.replaceOutputs(c, desc)
	} else {
		desc = was
	}
	b.components, b.tasks = append(b.components, now), append(b.tasks, task)
	for _, part := range partsOf(&b.Training.Config, desc) {
		if err := b.addPart(c, task, part, desc); err != nil {
			return err
		}
	}
	return nil
}

// predictor returns the component that applies what a task trained, or nil if the task runs as in the
// training. The task of the model has one.
func (b *predicting) predictor(c Component) (*Description, error) {
	name := c.ComponentName + PredictSuffix
	if c.Name == b.Model.Task {
		desc, err := b.Describe(c.Provider, c.Version, cmp.Or(b.Component, name))
		if err != nil {
			return nil, PrefixPlace("model: no component that applies it", err)
		}
		return desc, nil
	}
	if !slices.ContainsFunc(c.Output, func(o Port) bool { return IsModel(o.Type) }) {
		return nil, nil
	}
	desc, err := b.Describe(c.Provider, c.Version, name)
	if CodeOf(err) == CodeNotFound {
		return nil, nil
	}
	return desc, err
}

// replaceOutputs returns the outputs of a component that replaces a task. Its n-th dataset replaces the
// task's n-th, the last one also further ones.
func (b *predicting) replaceOutputs(c Component, desc *Description) []Port {
	var outputs, data []Port
	for _, out := range desc.OutputData {
		port := Port{Type: out.Category, Key: out.Name}
		outputs = append(outputs, port)
		if familyOf(port.Type) == familyData {
			data = append(data, port)
		}
	}
	b.outputs[c.Name] = map[string]Port{}
	n := 0
	for _, old := range c.Output {
		if familyOf(old.Type) == familyData && len(data) > 0 {
			b.outputs[c.Name][old.Key] = data[min(n, len(data)-1)]
			n++
		}
	}
	return outputs
}

// addPart adds the parameters of a part: those of the training that the component describes, its dataset and
// its model.
func (b *predicting) addPart(c Component, task PredictedTask, part Part, desc *Description) error {
	b.roles[part.Role] = true
	trained, err := b.Training.Config.TaskParameters(c.Name, part)
	if err != nil {
		return err
	}
	inputs, err := BindInputs(c, desc, true)
	if task.Model != nil { // whatever its ports: as in the training, the DAG feeds it or not
		inputs, err = []Binding{{Type: string(familyData)}}, nil
		if slices.ContainsFunc(c.Input, func(in Port) bool { return familyOf(in.Type) == familyData }) {
			inputs = nil
		}
	}
	if err != nil {
		return PrefixPlace("task "+c.Name, err)
	}
	root, rootNames, err := rootDataset(inputs, trained)
	if err != nil {
		return prefixedTask(c.Name, part, err)
	}
	values := map[string]any{}
	for name, value := range trained {
		described := slices.ContainsFunc(desc.InputParam, func(p InputParam) bool { return p.Name == name })
		if !slices.Contains(rootNames, name) && (task.Model == nil || described) {
			values[name] = value
		}
	}
	if root != nil {
		if values[datasetParam], err = b.dataset(part, root); err != nil {
			return err
		}
	}
	if task.Model != nil {
		values[ModelParam] = task.Model.String()
	}
	index := itoa(part.Index)
	if b.params[part.Role] == nil {
		b.params[part.Role] = map[string]tasksParams{}
	}
	if b.params[part.Role][index] == nil {
		b.params[part.Role][index] = tasksParams{}
	}
	b.params[part.Role][index][c.Name] = values
	return nil
}

// dataset returns the dataset that a part reads in place of one of the training.
func (b *predicting) dataset(part Part, trained *Address) (string, error) {
	for _, key := range []string{part.Self(), part.NodeID} {
		if id := b.Datasets[key]; id != "" {
			b.used[key] = true
			namespace, name, _ := strings.Cut(id, "#")
			if CheckID("", namespace) != nil || CheckID("", name) != nil {
				return "", Errorf(CodeBadRequest, "data: %q of %s is not of the form namespace#name", id, key)
			}
			return id, nil
		}
	}
	if b.TrainingDatasets {
		return trained.String(), nil
	}
	missing := part.Self() + " (" + part.NodeID + ", which trained with " + trained.String() + ")"
	if !slices.Contains(b.missing, missing) {
		b.missing = append(b.missing, missing)
	}
	return "", nil
}

// taskParams returns the parameters of the tasks. Those that all parts of a task share are in common, except
// for datasets, which each party names for itself.
func (b *predicting) taskParams() map[string]any {
	common := tasksParams{}
	for _, t := range b.tasks {
		var parts []map[string]any
		for _, byIndex := range b.params {
			for _, byTask := range byIndex {
				if values, ok := byTask[t.Name]; ok {
					parts = append(parts, values)
				}
			}
		}
		if shared := takeShared(parts); len(shared) > 0 {
			common[t.Name] = shared
		}
	}
	params := map[string]any{}
	if len(common) > 0 {
		params["common"] = common
	}
	for role, byIndex := range b.params {
		for _, byTask := range byIndex {
			maps.DeleteFunc(byTask, func(_ string, values map[string]any) bool { return len(values) == 0 })
		}
		maps.DeleteFunc(byIndex, func(_ string, byTask tasksParams) bool { return len(byTask) == 0 })
		if len(byIndex) > 0 {
			params[role] = byIndex
		}
	}
	return params
}

// takeShared removes from the parameters of a task's parts those that all of them have with the same value,
// and returns them.
func takeShared(parts []map[string]any) map[string]any {
	shared := map[string]any{}
	if len(parts) == 0 {
		return shared
	}
	for name, value := range parts[0] {
		differs := func(values map[string]any) bool {
			other, ok := values[name]
			return !ok || !sameJSON(value, other)
		}
		if name != datasetParam && !slices.ContainsFunc(parts, differs) {
			shared[name] = value
		}
	}
	for _, values := range parts {
		maps.DeleteFunc(values, func(name string, _ any) bool { _, ok := shared[name]; return ok })
	}
	return shared
}

// sameJSON reports whether two values have the same JSON.
func sameJSON(a, b any) bool {
	textA, errA := json.Marshal(a)
	textB, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(textA, textB)
}

// checkDatasets refuses a prediction for which a part lacks a dataset, or that names one for nobody.
func (b *predicting) checkDatasets() error {
	if len(b.missing) > 0 {
		return Errorf(CodeBadRequest, "data: no dataset is given for %s", strings.Join(b.missing, ", "))
	}
	for _, key := range sortedKeys(b.Datasets) {
		if !b.used[key] {
			return Errorf(CodeBadRequest, "data: %s reads no dataset in this job, or has one by its part",
				key)
		}
	}
	return nil
}

// jobParams returns the job_params of the training, without roles and tasks that this job does not have.
func (b *predicting) jobParams() map[string]any {
	clean := func(values map[string]json.RawMessage) map[string]json.RawMessage {
		values = maps.Clone(values)
		var requires map[string]json.RawMessage
		if raw := values["requires"]; raw != nil && json.Unmarshal(raw, &requires) == nil {
			maps.DeleteFunc(requires, func(task string, _ json.RawMessage) bool {
				return task != AnyTask &&
					!slices.ContainsFunc(b.tasks, func(t PredictedTask) bool { return t.Name == task })
			})
			values["requires"], _ = json.Marshal(requires) // it was parsed
		}
		return values
	}
	params := map[string]any{}
	if common := b.Training.Config.JobParams.Common; common != nil {
		params["common"] = clean(common)
	}
	for role, byIndex := range b.Training.Config.JobParams.Roles {
		if !b.roles[role] {
			continue
		}
		of := map[string]any{}
		for index, values := range byIndex {
			of[index] = clean(values)
		}
		params[role] = of
	}
	return params
}
