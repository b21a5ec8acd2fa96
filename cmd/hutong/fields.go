package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hutong/bfia"
)

// fields lists the fields of a JSON object that a party reads, each with the fields of its value. The key "*"
// matches every key of an object and every element of a list. A nil value may have any fields.
type fields map[string]fields

// jobFields lists what a party reads of a job's document. Parties accept other fields, because those may be
// meant for another vendor's party. A client's user has more likely misspelt them.
var jobFields = func() fields {
	params := fields{"sync_type": nil, "priority": nil, "resources": {"cpu": nil, "memory": nil, "disk": nil},
		"requires": nil}
	port := fields{"*": {"type": nil, "key": nil}}
	return fields{
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

// unknownFields warns of the fields of a job's document that a party ignores, and of values of sync_type that
// it ignores.
func unknownFields(document map[string]json.RawMessage) []string {
	raw, err := json.Marshal(document)
	var value any
	if err != nil || json.Unmarshal(raw, &value) != nil {
		return nil // the party reports what is wrong with it
	}
	warnings := jobFields.unknown("", value)
	config, _ := value.(map[string]any)["config"].(map[string]any)
	params, _ := config["job_params"].(map[string]any)
	common, _ := params["common"].(map[string]any)
	if sync, ok := common["sync_type"]; ok && sync != bfia.SyncPoll && sync != bfia.SyncCallback {
		warnings = append(warnings, fmt.Sprintf(
			"config.job_params.common.sync_type: is %q, which is ignored; must be %q or %q",
			fmt.Sprint(sync), bfia.SyncCallback, bfia.SyncPoll))
	}
	return warnings
}

// unknown warns of the unknown fields of a value at a path.
func (f fields) unknown(path string, value any) []string {
	if f == nil {
		return nil
	}
	var warnings []string
	switch value := value.(type) {
	case []any:
		for i, element := range value {
			warnings = append(warnings, f["*"].unknown(path+"["+strconv.Itoa(i)+"]", element)...)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			at := name
			if path != "" {
				at = path + "." + name
			}
			inner, known := f[name]
			if !known {
				inner, known = f["*"]
			}
			if !known {
				warnings = append(warnings,
					fmt.Sprintf("%s: is not a field of a job and is ignored; known are %s",
						at, strings.Join(slices.Sorted(maps.Keys(f)), ", ")))
				continue
			}
			warnings = append(warnings, inner.unknown(at, value[name])...)
		}
	}
	return warnings
}
