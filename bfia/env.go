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

// Address is where a dataset, model or report lies in a party's storage: <namespace>/<name>/data_<partition>.
type Address struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// String is the address as dataset_id has it.
func (a Address) String() string { return a.Namespace + "#" + a.Name }

// text is the address as a container's environment has it.
func (a Address) text() string {
	b, _ := json.Marshal(a)
	return spacedJSON(b)
}

// OutputAddress is where a part of a task puts an output of the DAG. Images written for FATE-Flow find their data there.
func OutputAddress(taskID string, part Part, out Port) Address {
	return Address{Name: taskID, Namespace: fmt.Sprintf("%s-%s-%s-%s", part.Role, part.NodeID, out.Type, out.Key)}
}

// RootDataset is the dataset that a task's parameters name for its first input: dataset_id "namespace#name", or name and
// namespace. It is nil when they name none.
func RootDataset(values map[string]json.RawMessage) (*Address, error) {
	text := func(key string) (string, bool, error) {
		raw, ok := values[key]
		if !ok || string(raw) == "null" {
			return "", false, nil
		}
		var s string
		if err := DecodeJSON(raw, &s); err != nil {
			return "", false, prefixed(key, err)
		}
		return s, s != "", nil
	}
	id, ok, err := text("dataset_id")
	if err != nil {
		return nil, err
	}
	if ok {
		namespace, name, found := strings.Cut(id, "#")
		if !found || CheckID("", namespace) != nil || CheckID("", name) != nil {
			return nil, Errorf(CodeBadRequest, "dataset_id: %q is not of the form namespace#name", id)
		}
		return &Address{Name: name, Namespace: namespace}, nil
	}
	name, hasName, nameErr := text("name")
	namespace, hasNamespace, namespaceErr := text("namespace")
	if nameErr != nil || namespaceErr != nil || !hasName || !hasNamespace {
		return nil, nil // a component may have parameters of these names for itself
	}
	if err := CheckID("name", name); err != nil {
		return nil, err
	}
	if err := CheckID("namespace", namespace); err != nil {
		return nil, err
	}
	return &Address{Name: name, Namespace: namespace}, nil
}

// family groups the categories that may stand for each other between a DAG and a description.
func family(category string) string {
	switch category {
	case "report", "metric":
		return "report"
	case "dataset", "datasets", "training_set", "test_set":
		return "dataset"
	}
	return category
}

func sameFamily(a, b string) bool { return family(a) == family(b) }

// Binding ties a port of a component to an address.
type Binding struct {
	Port    string // the name in the component's description
	Type    string // the kind in the DAG
	Key     string // the DAG's key: task.output for inputs
	Address Address
}

// ports hands out a description's ports, each once: the first of the same category, else the first of its family.
type ports struct {
	list []DataPort
	used []bool
}

func (p *ports) take(category string) (name string) {
	for _, match := range []func(string) bool{
		func(c string) bool { return c == category || family(c) == "report" && family(category) == "report" },
		func(c string) bool { return sameFamily(c, category) },
	} {
		for i, port := range p.list {
			if !p.used[i] && match(port.Category) {
				p.used[i] = true
				return port.Name
			}
		}
	}
	return ""
}

// wireInputs gives each input of the DAG the component's next port of its kind. With root, the first dataset port that
// is left is the root dataset's, under an empty key.
func wireInputs(c Component, desc *Description, root bool) ([]Binding, error) {
	free := ports{list: desc.InputData, used: make([]bool, len(desc.InputData))}
	var bound []Binding
	for j, in := range c.Input {
		port := free.take(in.Type)
		if port == "" {
			return nil, Errorf(CodeBadRequest, "input[%d]: %s takes no further %s (its inputs: %s)", j, c.ComponentName, in.Type, portList(desc.InputData))
		}
		bound = append(bound, Binding{Port: port, Type: in.Type, Key: in.Key})
	}
	if root {
		if port := free.take("dataset"); port != "" {
			bound = append(bound, Binding{Port: port, Type: "dataset"})
		}
	}
	return bound, nil
}

// wireOutputs gives the n-th output of a kind in the DAG the n-th port of that kind in the description.
func wireOutputs(c Component, desc *Description) ([]Binding, error) {
	free := ports{list: desc.OutputData, used: make([]bool, len(desc.OutputData))}
	var bound []Binding
	for j, out := range c.Output {
		port := free.take(out.Type)
		if port == "" {
			return nil, Errorf(CodeBadRequest, "output[%d]: %s gives no further %s (its outputs: %s)", j, c.ComponentName, out.Type, portList(desc.OutputData))
		}
		bound = append(bound, Binding{Port: port, Type: out.Type, Key: out.Key})
	}
	return bound, nil
}

func portList(ports []DataPort) string {
	if len(ports) == 0 {
		return "none"
	}
	var list []string
	for _, p := range ports {
		list = append(list, p.Category+" "+p.Name)
	}
	return strings.Join(list, ", ")
}

// Run is what one part of one task needs to run: everything that follows from the document and the description.
type Run struct {
	Task      Component
	Part      Part
	TaskID    string
	Inputs    []Binding
	Outputs   []Binding
	Params    map[string]string // what the job gives, without the root dataset; no defaults
	Parts     []Part            // all parts of the task, at all nodes
	Resources Resources
}

// NewRun derives what one part of a task needs. taskIDs gives the ids of the tasks by name: an upstream without one
// can't have run, which is an error.
func NewRun(doc *Document, desc *Description, task string, part Part, taskIDs map[string]string) (*Run, error) {
	i := slices.IndexFunc(doc.DAG.Components, func(c Component) bool { return c.Name == task })
	if i < 0 {
		return nil, Errorf(CodeNotFound, "task_name: job %s has no task %q", doc.JobID, task)
	}
	c := doc.DAG.Components[i]
	values, err := doc.Config.TaskParameters(task, part)
	if err != nil {
		return nil, err
	}
	root, err := RootDataset(values)
	if err != nil {
		return nil, prefixedTask(task, part, err)
	}
	r := &Run{Task: c, Part: part, TaskID: taskIDs[task], Params: map[string]string{}}
	if r.Resources, err = doc.Config.Resources(part); err != nil {
		return nil, err
	}
	for _, p := range doc.Config.Parts() {
		if slices.Contains(desc.RoleList, p.Role) {
			r.Parts = append(r.Parts, p)
		}
	}
	if r.Inputs, err = wireInputs(c, desc, root != nil); err != nil {
		return nil, err
	}
	rooted := false
	for j := range r.Inputs {
		in := &r.Inputs[j]
		if in.Key == "" {
			in.Address, rooted = *root, true
			continue
		}
		upstream, output, _ := strings.Cut(in.Key, ".")
		id := taskIDs[upstream]
		if id == "" {
			return nil, Errorf(CodeConflict, "task %s: its input %s comes from a task that did not run here", task, in.Key)
		}
		// The upstream's own word for the kind makes the address, not the word of the one who reads it.
		kind := in.Type
		if u := slices.IndexFunc(doc.DAG.Components, func(c Component) bool { return c.Name == upstream }); u >= 0 {
			for _, o := range doc.DAG.Components[u].Output {
				if o.Key == output && sameFamily(o.Type, in.Type) {
					kind = o.Type
				}
			}
		}
		in.Address = OutputAddress(id, part, Port{Type: kind, Key: output})
	}
	if r.Outputs, err = wireOutputs(c, desc); err != nil {
		return nil, err
	}
	for j := range r.Outputs {
		out := &r.Outputs[j]
		out.Address = OutputAddress(r.TaskID, part, Port{Type: out.Type, Key: out.Key})
	}
	for name, raw := range values {
		if name == "dataset_id" || rooted && (name == "name" || name == "namespace") && values["dataset_id"] == nil {
			continue
		}
		if r.Params[name], err = ParameterText(raw); err != nil {
			return nil, prefixed("config.task_params: task "+task+": "+name, err)
		}
	}
	return r, nil
}

// System is what a party tells its containers of itself (part 3, 3.3).
type System struct {
	Storage   string // s3://.. or file:///..
	Transport string // host:port
	Callback  string // URL
	LogPath   string // a folder that the container may write
	SessionID string
	Token     string
	TraceID   string
}

// Environment is a container's environment (part 3, 3.3 and 3.4): nothing but what the protocol names.
func Environment(r *Run, sys System) map[string]string {
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
