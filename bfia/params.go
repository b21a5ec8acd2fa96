package bfia

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxParameterBytes is what one environment variable, name and value, may hold on Linux (128 KiB with its end).
const MaxParameterBytes = 128<<10 - 1

// Params holds job_params or task_params (part 2, 6.6): common values, and values for a role's indexes over them.
// A key of indexes may name several: "0|1".
type Params struct {
	Common map[string]json.RawMessage
	Roles  map[string]map[string]map[string]json.RawMessage
}

// UnmarshalJSON reads the object; all keys but "common" are roles.
func (p *Params) UnmarshalJSON(b []byte) error {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return jsonError(err)
	}
	p.Roles = map[string]map[string]map[string]json.RawMessage{}
	for role, raw := range top {
		if string(raw) == "null" {
			continue
		}
		if role == "common" {
			if err := DecodeJSON(raw, &p.Common); err != nil {
				return prefixed("common", err)
			}
			continue
		}
		var byIndex map[string]map[string]json.RawMessage
		if err := DecodeJSON(raw, &byIndex); err != nil {
			return prefixed(role, err)
		}
		for key := range byIndex {
			if _, err := indexes(key); err != nil {
				return Errorf(CodeBadRequest, "%s.%s: %v", role, key, err)
			}
		}
		p.Roles[role] = byIndex
	}
	return nil
}

func indexes(key string) ([]int, error) {
	var list []int
	for _, s := range strings.Split(key, "|") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("the key is no index such as \"0\" or \"0|1\"")
		}
		list = append(list, n)
	}
	return list, nil
}

// For gives the values of one role and index in the order in which they apply: a later one wins. Keys that name several
// indexes come before the one that names just this.
func (p *Params) For(role string, index int) []map[string]json.RawMessage {
	layers := []map[string]json.RawMessage{p.Common}
	byIndex := p.Roles[role]
	keys := make([]string, 0, len(byIndex))
	for key := range byIndex {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := strings.Count(b, "|") - strings.Count(a, "|"); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, key := range keys {
		if list, err := indexes(key); err == nil && slices.Contains(list, index) {
			layers = append(layers, byIndex[key])
		}
	}
	return layers
}

// TaskParams are the parameters that a job gives one part of one task: common ones, those of the role and index over them.
func (c *Config) TaskParameters(task string, part Part) (map[string]json.RawMessage, error) {
	merged := map[string]json.RawMessage{}
	for i, layer := range c.TaskParams.For(part.Role, part.Index) {
		raw, ok := layer[task]
		if !ok || string(raw) == "null" {
			continue
		}
		var values map[string]json.RawMessage
		if err := DecodeJSON(raw, &values); err != nil {
			where := "config.task_params.common." + task
			if i > 0 {
				where = fmt.Sprintf("config.task_params.%s.%d.%s", part.Role, part.Index, task)
			}
			return nil, prefixed(where, err)
		}
		for k, v := range values {
			merged[k] = v
		}
	}
	return merged, nil
}

// Resources are what a job asks for at one part (part 2, 6.6): -1 or nothing is no limit.
type Resources struct {
	CPU    float64 `json:"cpu"`    // cores
	Memory float64 `json:"memory"` // GiB
	Disk   float64 `json:"disk"`   // GiB
}

// Resources reads job_params.<role>.<n>.resources.
func (c *Config) Resources(part Part) (Resources, error) {
	res := Resources{CPU: -1, Memory: -1, Disk: -1}
	for _, layer := range c.JobParams.For(part.Role, part.Index) {
		raw, ok := layer["resources"]
		if !ok || string(raw) == "null" {
			continue
		}
		if err := DecodeJSON(raw, &res); err != nil {
			return res, prefixed(fmt.Sprintf("config.job_params.%s.%d.resources", part.Role, part.Index), err)
		}
	}
	return res, nil
}

// ParameterText is a parameter's value as a container reads it: strings as they are, all else as JSON in one line, with
// numbers in the spelling they came in (0.0001 stays 0.0001). The JSON has a space after ':' and ',', as FATE-Flow's has,
// so that an image sees the same text from either.
func ParameterText(raw json.RawMessage) (string, error) {
	if len(raw) > 0 && raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", err
		}
		return s, nil
	}
	return spacedJSON(raw), nil
}

// spacedJSON rewrites valid JSON with one space after each separator and none elsewhere.
func spacedJSON(raw []byte) string {
	var b strings.Builder
	inString, escaped := false, false
	for _, c := range raw {
		if inString {
			b.WriteByte(c)
			switch {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = true
			case c == '"':
				inString = false
			}
			continue
		}
		switch c {
		case ' ', '\t', '\n', '\r':
		case ':', ',':
			b.WriteByte(c)
			b.WriteByte(' ')
		default:
			inString = c == '"'
			b.WriteByte(c)
		}
	}
	return b.String()
}
