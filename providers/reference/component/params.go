package component

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Reader reads parameters one by one and keeps the first error. A component reads all of its parameters and
// then checks [Reader.Err] once.
//
// A parameter takes its default if it is absent, empty, or null in the spelling of JSON or Python. Parameters
// that the component does not read are ignored.
type Reader struct {
	values map[string]string
	prefix string // of a parameter inside an object, for messages: "tree_param."
	err    *error
}

// NewReader returns a reader of the parameters of a task.
func NewReader(parameters map[string]string) *Reader {
	return &Reader{values: parameters, err: new(error)}
}

// Err returns the first error. It names the parameter, the problem with its value and what is expected.
func (r *Reader) Err() error { return *r.err }

// Fail records an error in the value of a parameter.
func (r *Reader) Fail(name, format string, args ...any) {
	if *r.err == nil {
		*r.err = fmt.Errorf("parameter %s%s: %s", r.prefix, name, fmt.Sprintf(format, args...))
	}
}

// Has reports whether a parameter has a value.
func (r *Reader) Has(name string) bool {
	_, ok := r.raw(name)
	return ok
}

func (r *Reader) raw(name string) (string, bool) {
	v := strings.TrimSpace(r.values[name])
	switch v {
	case "", "null", "None":
		return "", false
	}
	return v, true
}

// String reads text. It removes the quotes of a value that is a JSON string.
func (r *Reader) String(name, def string) string {
	v, ok := r.raw(name)
	if !ok {
		return def
	}
	return unquote(v)
}

// OneOf reads text that must be one of the allowed values. It ignores case and returns the allowed spelling.
func (r *Reader) OneOf(name, def string, allowed ...string) string {
	v := r.String(name, def)
	for _, a := range allowed {
		if strings.EqualFold(v, a) {
			return a
		}
	}
	r.Fail(name, "%q is not supported; supported: %s", truncate(v), strings.Join(allowed, ", "))
	return def
}

// Int reads a whole number between lowest and highest, both included. It accepts 2.0.
func (r *Reader) Int(name string, def, lowest, highest int) int {
	f := r.Float(name, float64(def), float64(lowest), float64(highest))
	if f != math.Trunc(f) {
		r.Fail(name, "%v is not a whole number", f)
		return def
	}
	return int(f)
}

// Float reads a number between lowest and highest, both included.
func (r *Reader) Float(name string, def, lowest, highest float64) float64 {
	v, ok := r.raw(name)
	if !ok {
		return def
	}
	f, err := strconv.ParseFloat(unquote(v), 64)
	if err != nil || math.IsNaN(f) {
		r.Fail(name, "%q is not a number", truncate(v))
		return def
	}
	if f < lowest || f > highest {
		r.Fail(name, "%v is out of range: from %v to %v", f, lowest, highest)
		return def
	}
	return f
}

// Bool reads true, True, "True", 1 and the corresponding spellings of false.
func (r *Reader) Bool(name string, def bool) bool {
	v, ok := r.raw(name)
	if !ok {
		return def
	}
	switch strings.ToLower(unquote(v)) {
	case "true", "1":
		return true
	case "false", "0":
		return false
	}
	r.Fail(name, "%q is neither true nor false", truncate(v))
	return def
}

// Strings reads a JSON list of strings.
func (r *Reader) Strings(name string, def []string) []string {
	v, ok := r.raw(name)
	if !ok {
		return def
	}
	var list []string
	if err := json.Unmarshal([]byte(v), &list); err != nil {
		r.Fail(name, "not a JSON list of strings")
		return def
	}
	return list
}

// Object returns a reader of the fields of a JSON object. Messages name them as name.field. An absent
// parameter yields an empty object.
func (r *Reader) Object(name string) *Reader {
	inner := &Reader{values: map[string]string{}, prefix: r.prefix + name + ".", err: r.err}
	v, ok := r.raw(name)
	if !ok {
		return inner
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(v), &fields); err != nil {
		r.Fail(name, "not a JSON object")
		return inner
	}
	for key, value := range fields {
		inner.values[key] = string(bytes.TrimSpace(value))
	}
	return inner
}

// IsObject reports whether a parameter's value looks like a JSON object. It serves parameters that may also
// be plain text.
func (r *Reader) IsObject(name string) bool {
	v, _ := r.raw(name)
	return strings.HasPrefix(v, "{")
}

// CheckSubset records an error if a list holds a value that is not allowed.
func (r *Reader) CheckSubset(name string, words, allowed []string) {
	for _, w := range words {
		if !slices.Contains(allowed, w) {
			r.Fail(name, "%q is not supported; supported: %s", truncate(w), strings.Join(allowed, ", "))
		}
	}
}

func unquote(v string) string {
	var s string
	if strings.HasPrefix(v, `"`) && json.Unmarshal([]byte(v), &s) == nil {
		return s
	}
	return v
}

// truncate keeps a message short if somebody passes a whole document in place of a short value.
func truncate(v string) string {
	if r := []rune(v); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return v
}

// Paillier reads an object with the fields method, which must be Paillier, and key_length. It returns the key
// length: an even number of bits from 1024 to 8192.
func (r *Reader) Paillier(name string) (keyBits int) {
	e := r.Object(name)
	e.OneOf("method", "Paillier", "Paillier")
	keyBits = e.Int("key_length", 2048, 0, 1<<20)
	if keyBits < 1024 || keyBits > 8192 || keyBits%2 != 0 {
		e.Fail("key_length",
			"%d is not supported; supported: even numbers from 1024 to 8192; use 2048 or more for real data",
			keyBits)
	}
	return keyBits
}
