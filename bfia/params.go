package bfia

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// MaxParameterBytes is the limit of Linux for one environment variable, name and value: 128 KiB with its
// final zero.
const MaxParameterBytes = 128<<10 - 1

// Params holds job_params or task_params (part 2, 6.6): common values, and values for the indexes of a role,
// which override them. One key can name several indexes: "0|1".
type Params struct {
	Common map[string]json.RawMessage
	Roles  map[string]map[string]map[string]json.RawMessage
}

// UnmarshalJSON reads the object. All keys except "common" are roles.
func (p *Params) UnmarshalJSON(b []byte) error {
	var top map[string]json.RawMessage
	if err := DecodeJSON(b, &top); err != nil {
		return err
	}
	p.Common, p.Roles = nil, map[string]map[string]map[string]json.RawMessage{}
	for _, role := range sortedKeys(top) {
		if role == "common" {
			if err := DecodeFields(top, Optional("common", &p.Common)); err != nil {
				return err
			}
			continue
		}
		var byIndex map[string]map[string]json.RawMessage
		if err := DecodeFields(top, Optional(role, MapOf(&byIndex, nil))); err != nil {
			return err
		}
		for _, key := range sortedKeys(byIndex) {
			if _, err := indexes(key); err != nil {
				return Errorf(CodeBadRequest, "%s.%s: %v", role, key, err)
			}
		}
		if byIndex != nil {
			p.Roles[role] = byIndex
		}
	}
	return nil
}

// indexes reads a key such as "0" or "0|1". It accepts only the canonical spelling of a number: "01" would
// name the same index as "1", and other implementations would not find it.
func indexes(key string) ([]int, error) {
	var list []int
	for _, s := range strings.Split(key, "|") {
		s = strings.TrimSpace(s)
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || strconv.Itoa(n) != s {
			return nil, errors.New(`the key must be an index such as "0" or "0|1"`)
		}
		list = append(list, n)
	}
	return list, nil
}

// layer holds the values of one key of [Params] and the key's path.
type layer struct {
	place  string // common, guest.0|1
	values map[string]json.RawMessage
}

// layers returns the values for one role and index. Later layers override earlier ones.
func (p *Params) layers(role string, index int) []layer {
	list := []layer{{"common", p.Common}}
	byIndex := p.Roles[role]
	keys := sortedKeys(byIndex)
	slices.SortStableFunc(keys,
		func(a, b string) int { return strings.Count(b, "|") - strings.Count(a, "|") })
	for _, key := range keys {
		if named, err := indexes(key); err == nil && slices.Contains(named, index) {
			list = append(list, layer{role + "." + key, byIndex[key]})
		}
	}
	return list
}

// For returns the values that apply to one role and index, in the order in which later ones override earlier
// ones: first the common values, then those of keys with several indexes, last those of the key with this
// index alone.
func (p *Params) For(role string, index int) []map[string]json.RawMessage {
	var list []map[string]json.RawMessage
	for _, l := range p.layers(role, index) {
		list = append(list, l.values)
	}
	return list
}

// TaskParameters returns the parameters that a job gives to one part of a task.
func (c *Config) TaskParameters(task string, part Part) (map[string]json.RawMessage, error) {
	merged := map[string]json.RawMessage{}
	for _, l := range c.TaskParams.layers(part.Role, part.Index) {
		var values map[string]json.RawMessage
		if err := DecodeFields(l.values, Optional(task, &values)); err != nil {
			return nil, PrefixField("config.task_params."+l.place, err)
		}
		for k, v := range values {
			merged[k] = v
		}
	}
	return merged, nil
}

// The values of job_params.common.sync_type (guide, 2.2; FATE-Flow has it too).
const (
	SyncPoll     = "poll"     // the scheduler polls the state of a task
	SyncCallback = "callback" // the parties report it
)

// SyncType returns job_params.common.sync_type, or "" for any other value.
func (c *Config) SyncType() string {
	var s string
	if json.Unmarshal(c.JobParams.Common["sync_type"], &s) != nil || s != SyncPoll && s != SyncCallback {
		return ""
	}
	return s
}

// MaxPriority is the highest priority of a job. 0 is the default and the lowest.
const MaxPriority = 9

// Priority returns job_params.common.priority, from 0 to [MaxPriority]. A queued job of a higher priority
// starts first.
func (c *Config) Priority() (int, error) {
	p := 0
	if err := DecodeFields(c.JobParams.Common, Optional("priority", &p)); err != nil {
		return 0, PrefixField("config.job_params.common", err)
	}
	return p, PrefixField("config.job_params.common", CheckPriority(p))
}

// CheckPriority returns an error for a priority that is out of range.
func CheckPriority(p int) error {
	if p < 0 || p > MaxPriority {
		return Errorf(CodeBadRequest, "priority: %d is not between 0 and %d", p, MaxPriority)
	}
	return nil
}

// ParameterText returns a parameter's value as a container reads it: strings unchanged, other values as JSON
// in one line, with the spelling of numbers kept (0.0001 stays 0.0001).
//
// The JSON has a space after ':' and ',', as FATE-Flow's has, so that an image reads the same text from
// either.
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
