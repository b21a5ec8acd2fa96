package bfia

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// datasetParam is the parameter that names the dataset of a part that no other task feeds.
const datasetParam = "dataset_id"

// Warning is a parameter that contradicts its component's self-description, or a field of the document that
// has no effect.
//
// Published descriptions contradict published jobs. A parameter's warning therefore refuses a job only at a
// party that is configured as strict, and the parameter reaches the component as the job has it.
type Warning struct {
	Field     string `json:"field,omitempty"` // the field's path; then Task, Role and Parameter are empty
	Task      string `json:"task,omitempty"`
	Role      string `json:"role,omitempty"` // guest.0, or several: guest.0, host.0
	Parameter string `json:"parameter,omitempty"`
	Message   string `json:"message"`
}

// String returns the warning as one sentence.
func (w Warning) String() string {
	if w.Field != "" {
		return w.Field + ": " + w.Message
	}
	return fmt.Sprintf("task %s at %s: parameter %s %s", w.Task, w.Role, w.Parameter, w.Message)
}

// RefuseWarnings returns the error with which a strict party refuses a job, or nil if there are no warnings.
func RefuseWarnings(warnings []Warning) error {
	if len(warnings) == 0 {
		return nil
	}
	more := ""
	if n := len(warnings) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return Errorf(CodeBadRequest, "config.task_params: %s%s", warnings[0], more)
}

// CheckParameters compares the parameters of a job with the self-descriptions of its components: types,
// bindingData, validator and dependsOn (part 2, 6.5).
//
// It also warns of a part whose dataset nothing names. It ignores a parameter that the description does not
// have, unless the name seems to be a misspelt one. With a node it checks that node's parts only; an empty
// node checks all. The document must have a [Plan].
func CheckParameters(doc *Document, plan *Plan, describe Describe, node string) ([]Warning, error) {
	var warnings []Warning
	for _, t := range plan.Tasks {
		desc, err := describe(t.Provider, t.Version, t.Component)
		if err != nil {
			return nil, PrefixPlace("task "+t.Name, err)
		}
		first := len(warnings)
		warn := func(part Part, parameter, message string) {
			// Roles with the same problem share one warning.
			same := slices.IndexFunc(warnings[first:],
				func(w Warning) bool { return w.Parameter == parameter && w.Message == message })
			if same >= 0 {
				warnings[first+same].Role += ", " + part.Self()
				return
			}
			warnings = append(warnings,
				Warning{Task: t.Name, Role: part.Self(), Parameter: parameter, Message: message})
		}
		for _, part := range t.Parts {
			if node != "" && part.NodeID != node {
				continue
			}
			values, err := doc.Config.TaskParameters(t.Name, part)
			if err != nil {
				return nil, err
			}
			for _, p := range desc.InputParam {
				raw, given := values[p.Name]
				if !given {
					continue
				}
				if message := p.contradiction(raw, desc, values); message != "" {
					warn(part, p.Name, message)
				}
			}
			port, err := missingDataset(doc, t.Name, desc, part, values)
			if err != nil {
				return nil, PrefixPlace("task "+t.Name, err)
			}
			meantDataset := false
			for _, name := range sortedKeys(values) {
				meant := desc.misspelt(name, values)
				if port != "" && desc.meansDataset(name, values[name]) {
					meant, meantDataset = datasetParam, true
				}
				if meant != "" {
					warn(part, name, "is not in the component's description; did you mean "+meant+"?")
				}
			}
			if port != "" && !meantDataset {
				warn(part, datasetParam, "is not given, and no other task feeds the component's input "+port+
					"; add it, with the value namespace#name")
			}
		}
	}
	return warnings, nil
}

// misspelt returns the described parameter that a name resembles, or "". Names that resemble none pass:
// components may read parameters that their descriptions omit.
func (d *Description) misspelt(name string, values map[string]json.RawMessage) string {
	var missing []string
	for _, p := range d.InputParam {
		if p.Name == name {
			return ""
		}
		if _, given := values[p.Name]; !given {
			missing = append(missing, p.Name)
		}
	}
	return Closest(name, missing)
}

// missingDataset returns the dataset input of a part that neither another task nor a parameter feeds, or "".
// A task that another one feeds with a dataset may leave its further inputs empty, and an arbiter has no
// data.
func missingDataset(doc *Document, task string, desc *Description, part Part,
	values map[string]json.RawMessage) (string, error) {
	c, ok := doc.DAG.component(task)
	if !ok || part.Role == "arbiter" {
		return "", nil
	}
	inputs, err := BindInputs(c, desc, true)
	if err != nil {
		return "", err
	}
	port := ""
	for _, in := range inputs {
		if in.Key != "" && familyOf(in.Type) == familyData {
			return "", nil
		}
		if in.IsRootDataset() {
			port = in.Port
		}
	}
	if named, _, err := rootDataset(inputs, values); named != nil || err != nil {
		return "", nil // the check of the dataset itself refuses a wrong value
	}
	return port, nil
}

// meansDataset reports whether a parameter that the description does not have is a misspelt dataset_id, by
// its name or by a value of the form namespace#name.
func (d *Description) meansDataset(name string, raw json.RawMessage) bool {
	described := slices.ContainsFunc(d.InputParam, func(p InputParam) bool { return p.Name == name })
	if described || name == datasetParam {
		return false
	}
	if DidYouMean(name, []string{datasetParam}) != "" {
		return true
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return false
	}
	namespace, dataset, _ := strings.Cut(text, "#")
	return CheckID("", namespace) == nil && CheckID("", dataset) == nil
}

// contradiction returns how a value contradicts the description, or "" if it does not.
func (p *InputParam) contradiction(raw json.RawMessage, desc *Description,
	values map[string]json.RawMessage) string {
	text, err := ParameterText(raw)
	if err != nil {
		return "can't be read"
	}
	choices := p.choices()
	chosen := isChoice(raw, text, choices)
	if !chosen { // a choice may contradict the type: an integer that can be "all"
		if expected := expectedType(p.Type, raw, text); expected != "" {
			return fmt.Sprintf("is %s, must be %s (type %s)", quoteValue(raw), expected, p.Type)
		}
		if len(choices) > 0 {
			return fmt.Sprintf("is %s, must be one of its bindingData: %s", quoteValue(raw),
				strings.Join(choices, ", "))
		}
	}
	if rule := parseValidator(p.Validator); rule != nil && !rule.allows(text) {
		return fmt.Sprintf("is %s, which its validator %s does not allow", quoteValue(raw),
			shorten(string(p.Validator), 100))
	}
	return p.unmet(desc, values)
}

// expectedType returns what a type expects of a value that does not fit it, or "" if the value fits.
//
// It checks the value's text, since that is what a component reads: "5" fits as 5 does. It accepts every
// value for a type that the specification does not name.
func expectedType(typ string, raw json.RawMessage, text string) string {
	kind := kindOf(raw)
	inner := kind
	if kind == "a string" && json.Valid([]byte(text)) {
		inner = kindOf(json.RawMessage(strings.TrimSpace(text)))
	}
	number, isNumber := numberOf(text)
	switch strings.ToLower(typ) {
	case "string", "str":
		if kind == "an object" || kind == "a list" || kind == "null" {
			return "a string"
		}
	case "integer":
		if kind != "null" && !(isNumber && number.IsInt()) {
			return "a whole number or null"
		}
	case "int":
		if !isNumber || !number.IsInt() {
			return "a whole number"
		}
	case "float", "number", "double":
		if !isNumber {
			return "a number"
		}
	case "boolean", "bool":
		if text != "true" && text != "false" {
			return "true or false"
		}
	case "object":
		if inner != "an object" && inner != "a list" {
			return "an object or a list"
		}
	}
	return ""
}

// kindOf returns the kind of a JSON value.
func kindOf(raw json.RawMessage) string {
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return "null"
	case raw[0] == '"':
		return "a string"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "a list"
	case raw[0] == 't' || raw[0] == 'f':
		return "a boolean"
	}
	return "a number"
}

// quoteValue returns a value for a message: shortened, and objects and lists as their kind.
func quoteValue(raw json.RawMessage) string {
	switch kind := kindOf(raw); kind {
	case "an object", "a list", "null":
		return kind
	}
	return shorten(string(raw), 60)
}

func shorten(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// choices returns the values of bindingData, which is a list of {label, value} or a string that contains one.
// Only a user interface can evaluate a call_function, so it offers no choices.
func (p *InputParam) choices() []string {
	raw := p.BindingData
	var held string
	if json.Unmarshal(raw, &held) == nil {
		raw = []byte(held)
	}
	var list []struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	var choices []string
	for _, entry := range list {
		if len(entry.Value) == 0 {
			continue
		}
		if text, err := ParameterText(entry.Value); err == nil {
			choices = append(choices, text)
		}
	}
	return choices
}

// isChoice reports whether a value is one of the choices, or a list of some of them.
func isChoice(raw json.RawMessage, text string, choices []string) bool {
	if slices.Contains(choices, text) {
		return true
	}
	var several []json.RawMessage
	if len(choices) == 0 || json.Unmarshal(raw, &several) != nil || len(several) == 0 {
		return false
	}
	return !slices.ContainsFunc(several, func(one json.RawMessage) bool {
		text, err := ParameterText(one)
		return err != nil || !slices.Contains(choices, text)
	})
}

// unmet returns the condition of dependsOn that a given parameter does not meet, or "".
//
// An entry of dependsOn is "parameter.value" or "parameter". One of the entries must hold, by the job's value
// or by the other parameter's default.
func (p *InputParam) unmet(desc *Description, values map[string]json.RawMessage) string {
	var conditions []string
	for _, entry := range stringList(p.DependsOn) {
		// Names can contain dots: the longest name of a parameter counts.
		name, value, ok := entry, "", slices.ContainsFunc(desc.InputParam,
			func(q InputParam) bool { return q.Name == entry })
		at := strings.LastIndexByte(entry, '.')
		for ; !ok && at > 0; at = strings.LastIndexByte(entry[:at], '.') {
			if slices.ContainsFunc(desc.InputParam, func(q InputParam) bool { return q.Name == entry[:at] }) {
				name, value, ok = entry[:at], entry[at+1:], true
			}
		}
		if !ok {
			return "" // it depends on a parameter that the description does not have
		}
		raw := values[name]
		if raw == nil {
			i := slices.IndexFunc(desc.InputParam, func(q InputParam) bool { return q.Name == name })
			raw = desc.InputParam[i].DefaultValue
		}
		text := ""
		if len(raw) > 0 && string(raw) != "null" {
			text, _ = ParameterText(raw)
		}
		if value == "" && strings.TrimSpace(text) != "" || value != "" && text == value {
			return ""
		}
		if value != "" {
			name += " = " + value
		}
		conditions = append(conditions, name)
	}
	if len(conditions) == 0 {
		return ""
	}
	return "is given, but only has an effect with " + strings.Join(conditions, " or ")
}

// stringList reads a list of strings or a single string. It drops empty strings.
func stringList(raw json.RawMessage) []string {
	var one string
	list := []string{}
	if json.Unmarshal(raw, &one) == nil {
		list = []string{one}
		if trimmed := bytes.TrimSpace([]byte(one)); len(trimmed) > 0 && trimmed[0] == '[' {
			var held []string
			if json.Unmarshal(trimmed, &held) == nil {
				list = held
			}
		}
	} else if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(word string) bool { return strings.TrimSpace(word) == "" })
}
