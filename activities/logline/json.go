package logline

import (
	"encoding/json"
	"strconv"
	"strings"
)

// jsonKeys lists the keys in which loggers write the level of a JSON line, in lower case, in order of
// preference. The value says how a number is read; nil: as that of Bunyan, pino, syslog or Logback.
var jsonKeys = []struct {
	name   string
	number func(int) (Level, bool)
}{
	{"level", nil}, {"severity", nil}, {"levelname", nil}, {"lvl", nil}, {"log_level", nil}, {"loglevel",
		nil},
	{"log.level", nil}, {"@level", nil}, {"severity_text", nil}, {"severitytext", nil}, {"level_name", nil},
	{"levelno", pythonLevel}, {"severity_number", otelLevel}, {"severitynumber", otelLevel}, {"priority",
		nil},
	{"@l", nil}, {"l", nil}, {"s", nil},
}

// faultKeys lists keys whose value is the stack of an exception.
var faultKeys = []string{"exc_info", "exception", "stack_trace", "stacktrace", "error.stack_trace", "stack",
	"traceback"}

// jsonLevel returns the level of a JSON object. ok is false if the text is none. An object without a level
// is [Info], or [Error] if it has the stack of an exception.
func jsonLevel(text string) (level Level, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil || len(fields) == 0 {
		return 0, false
	}
	if level, found := fieldsLevel(fields); found {
		return level, true
	}
	// Elastic's schema and loguru nest the level in one more object.
	for _, name := range []string{"log", "record"} {
		var nested map[string]json.RawMessage
		if json.Unmarshal(fields[name], &nested) == nil {
			if level, found := fieldsLevel(nested); found {
				return level, true
			}
		}
	}
	for _, name := range faultKeys {
		if raw := fields[name]; len(raw) > 8 && raw[0] == '"' {
			return Error, true
		}
	}
	return Info, true
}

// fieldsLevel returns the level that an object's fields hold.
func fieldsLevel(fields map[string]json.RawMessage) (Level, bool) {
	for _, key := range jsonKeys {
		raw, ok := fields[key.name]
		if !ok {
			raw = fieldOfAnyCase(fields, key.name)
		}
		if level, ok := valueLevel(raw, key.number); ok {
			return level, true
		}
	}
	return 0, false
}

func fieldOfAnyCase(fields map[string]json.RawMessage, name string) json.RawMessage {
	for key, raw := range fields {
		if len(key) == len(name) && strings.EqualFold(key, name) {
			return raw
		}
	}
	return nil
}

// valueLevel reads a level from a string, a number or, as loguru writes it, an object with a name.
func valueLevel(raw json.RawMessage, number func(int) (Level, bool)) (Level, bool) {
	if len(raw) == 0 || len(raw) > 1<<10 {
		return 0, false
	}
	if number == nil {
		number = numberLevel
	}
	word := string(raw)
	switch raw[0] {
	case '"':
		if json.Unmarshal(raw, &word) != nil {
			return 0, false
		}
		word = strings.TrimSpace(word)
		if level, ok := ParseLevel(word); ok {
			return level, true
		}
		if len(word) == 1 && !isDigit(word[0]) {
			return letterLevel(word[0] &^ 0x20)
		}
	case '{':
		var object struct{ Name string }
		if json.Unmarshal(raw, &object) != nil {
			return 0, false
		}
		return ParseLevel(object.Name)
	}
	if n, err := strconv.Atoi(word); err == nil {
		return number(n)
	}
	return 0, false
}
