package bfia

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Plan is a job that is ready to be scheduled: its tasks in a topological order.
//
// It is small enough for the history of a workflow. The parameters stay in the document.
type Plan struct {
	JobID     string    `json:"job_id"`
	FlowID    string    `json:"flow_id,omitempty"`
	Initiator Initiator `json:"initiator"`
	// SyncType says how parties report their tasks to the scheduler: poll or callback.
	SyncType string `json:"sync_type,omitempty"`
	// Priority orders the queued jobs.
	Priority int           `json:"priority,omitempty"`
	Tasks    []PlannedTask `json:"tasks"`
}

// PlannedTask is one task with its parts and the tasks on which it depends.
type PlannedTask struct {
	Name      string   `json:"name"`
	Component string   `json:"component"`
	Provider  string   `json:"provider"`
	Version   string   `json:"version"`
	DependsOn []string `json:"depends_on,omitempty"`
	Parts     []Part   `json:"parts"`
}

// Nodes returns the nodes at which the task runs, sorted and without duplicates.
func (t *PlannedTask) Nodes() []string {
	var nodes []string
	for _, p := range t.Parts {
		nodes = append(nodes, p.NodeID)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// PartsOf returns the task's parts at one node.
func (t *PlannedTask) PartsOf(node string) []Part {
	var parts []Part
	for _, p := range t.Parts {
		if p.NodeID == node {
			parts = append(parts, p)
		}
	}
	return parts
}

// Task returns a task by its name.
func (p *Plan) Task(name string) (*PlannedTask, bool) {
	for i := range p.Tasks {
		if p.Tasks[i].Name == name {
			return &p.Tasks[i], true
		}
	}
	return nil, false
}

// WithDependents returns the names of a task and of all tasks that depend on it, directly or not, in the
// plan's order.
func (p *Plan) WithDependents(name string) []string {
	in := map[string]bool{name: true}
	var names []string
	for _, t := range p.Tasks { // dependencies come before dependents, so one pass is enough
		if t.Name == name || slices.ContainsFunc(t.DependsOn, func(d string) bool { return in[d] }) {
			in[t.Name] = true
			names = append(names, t.Name)
		}
	}
	return names
}

// Describe returns the self-description of a component. If it is not registered, the message of the [Error]
// says which of provider, version and component is unknown.
type Describe func(provider, version, component string) (*Description, error)

// NewPlan checks that the job of a document can run, and plans it. With a node it checks the parameters of
// that node's parts only; an empty node checks all.
//
// Its errors name the field: a cycle, an unknown upstream task or output, an unknown component, provider or
// version, a role without a node, a missing required parameter.
func NewPlan(doc *Document, describe Describe, node string) (*Plan, error) {
	if err := checkConfig(&doc.Config); err != nil {
		return nil, err
	}
	components := doc.DAG.Components
	if len(components) == 0 {
		return nil, Errorf(CodeBadRequest, "dag.components: at least one component is required")
	}
	place := map[string]int{}
	for i, c := range components {
		if err := checkComponent(i, c); err != nil {
			return nil, err
		}
		if first, dup := place[c.Name]; dup {
			return nil, Errorf(CodeBadRequest,
				"dag.components[%d].name: %q is already the name of components[%d]", i, c.Name, first)
		}
		place[c.Name] = i
	}
	order, err := topological(components, place)
	if err != nil {
		return nil, err
	}
	if err := checkTaskNames(&doc.Config.TaskParams, place); err != nil {
		return nil, err
	}
	if err := checkConstraints(&doc.Config, place); err != nil {
		return nil, err
	}
	priority, err := doc.Config.Priority()
	if err != nil {
		return nil, err
	}
	plan := &Plan{
		JobID:     doc.JobID,
		FlowID:    doc.FlowID,
		Initiator: doc.Config.Initiator,
		SyncType:  doc.Config.SyncType(),
		Priority:  priority,
	}
	for _, i := range order {
		t, err := planTask(doc, describe, i, node)
		if err != nil {
			return nil, err
		}
		plan.Tasks = append(plan.Tasks, *t)
	}
	return plan, nil
}

// planTask checks one component of the DAG and plans its task.
func planTask(doc *Document, describe Describe, i int, node string) (*PlannedTask, error) {
	c := doc.DAG.Components[i]
	desc, err := describe(c.Provider, c.Version, c.ComponentName)
	if err != nil {
		return nil, PrefixPlace(fmt.Sprintf("dag.components[%d] (%s)", i, c.Name), err)
	}
	inputs, err := BindInputs(c, desc, true)
	if err != nil {
		return nil, PrefixField(fmt.Sprintf("dag.components[%d] (%s)", i, c.Name), err)
	}
	if _, err := BindOutputs(c, desc); err != nil {
		return nil, PrefixField(fmt.Sprintf("dag.components[%d] (%s)", i, c.Name), err)
	}
	t := &PlannedTask{
		Name:      c.Name,
		Component: c.ComponentName,
		Provider:  c.Provider,
		Version:   c.Version,
		DependsOn: c.Upstreams(),
		Parts:     partsOf(&doc.Config, desc),
	}
	if len(t.Parts) == 0 {
		return nil, Errorf(CodeBadRequest,
			"dag.components[%d] (%s): %s runs at the roles %s, but config.role has no node for any of them",
			i, c.Name, c.ComponentName, strings.Join(desc.RoleList, ", "))
	}
	for _, p := range t.Parts {
		if node == "" || p.NodeID == node {
			if err := checkParameters(&doc.Config, c.Name, p, desc, inputs); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// checkTaskNames refuses parameters of a task that the DAG does not have: most likely, a name is misspelt.
func checkTaskNames(p *Params, place map[string]int) error {
	check := func(where string, values map[string]json.RawMessage) error {
		for _, task := range sortedKeys(values) {
			if _, ok := place[task]; !ok {
				return Errorf(CodeBadRequest, "config.task_params.%s.%s: the DAG has no task of that name%s",
					where, task, DidYouMean(task, sortedKeys(place)))
			}
		}
		return nil
	}
	if err := check("common", p.Common); err != nil {
		return err
	}
	for _, role := range sortedKeys(p.Roles) {
		for _, key := range sortedKeys(p.Roles[role]) {
			if err := check(role+"."+key, p.Roles[role][key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// PrefixPlace adds a place to an error whose message is a whole sentence.
func PrefixPlace(place string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", place, err)
	}
	return &Error{Code: e.Code, Message: place + ": " + e.Message, Cause: e.Cause}
}

func checkConfig(c *Config) error {
	if len(c.Parts()) == 0 {
		return Errorf(CodeBadRequest, "config.role: at least one role with a node is required")
	}
	for _, role := range c.Roles() {
		if err := CheckID("config.role", role); err != nil {
			return err
		}

		// A role without a node counts as absent: the specification's config always names all three (part 2,
		// 6.6).
		seen := map[string]bool{}
		for i, n := range c.Role[role] {
			if err := CheckID(fmt.Sprintf("config.role.%s[%d]", role, i), n); err != nil {
				return err
			}
			if seen[n] {
				return Errorf(CodeBadRequest, "config.role.%s[%d]: %s has this role twice", role, i, n)
			}
			seen[n] = true
		}
	}
	if err := CheckID("config.initiator.node_id", c.Initiator.NodeID); err != nil {
		return err
	}

	for _, kind := range []struct {
		name string
		p    *Params
	}{{"job_params", &c.JobParams}, {"task_params", &c.TaskParams}} {
		for _, role := range sortedKeys(kind.p.Roles) {
			nodes := c.Role[role]
			if len(nodes) == 0 && len(kind.p.Roles[role]) > 0 {
				return Errorf(CodeBadRequest, "config.%s.%s: config.role has no node of that role%s",
					kind.name, role, DidYouMean(role, c.Roles()))
			}

			for _, key := range sortedKeys(kind.p.Roles[role]) {
				list, err := indexes(key)
				if err != nil {
					return Errorf(CodeBadRequest, "config.%s.%s.%s: %v", kind.name, role, key, err)
				}
				if i := slices.Max(list); i >= len(nodes) {
					return Errorf(CodeBadRequest,
						"config.%s.%s.%s: index %d is out of range: the role has the indexes 0 to %d",
						kind.name, role, key, i, len(nodes)-1)
				}
			}
		}
	}

	for _, p := range c.Parts() {
		if _, err := c.Resources(p); err != nil {
			return err
		}
	}
	return nil
}

func checkComponent(i int, c Component) error {
	for _, f := range []struct{ name, value string }{
		{"name", c.Name}, {"componentName", c.ComponentName}, {"provider", c.Provider}, {"version",
			c.Version},
	} {
		if err := CheckID(fmt.Sprintf("dag.components[%d].%s", i, f.name), f.value); err != nil {
			return err
		}
	}
	if strings.Contains(c.Name, ".") {
		return Errorf(CodeBadRequest,
			"dag.components[%d].name: %q contains a '.', which separates a task from its output", i, c.Name)
	}
	seen := map[Port]bool{}
	for j, out := range c.Output {
		if err := CheckID(fmt.Sprintf("dag.components[%d].output[%d].key", i, j), out.Key); err != nil {
			return err
		}
		// The type is a part of the output's address.
		if err := CheckID(fmt.Sprintf("dag.components[%d].output[%d].type", i, j), out.Type); err != nil {
			return err
		}
		if seen[out] {
			return Errorf(CodeBadRequest, "dag.components[%d].output[%d]: %s %q is given twice", i, j,
				out.Type, out.Key)
		}
		seen[out] = true
	}
	return nil
}

// Upstreams returns the tasks that feed a component's inputs, without duplicates, in the order of the inputs.
func (c Component) Upstreams() []string {
	var names []string
	for _, in := range c.Input {
		task, _, _ := strings.Cut(in.Key, ".")
		if !slices.Contains(names, task) {
			names = append(names, task)
		}
	}
	return names
}

// Width returns how many of some tasks can run at once at most, counted by their depth in the DAG. The DAG
// must have a [Plan].
func (d *DAG) Width(of func(task string) bool) int {
	upstreams := map[string][]string{}
	for _, c := range d.Components {
		upstreams[c.Name] = c.Upstreams()
	}
	depths := map[string]int{}
	var depth func(task string) int
	depth = func(task string) int {
		if known, is := depths[task]; is {
			return known
		}
		d := 0
		for _, up := range upstreams[task] {
			d = max(d, 1+depth(up))
		}
		depths[task] = d
		return d
	}
	at := map[int]int{}
	width := 0
	for _, c := range d.Components {
		if of(c.Name) {
			at[depth(c.Name)]++
			width = max(width, at[depth(c.Name)])
		}
	}
	return width
}

// topological returns the components in a topological order that stays close to the document's: upstream
// tasks that the document has later are pulled forward.
func topological(components []Component, place map[string]int) ([]int, error) {
	for i, c := range components {
		for j, in := range c.Input {
			field := fmt.Sprintf("dag.components[%d].input[%d]", i, j)
			task, output, ok := strings.Cut(in.Key, ".")
			if !ok || task == "" || output == "" {
				return nil, Errorf(CodeBadRequest, "%s.key: %q is not of the form task.output", field, in.Key)
			}
			from, known := place[task]
			if !known {
				return nil, Errorf(CodeBadRequest, "%s.key: the DAG has no task %q%s", field, task,
					DidYouMean(task, sortedKeys(place)))
			}
			if !slices.ContainsFunc(components[from].Output,
				func(o Port) bool { return o.Key == output && SameFamily(o.Type, in.Type) }) {
				return nil, Errorf(CodeBadRequest, "%s.key: task %q has no %s output %q", field, task,
					in.Type, output)
			}
		}
	}

	// A depth-first search. A task that is found again while it is open closes a cycle.
	const (
		unseen = iota
		open
		done
	)
	var order, path []int
	state := make([]int, len(components))
	var visit func(i int) error
	visit = func(i int) error {
		switch state[i] {
		case done:
			return nil
		case open:
			var names []string
			for _, k := range path[slices.Index(path, i):] {
				names = append(names, components[k].Name)
			}
			if len(names) == 1 {
				return Errorf(CodeBadRequest, "dag.components: task %s depends on itself", names[0])
			}
			return Errorf(CodeBadRequest, "dag.components: the tasks %s form a cycle",
				strings.Join(names, ", "))
		}

		state[i] = open
		path = append(path, i)
		for _, upstream := range components[i].Upstreams() {
			if err := visit(place[upstream]); err != nil {
				return err
			}
		}
		state[i] = done
		path = path[:len(path)-1]
		order = append(order, i)
		return nil
	}
	for i := range components {
		if err := visit(i); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func checkParameters(c *Config, task string, part Part, desc *Description, inputs []Binding) error {
	values, err := c.TaskParameters(task, part)
	if err != nil {
		return err
	}
	for _, p := range desc.InputParam {
		if _, given := values[p.Name]; !given && p.Required() {
			return Errorf(CodeBadRequest,
				"config.task_params: task %s at %s has no parameter %q, which %s requires", task, part.Self(),
				p.Name, desc.ComponentName)
		}
	}
	for _, name := range sortedKeys(values) {
		text, err := ParameterText(values[name])
		if err != nil {
			return PrefixPlace(fmt.Sprintf("config.task_params: task %s at %s: %s", task, part.Self(), name),
				err)
		}
		if strings.ContainsRune(name, '=') || strings.ContainsRune(name, 0) || name == "" {
			return Errorf(CodeBadRequest, "config.task_params: task %s: %q is not a valid parameter name",
				task, name)
		}
		if strings.ContainsRune(text, 0) {
			return Errorf(CodeBadRequest, "config.task_params: task %s at %s: %s contains a NUL character",
				task, part.Self(), name)
		}
		if n := len(envParameter) + len(name) + 1 + len(text); n > MaxParameterBytes {
			return Errorf(CodeTooLarge,
				"config.task_params: task %s at %s: %s takes %d bytes, but an environment variable holds only %d",
				task, part.Self(), name, n, MaxParameterBytes)
		}
	}
	if _, _, err = rootDataset(inputs, values); err == nil {
		_, err = rootModel(inputs, values)
	}
	return prefixedTask(task, part, err)
}

func prefixedTask(task string, part Part, err error) error {
	if err == nil {
		return nil
	}
	return PrefixField(fmt.Sprintf("config.task_params.%s.%d.%s", part.Role, part.Index, task), err)
}
