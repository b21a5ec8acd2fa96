package bfia

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

const (
	// PathAlgorithmQuery is the path on a component's control port that returns its progress (part 3, 3.2.1).
	PathAlgorithmQuery = "/v1/platform/algorithm/task/query"
	// DefaultControlPort is the control port of a component whose environment names none (part 3, 3.3.1).
	DefaultControlPort = 10086
	// maxProgress bounds the characters of a component's progress that are kept.
	maxProgress = 200
)

// TaskQuery is the body of a request to [PathAlgorithmQuery].
type TaskQuery struct {
	TaskID string `json:"task_id"`
}

// TaskAnswer is a component's report of its own task. The specification has status and role; components also
// send a message and their progress, as a fraction, a percentage or a text.
type TaskAnswer struct {
	Status   TaskState
	Role     string
	Progress string
}

// ParseTaskAnswer reads the answer of a component. The fields are at the top level, as in the specification,
// or in data.
func ParseTaskAnswer(body []byte) (*TaskAnswer, error) {
	var object map[string]json.RawMessage
	if err := DecodeJSON(body, &object); err != nil {
		return nil, err
	}
	code := Code(-1)
	if err := DecodeFields(object, Required("code", &code)); err != nil {
		return nil, err
	}
	if code != CodeOK {
		return nil, Errorf(CodeRefused, "code: the component answers %d", int(code))
	}
	var inner map[string]json.RawMessage
	_ = json.Unmarshal(object["data"], &inner) // optional, and of any type
	get := func(names ...string) json.RawMessage {
		for _, name := range names {
			for _, fields := range []map[string]json.RawMessage{object, inner} {
				if raw := fields[name]; len(raw) > 0 && string(raw) != "null" {
					return raw
				}
			}
		}
		return nil
	}
	var a TaskAnswer
	var status string
	if err := DecodeFields(map[string]json.RawMessage{"status": get("status"), "role": orNull(get("role"))},
		Required("status", &status), Optional("role", &a.Role)); err != nil {
		return nil, err
	}
	var err error
	if a.Status, err = ParseTaskState(strings.ToUpper(status)); err != nil {
		return nil, err
	}
	a.Progress = percentage(get("progress"))
	var message string
	if json.Unmarshal(get("message", "msg"), &message) == nil {
		switch strings.ToLower(message) {
		case "", "success", "ok":
		default:
			a.Progress = strings.TrimPrefix(a.Progress+": "+message, ": ")
		}
	}
	a.Progress = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, shorten(a.Progress, maxProgress)), "?")
	return &a, nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// percentage formats a fraction of 1, or a number from 0 to 100, as a percentage. It returns other texts
// unchanged.
func percentage(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	text, err := ParameterText(raw)
	if err != nil {
		return ""
	}
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || n < 0 || n > 100 || math.IsNaN(n):
		return text
	case n <= 1:
		n *= 100
	}
	return strconv.Itoa(int(math.Round(n))) + "%"
}
