package bfia

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	envParameter = "runtime.component.parameter."
	envInput     = "runtime.component.input."
	envOutput    = "runtime.component.output."
)

// Address locates a dataset, model or report in a party's storage: <namespace>/<name>/data_<partition>.
type Address struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// String returns the address in the form of dataset_id: namespace#name.
func (a Address) String() string { return a.Namespace + "#" + a.Name }

// text returns the address in the form of a container's environment.
func (a Address) text() string {
	b, _ := json.Marshal(a)
	return spacedJSON(b)
}

// OutputAddress returns the address of an output of a part of a task. It is the address that FATE-Flow uses,
// so that images written for FATE-Flow find their data.
func OutputAddress(taskID string, part Part, out Port) Address {
	return Address{
		Name:      taskID,
		Namespace: fmt.Sprintf("%s-%s-%s-%s", part.Role, part.NodeID, out.Type, out.Key),
	}
}

// IsOutputNamespace reports whether a namespace has the form in which the outputs of a node's parts are kept;
// see [OutputAddress]. No dataset may have one.
func IsOutputNamespace(node, namespace string) bool {
	role, output, found := strings.Cut(namespace, "-"+node+"-")
	kind, key, typed := strings.Cut(output, "-")
	return found && typed && role != "" && kind != "" && key != ""
}

// RootDataset returns the dataset that the parameters of a part name for the first dataset input that the DAG
// does not feed: dataset_id "namespace#name", or name and namespace. It returns nil if they name none, or if
// there is no such input: then these parameters are the component's own.
func (d *Document) RootDataset(describe Describe, task string, part Part) (*Address, error) {
	inputs, values, err := d.rootInputs(describe, task, part)
	if err != nil {
		return nil, err
	}
	address, _, err := rootDataset(inputs, values)
	return address, prefixedTask(task, part, err)
}

// rootInputs returns the inputs of a task and the parameters of a part, which may name what the DAG does not
// feed.
func (d *Document) rootInputs(describe Describe, task string, part Part) ([]Binding,
	map[string]json.RawMessage, error) {
	c, ok := d.DAG.component(task)
	if !ok {
		return nil, nil, Errorf(CodeNotFound, "task_name: job %s has no task %q", d.JobID, task)
	}
	desc, err := describe(c.Provider, c.Version, c.ComponentName)
	if err != nil {
		return nil, nil, PrefixPlace("task "+task, err)
	}
	values, err := d.Config.TaskParameters(task, part)
	if err != nil {
		return nil, nil, err
	}
	inputs, err := BindInputs(c, desc, true)
	if err != nil {
		return nil, nil, PrefixPlace("task "+task, err)
	}
	return inputs, values, nil
}

// rootDataset returns the root dataset that parameters name, and the names of these parameters. inputs has a
// place for it if the DAG leaves a dataset input free.
func rootDataset(inputs []Binding, values map[string]json.RawMessage) (*Address, []string, error) {
	if !slices.ContainsFunc(inputs, Binding.IsRootDataset) {
		return nil, nil, nil
	}
	return namedDataset(values)
}

// namedDataset returns the dataset that parameters name, and the names of these parameters.
func namedDataset(values map[string]json.RawMessage) (*Address, []string, error) {
	var id string
	if err := DecodeFields(values, Optional(datasetParam, &id)); err != nil {
		return nil, nil, err
	}
	if id != "" {
		namespace, name, _ := strings.Cut(id, "#")
		if CheckID("", namespace) != nil || CheckID("", name) != nil {
			return nil, nil, Errorf(CodeBadRequest, "dataset_id: %q is not of the form namespace#name", id)
		}
		return &Address{Name: name, Namespace: namespace}, []string{datasetParam}, nil
	}
	var address Address
	err := DecodeFields(values, Optional("name", &address.Name), Optional("namespace", &address.Namespace))
	if err != nil || address.Name == "" || address.Namespace == "" {
		return nil, nil, nil // a component can have parameters of its own with these names
	}
	if err := CheckID("name", address.Name); err != nil {
		return nil, nil, err
	}
	if err := CheckID("namespace", address.Namespace); err != nil {
		return nil, nil, err
	}
	return &address, []string{"name", "namespace"}, nil
}

// family groups the types of inputs and outputs, in a DAG, and the categories of a description.
type family string

const (
	familyData   family = "dataset"
	familyModel  family = "model"
	familyMetric family = "metric"
)

// familyOf returns the family of a type: FATE-Flow's rule, by substrings. Every type that is neither data nor
// a model is a metric, such as a report. The type itself is passed on unchanged.
func familyOf(kind string) family {
	for _, part := range []string{"data", "training_set", "test_set", "validate_set"} {
		if strings.Contains(kind, part) {
			return familyData
		}
	}
	if strings.Contains(kind, "model") {
		return familyModel
	}
	return familyMetric
}

// SameFamily reports whether two types match each other between a DAG and a description: both are data, both
// models, or both metrics.
func SameFamily(a, b string) bool { return familyOf(a) == familyOf(b) }

// sameKind reports whether two types are equal; all metrics count as equal.
func sameKind(a, b string) bool {
	return a == b || familyOf(a) == familyMetric && familyOf(b) == familyMetric
}

// Binding connects a port of a component to an address.
type Binding struct {
	Port    string // the name in the component's description
	Type    string // the kind in the DAG
	Key     string // the DAG's key: task.output for inputs; empty for an input that a parameter names
	Address Address
}

// IsRootDataset reports whether the binding is an input for a dataset that the DAG does not feed.
func (b Binding) IsRootDataset() bool { return b.Key == "" && familyOf(b.Type) == familyData }

// IsRootModel reports whether the binding is an input for a model that the DAG does not feed.
func (b Binding) IsRootModel() bool { return b.Key == "" && familyOf(b.Type) == familyModel }

// assign returns the port for each kind, or -1 if there is none.
//
// It works in two passes: the kinds that the description names exactly get their ports first, in order. Then
// the other kinds get the next free port of their family.
func assign(ports []DataPort, kinds []string) []int {
	used := make([]bool, len(ports))
	assigned := make([]int, len(kinds))
	for i := range assigned {
		assigned[i] = -1
	}
	for _, fits := range []func(a, b string) bool{sameKind, SameFamily} {
		for i, kind := range kinds {
			for j := 0; assigned[i] < 0 && j < len(ports); j++ {
				if !used[j] && fits(ports[j].Category, kind) {
					assigned[i], used[j] = j, true
				}
			}
		}
	}
	return assigned
}

// BindInputs assigns each input of the DAG to the component's next port of its kind. With root, it assigns
// the root dataset and the root model, under an empty key, to the first free port of their kind.
func BindInputs(c Component, desc *Description, root bool) ([]Binding, error) {
	var kinds []string
	for _, in := range c.Input {
		kinds = append(kinds, in.Type)
	}
	free := make([]DataPort, 0, len(desc.InputData))
	fed := make([]bool, len(desc.InputData))
	var bound []Binding
	for j, port := range assign(desc.InputData, kinds) {
		in := c.Input[j]
		if port < 0 {
			return nil, noPort("input", c, kinds, j, desc.InputData)
		}
		bound = append(bound, Binding{Port: desc.InputData[port].Name, Type: in.Type, Key: in.Key})
		fed[port] = true
	}
	if !root {
		return bound, nil
	}

	for j, port := range desc.InputData {
		if !fed[j] {
			free = append(free, port)
		}
	}
	kinds = []string{string(familyData), string(familyModel)}
	for i, port := range assign(free, kinds) {
		if port >= 0 {
			bound = append(bound, Binding{Port: free[port].Name, Type: kinds[i]})
		}
	}
	return bound, nil
}

// BindOutputs assigns the n-th output of a kind in the DAG to the n-th port of that kind in the description.
func BindOutputs(c Component, desc *Description) ([]Binding, error) {
	var kinds []string
	for _, out := range c.Output {
		kinds = append(kinds, out.Type)
	}
	var bound []Binding
	for j, port := range assign(desc.OutputData, kinds) {
		out := c.Output[j]
		if port < 0 {
			return nil, noPort("output", c, kinds, j, desc.OutputData)
		}
		bound = append(bound, Binding{Port: desc.OutputData[port].Name, Type: out.Type, Key: out.Key})
	}
	return bound, nil
}

// noPort returns the error for the j-th input or output of a task, for which the component has no port left.
//
// If a type counts as a metric only because it is nothing else, such as "Data" instead of "data", that one is
// at fault, wherever it is: it may have taken the port of a report.
func noPort(what string, c Component, kinds []string, j int, ports []DataPort) error {
	described := DescribePorts(ports)
	for i, kind := range kinds {
		named := strings.Contains(kind, "metric") || strings.Contains(kind, "report") ||
			slices.ContainsFunc(ports, func(p DataPort) bool { return p.Category == kind })
		if named || familyOf(kind) != familyMetric || familyOf(kinds[j]) != familyMetric {
			continue
		}
		left := ""
		if i != j {
			left = fmt.Sprintf(" for %s[%d] (%s)", what, j, kinds[j])
		}
		return Errorf(CodeBadRequest, "%s[%d].type: %q counts as a metric, because it contains "+
			"neither \"data\" nor \"model\" in lower case; so %s has no further %[1]s%[5]s (its %[1]ss: %[6]s)",
			what, i, kind, c.ComponentName, left, described)
	}
	return Errorf(CodeBadRequest, "%s[%d]: %s has no further %[1]s for a %[4]s (its %[1]ss: %[5]s)",
		what, j, c.ComponentName, kinds[j], described)
}

// DescribePorts lists ports for a message.
func DescribePorts(ports []DataPort) string {
	if len(ports) == 0 {
		return "none"
	}
	var list []string
	for _, p := range ports {
		list = append(list, p.Category+" "+p.Name)
	}
	return strings.Join(list, ", ")
}

// ContainerSpec holds what a container of one part of a task needs, derived from the document and the
// description.
type ContainerSpec struct {
	Task      Component
	Part      Part
	TaskID    string
	Inputs    []Binding
	Outputs   []Binding
	Params    map[string]string // the job's values, without those that name the root dataset; no defaults
	Parts     []Part            // all parts of the task, at all nodes
	Resources Resources
	Image     string // the component's own image; empty: that of its provider
	// Model is the model of an earlier job that the part uses, or nil. The caller sets the address of the
	// input; see [Binding.IsRootModel].
	Model *ModelRef
}

// NewContainerSpec derives the container of one part of a task. taskIDs holds the ids of the tasks by name.
//
// It leaves out an input whose upstream task does not run at this part's role, as FATE-Flow does: an arbiter
// has no data. An upstream task without an id is an error, since it can't have run.
func NewContainerSpec(doc *Document, describe Describe, task string, part Part,
	taskIDs map[string]string) (*ContainerSpec, error) {
	c, ok := doc.DAG.component(task)
	if !ok {
		return nil, Errorf(CodeNotFound, "task_name: job %s has no task %q", doc.JobID, task)
	}
	desc, err := describe(c.Provider, c.Version, c.ComponentName)
	if err != nil {
		return nil, PrefixPlace("task "+task, err)
	}
	values, err := doc.Config.TaskParameters(task, part)
	if err != nil {
		return nil, err
	}
	inputs, err := BindInputs(c, desc, true)
	if err != nil {
		return nil, PrefixPlace("task "+task, err)
	}
	root, rootNames, err := rootDataset(inputs, values)
	if err != nil {
		return nil, prefixedTask(task, part, err)
	}
	model, err := rootModel(inputs, values)
	if err != nil {
		return nil, prefixedTask(task, part, err)
	}
	if model != nil {
		rootNames = append(slices.Clone(rootNames), ModelParam)
	}
	r := &ContainerSpec{
		Task:   c,
		Part:   part,
		TaskID: taskIDs[task],
		Image:  desc.ImageURL,
		Params: map[string]string{},
		Parts:  partsOf(&doc.Config, desc),
	}
	if r.TaskID == "" {
		return nil, Errorf(CodeConflict, "task %s: has no task id yet", task)
	}
	if !slices.Contains(r.Parts, part) {
		return nil, Errorf(CodeConflict, "task %s: does not run at %s of %s", task, part.Self(), part.NodeID)
	}
	if r.Resources, err = doc.Config.Resources(part); err != nil {
		return nil, err
	}
	for _, in := range inputs {
		switch {
		case in.IsRootModel():
			if model == nil {
				continue
			}
			r.Model = model
		case in.Key == "":
			if root == nil {
				continue
			}
			in.Address = *root
		default:
			address, err := inputAddress(doc, describe, task, in, part, taskIDs)
			if err != nil {
				return nil, err
			}
			if address == nil {
				continue
			}
			in.Address = *address
		}
		r.Inputs = append(r.Inputs, in)
	}
	if r.Outputs, err = BindOutputs(c, desc); err != nil {
		return nil, PrefixPlace("task "+task, err)
	}
	for j := range r.Outputs {
		out := &r.Outputs[j]
		out.Address = OutputAddress(r.TaskID, part, Port{Type: out.Type, Key: out.Key})
	}
	for name, raw := range values {
		if slices.Contains(rootNames, name) {
			continue
		}
		if r.Params[name], err = ParameterText(raw); err != nil {
			return nil, PrefixPlace("config.task_params: task "+task+": "+name, err)
		}
	}
	return r, nil
}

// inputAddress returns the address of the upstream output that feeds an input. It returns nil if the upstream
// task does not run at the part's role.
func inputAddress(doc *Document, describe Describe, task string, in Binding, part Part,
	taskIDs map[string]string) (*Address, error) {
	upstream, output, _ := strings.Cut(in.Key, ".")
	from, ok := doc.DAG.component(upstream)
	if !ok {
		return nil, Errorf(CodeConflict, "task %s: its input %s comes from a task that the DAG does not have",
			task, in.Key)
	}
	desc, err := describe(from.Provider, from.Version, from.ComponentName)
	if err != nil {
		return nil, PrefixPlace("task "+upstream, err)
	}
	if !slices.Contains(desc.RoleList, part.Role) {
		return nil, nil
	}

	id := taskIDs[upstream]
	if id == "" {
		return nil, Errorf(CodeConflict, "task %s: its input %s comes from a task that did not run here",
			task, in.Key)
	}
	address := OutputAddress(id, part, Port{Type: from.outputType(output, in.Type), Key: output})
	return &address, nil
}

// component returns the component of a name.
func (d *DAG) component(name string) (Component, bool) {
	i := slices.IndexFunc(d.Components, func(c Component) bool { return c.Name == name })
	if i < 0 {
		return Component{}, false
	}
	return d.Components[i], true
}

// outputType returns the type that a component's DAG entry gives an output which another task reads as kind.
// The type is part of the address.
func (c *Component) outputType(key, kind string) string {
	if slices.Contains(c.Output, Port{Type: kind, Key: key}) {
		return kind
	}
	for _, o := range c.Output {
		if o.Key == key && SameFamily(o.Type, kind) {
			return o.Type
		}
	}
	return kind
}

// partsOf returns the parts at which a component runs: those whose role is in its description.
func partsOf(c *Config, desc *Description) []Part {
	return slices.DeleteFunc(c.Parts(), func(p Part) bool { return !slices.Contains(desc.RoleList, p.Role) })
}

// System holds the addresses and ids of a party's services for its containers (part 3, 3.3).
type System struct {
	Storage   string // s3://.. or file:///..
	Transport string // host:port
	Callback  string // URL
	LogPath   string // a folder that the container can write to
	SessionID string
	Token     string
	TraceID   string
	// ControlPort is the port on which the container can report its progress; 0: none.
	ControlPort int
}

// Environment returns the environment of a container (part 3, 3.3 and 3.4). It contains only variables of the
// protocol.
func Environment(r *ContainerSpec, sys System) map[string]string {
	env := map[string]string{
		"system.storage":         sys.Storage,
		"system.transport":       sys.Transport,
		"system.callback":        sys.Callback,
		"config.self_role":       r.Part.Self(),
		"config.task_id":         r.TaskID,
		"config.session_id":      sys.SessionID,
		"config.token":           sys.Token,
		"config.trace_id":        sys.TraceID,
		"config.log.path":        sys.LogPath,
		"runtime.component.name": r.Task.ComponentName,
	}
	if sys.ControlPort > 0 {
		env["system.control_port"] = itoa(sys.ControlPort)
	}
	if cpu := r.Resources.CPUMilli; cpu > 0 { // a process is not limited to what its job requests
		env["config.n_threads"] = itoa(max(1, int(cpu/1000)))
	}
	for _, p := range r.Parts {
		env["config.node_id."+p.Self()] = p.NodeID
		env["config.inst_id."+p.Self()] = p.NodeID
	}
	for name, value := range r.Params {
		env[envParameter+name] = value
	}
	for _, in := range r.Inputs {
		env[envInput+in.Port] = in.Address.text()
	}
	for _, out := range r.Outputs {
		env[envOutput+out.Port] = out.Address.text()
	}
	return env
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
