package bfia

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// fieldNames lists the fields of a JSON object that a party reads, each with the fields of its value. The key
// "*" matches every key of an object and every element of a list. A nil value may have any fields.
type fieldNames map[string]fieldNames

// jobFields lists what a party reads of a job's document.
var jobFields = func() fieldNames {
	params := fieldNames{"sync_type": nil, "priority": nil, "requires": nil,
		"resources": {"cpu": nil, "memory": nil, "disk": nil, "gpu": nil}}
	port := fieldNames{"*": {"type": nil, "key": nil}}
	return fieldNames{
		"job_id": nil, "flow_id": nil, "old_job_id": nil,
		"dag": {
			"version": nil,
			"components": {"*": {"name": nil, "componentName": nil, "provider": nil, "version": nil,
				"input": port, "output": port}},
		},
		"config": {
			"version": nil, "initiator": {"role": nil, "node_id": nil}, "role": nil, "task_params": nil,
			"job_params": {"common": params, "*": {"*": params}},
		},
	}
}()

// UnknownFields warns of the fields of a job's document that no party of Hutong reads. Parties accept them,
// because they may be meant for another vendor's party. More likely they are misspelt.
func UnknownFields(document map[string]json.RawMessage) []Warning {
	raw, err := json.Marshal(document)
	var value any
	if err != nil || json.Unmarshal(raw, &value) != nil {
		return nil
	}
	return jobFields.unknown("", value)
}

// unknown warns of the unknown fields of a value at a path.
func (f fieldNames) unknown(path string, value any) []Warning {
	if f == nil {
		return nil
	}
	var warnings []Warning
	switch value := value.(type) {
	case []any:
		for i, element := range value {
			warnings = append(warnings, f["*"].unknown(path+"["+strconv.Itoa(i)+"]", element)...)
		}
	case map[string]any:
		names := slices.Sorted(maps.Keys(f))
		for _, name := range slices.Sorted(maps.Keys(value)) {
			at := name
			if path != "" {
				at = path + "." + name
			}
			inner, known := f[name]
			if !known {
				inner, known = f["*"]
			}
			if known {
				warnings = append(warnings, inner.unknown(at, value[name])...)
				continue
			}
			hint := DidYouMean(name, names)
			if hint == "" {
				hint = "; known are " + strings.Join(names, ", ")
			}
			warnings = append(warnings, Warning{Field: at, Message: "is not a field of a job and is ignored" +
				hint})
		}
	}
	return warnings
}

// CheckDocument warns of what a job's document has without effect: unknown fields, values that are ignored,
// roles at which no task runs. The document must have a [Plan].
func CheckDocument(doc *Document, plan *Plan) []Warning {
	warnings := UnknownFields(doc.fields)
	for _, field := range doc.repeated {
		warnings = append(warnings, Warning{Field: field,
			Message: "is given more than once; only the last value has an effect"})
	}
	for _, v := range []struct{ field, version string }{{"dag.version", doc.DAG.Version},
		{"config.version", doc.Config.Version}} {
		if major, _, _ := strings.Cut(v.version, "."); v.version != "" && major != "1" && major != "2" {
			warnings = append(warnings, Warning{Field: v.field, Message: "is " +
				strconv.Quote(shorten(v.version, 20)) +
				", but the versions of the format are 1.x and 2.x; the job is read as 2.0"})
		}
	}
	warnings = append(warnings, checkSyncType(doc)...)
	warnings = append(warnings, checkInitiatorRole(&doc.Config)...)

	used := map[string]bool{}
	for _, t := range plan.Tasks {
		for _, p := range t.Parts {
			used[p.Role] = true
		}
	}
	roles := slices.Sorted(maps.Keys(used))
	for _, role := range doc.Config.Roles() {
		if len(doc.Config.Role[role]) == 0 || used[role] {
			continue
		}
		hint := DidYouMean(role, slices.Concat(roles, []string{"guest", "host", "arbiter"}))
		if hint == "" {
			hint = "; they run at " + strings.Join(roles, ", ")
		}
		warnings = append(warnings, Warning{Field: "config.role." + role,
			Message: "no component of the job runs at this role" + hint})
	}
	return warnings
}

// checkInitiatorRole warns of a role that the initiator does not have in the job.
func checkInitiatorRole(c *Config) []Warning {
	role, node := c.Initiator.Role, c.Initiator.NodeID
	if role == "" || slices.Contains(c.Role[role], node) {
		return nil
	}
	var roles []string
	for _, r := range c.Roles() {
		if slices.Contains(c.Role[r], node) {
			roles = append(roles, r)
		}
	}
	has := "; it has no role in this job"
	if len(roles) > 0 {
		has = "; its role is " + strings.Join(roles, ", ")
	}
	return []Warning{{Field: "config.initiator.role", Message: "is " + strconv.Quote(shorten(role, 20)) +
		", but config.role does not list " + node + " there" + has}}
}

func checkSyncType(doc *Document) []Warning {
	raw, given := doc.Config.JobParams.Common["sync_type"]
	if !given || string(raw) == "null" || doc.Config.SyncType() != "" {
		return nil
	}
	text, _ := ParameterText(raw)
	return []Warning{{Field: "config.job_params.common.sync_type", Message: "is " +
		strconv.Quote(shorten(text, 40)) +
		", which is ignored; must be " + SyncCallback + " or " + SyncPoll +
		DidYouMean(text, []string{SyncCallback, SyncPoll})}}
}
