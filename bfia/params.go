package bfia

import (
	"encoding/json"
	"errors"
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

// indexes reads a key such as "0" or "0|1". Only a number's one usual spelling is taken: "01" would name the same index
// as "1", and other vendors would not find it.
func indexes(key string) ([]int, error) {
	var list []int
	for _, s := range strings.Split(key, "|") {
		s = strings.TrimSpace(s)
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || strconv.Itoa(n) != s {
			return nil, errors.New(`the key is no index such as "0" or "0|1"`)
		}
		list = append(list, n)
	}
	return list, nil
}

// layer is the values of one key of [Params], and the place where they stand.
type layer struct {
	place  string // common, guest.0|1
	values map[string]json.RawMessage
}

// layers are the values of one role and index in the order in which they apply.
func (p *Params) layers(role string, index int) []layer {
	list := []layer{{"common", p.Common}}
	byIndex := p.Roles[role]
	keys := sortedKeys(byIndex)
	slices.SortStableFunc(keys, func(a, b string) int { return strings.Count(b, "|") - strings.Count(a, "|") })
	for _, key := range keys {
		if named, err := indexes(key); err == nil && slices.Contains(named, index) {
			list = append(list, layer{role + "." + key, byIndex[key]})
		}
	}
	return list
}

// WithHint gives the values of one role and index in the order in which they apply: a later one wins. The common values come
// first, keys that name more indexes before those that name fewer, so the key that names just this one comes last.
func (p *Params) For(role string, index int) []map[string]json.RawMessage {
	var list []map[string]json.RawMessage
	for _, l := range p.layers(role, index) {
		list = append(list, l.values)
	}
	return list
}

// TaskParameters are the parameters that a job gives one part of one task: common ones, those of the role and index over them.
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

// The values of job_params.common.sync_type (the guide's 2.2; FATE-Flow has it too).
const (
	SyncPoll     = "poll"     // the scheduler asks for a task's state
	SyncCallback = "callback" // the parties tell it
)

// SyncType reads job_params.common.sync_type; empty where it is neither of its values.
func (c *Config) SyncType() string {
	var s string
	if json.Unmarshal(c.JobParams.Common["sync_type"], &s) != nil || s != SyncPoll && s != SyncCallback {
		return ""
	}
	return s
}

// MaxPriority is the highest priority; 0 is the usual one, and the lowest.
const MaxPriority = 9

// Priority reads job_params.common.priority: which of the jobs that wait starts first, from 0 to [MaxPriority].
func (c *Config) Priority() (int, error) {
	p := 0
	if err := DecodeFields(c.JobParams.Common, Optional("priority", &p)); err != nil {
		return 0, PrefixField("config.job_params.common", err)
	}
	return p, PrefixField("config.job_params.common", CheckPriority(p))
}

// CheckPriority refuses what is no priority.
func CheckPriority(p int) error {
	if p < 0 || p > MaxPriority {
		return Errorf(CodeBadRequest, "priority: %d is not between 0 and %d", p, MaxPriority)
	}
	return nil
}

// Resources are what a job asks for at one part (part 2, 6.6): -1, 0 or nothing is no limit.
type Resources struct {
	CPU    float64 `json:"cpu"`    // cores
	Memory float64 `json:"memory"` // GiB
	Disk   float64 `json:"disk"`   // GiB
}

// Resources reads job_params.<role>.<n>.resources.
func (c *Config) Resources(part Part) (Resources, error) {
	res := Resources{CPU: -1, Memory: -1, Disk: -1}
	for _, l := range c.JobParams.layers(part.Role, part.Index) {
		if err := DecodeFields(l.values, Optional("resources", &res)); err != nil {
			return res, PrefixField("config.job_params."+l.place, err)
		}
		if err := res.check(); err != nil {
			return res, PrefixField("config.job_params."+l.place+".resources", err)
		}
	}
	return res, nil
}

// The least and the most that can be asked for. Engines can't hold a container to less; what is more would not fit the
// numbers that hosts count with, and no host has it.
const (
	leastCPU, leastMemory, leastDisk = 0.01, 1.0 / 128, 1.0 / 1024 // cores, GiB
	mostResources                    = 1_000_000
)

func (r Resources) check() error {
	for _, f := range []struct {
		name, unit   string
		value, least float64
	}{{"cpu", "cores", r.CPU, leastCPU}, {"memory", "GiB", r.Memory, leastMemory}, {"disk", "GiB", r.Disk, leastDisk}} {
		switch {
		case f.value == -1, f.value == 0:
		case f.value < 0:
			return Errorf(CodeBadRequest, "%s: is %v; -1 is no limit, all else is at least %v %s", f.name, f.value, f.least, f.unit)
		case f.value < f.least:
			return Errorf(CodeBadRequest, "%s: is %v %s; the least is %v", f.name, f.value, f.unit, f.least)
		case f.value > mostResources:
			return Errorf(CodeBadRequest, "%s: is %v %s; the most is %d", f.name, f.value, f.unit, mostResources)
		}
	}
	return nil
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
