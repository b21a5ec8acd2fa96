package component

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Address names a dataset, a model or a report in the storage.
type Address struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Party is one role at one node in a task, such as guest.0.
type Party struct {
	Role   string
	Index  int
	NodeID string
}

// String returns the role and index as the protocol writes them: guest.0.
func (p Party) String() string { return p.Role + "." + strconv.Itoa(p.Index) }

// Task holds everything that a scheduler passes to a container (API_SPECS, part 3, sections 3.3 and 3.4).
type Task struct {
	Component string // runtime.component.name
	Self      Party  // config.self_role, with its node id
	TaskID    string // config.task_id
	SessionID string // config.session_id
	TraceID   string // config.trace_id
	Token     string // config.token

	Storage     string // system.storage
	Transport   string // system.transport
	Callback    string // system.callback, may be empty
	ControlPort string // system.control_port, for status queries; may be empty

	Parties    map[string]Party   // all roles of the task, by "guest.0"
	Parameters map[string]string  // runtime.component.parameter.<name>
	Inputs     map[string]Address // runtime.component.input.<name>
	Outputs    map[string]Address // runtime.component.output.<name>

	// Missing names the variables that the specification requires and that are absent or empty.
	Missing []string
}

// FromEnviron reads a task from the result of os.Environ. It ignores unknown variables.
//
// It requires the component's name only. Each component checks the variables that it uses, so that a
// component without storage runs without it. If FromEnviron fails, the task still holds the readable
// variables, so that the program can report the failure by callback.
func FromEnviron(environ []string) (Task, error) {
	t := Task{
		Parties:    map[string]Party{},
		Parameters: map[string]string{},
		Inputs:     map[string]Address{},
		Outputs:    map[string]Address{},
	}
	plain := map[string]*string{
		"runtime.component.name": &t.Component,
		"config.task_id":         &t.TaskID,
		"config.session_id":      &t.SessionID,
		"config.trace_id":        &t.TraceID,
		"config.token":           &t.Token,
		"system.storage":         &t.Storage,
		"system.transport":       &t.Transport,
		"system.callback":        &t.Callback,
		"system.control_port":    &t.ControlPort,
	}

	given := map[string]bool{}
	var errs []error
	selfRole := ""
	for _, line := range environ {
		key, value, found := strings.Cut(line, "=")
		if !found {
			continue
		}
		given[key] = value != ""
		if p, ok := plain[key]; ok {
			*p = value
		} else if key == "config.self_role" {
			selfRole = value
		} else {
			errs = append(errs, t.readNamed(key, value))
		}
	}

	if selfRole != "" {
		self, err := parseRole(selfRole)
		if err != nil {
			errs = append(errs, fmt.Errorf("variable config.self_role: %w", err))
		}
		self.NodeID = t.Parties[self.String()].NodeID
		t.Self = self
	}

	if t.Component == "" {
		errs = append(
			errs, errors.New("variable runtime.component.name is missing: it names the component to run"),
		)
	}
	t.Missing = missingVariables(given, t)
	return t, errors.Join(errs...)
}

// readNamed reads a variable whose last part is the name of a party, parameter, input or output. It ignores
// others.
func (t Task) readNamed(key, value string) error {
	if name, ok := strings.CutPrefix(key, "config.node_id."); ok {
		p, err := parseRole(name)
		if err != nil {
			return fmt.Errorf("variable %s: %w", key, err)
		}
		p.NodeID = value
		t.Parties[p.String()] = p
	} else if name, ok := strings.CutPrefix(key, "runtime.component.parameter."); ok {
		t.Parameters[name] = value
	} else if name, ok := strings.CutPrefix(key, "runtime.component.input."); ok {
		return parseAddress(t.Inputs, key, name, value)
	} else if name, ok := strings.CutPrefix(key, "runtime.component.output."); ok {
		return parseAddress(t.Outputs, key, name, value)
	}
	return nil
}

// requiredVariables lists the variables that sections 3.3 and 3.4 call mandatory, except those of the
// parties.
var requiredVariables = []string{"system.storage", "system.callback", "system.transport",
	"config.self_role", "config.task_id", "config.session_id", "config.trace_id", "config.token",
	"config.log.path", "runtime.component.name"}

// missingVariables returns the required variables that have no value.
func missingVariables(given map[string]bool, t Task) (names []string) {
	for _, name := range requiredVariables {
		if !given[name] {
			names = append(names, name)
		}
	}
	parties := slices.Sorted(maps.Keys(t.Parties))
	if self := t.Self.String(); t.Self.Role != "" && !slices.Contains(parties, self) {
		parties = append(parties, self)
	}
	for _, p := range parties {
		for _, kind := range []string{"config.node_id.", "config.inst_id."} {
			if !given[kind+p] {
				names = append(names, kind+p)
			}
		}
	}
	return names
}

// parseRole parses "guest.0". It accepts "guest" for guest.0.
func parseRole(s string) (Party, error) {
	role, index, found := strings.Cut(s, ".")
	if !found {
		index = "0"
	}
	n, err := strconv.Atoi(index)
	if err != nil || n < 0 || role == "" || strings.ContainsAny(role, ", ") {
		return Party{}, fmt.Errorf("%q is not a role and its number, such as guest.0", s)
	}
	return Party{Role: role, Index: n}, nil
}

func parseAddress(into map[string]Address, key, name, value string) error {
	var a Address
	if err := json.Unmarshal([]byte(value), &a); err != nil {
		return fmt.Errorf("variable %s: must be JSON with name and namespace: %w", key, err)
	}
	into[name] = a
	return nil
}

// Input returns an input that the component requires.
func (t Task) Input(name string) (Address, error) {
	a, ok := t.Inputs[name]
	if !ok {
		return Address{}, fmt.Errorf(
			"variable runtime.component.input.%s is missing: component %s requires this input", name,
			t.Component,
		)
	}
	return a, nil
}
