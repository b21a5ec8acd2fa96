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

// Reader reads parameters one by one and keeps the first thing that was wrong, so that a component reads all of its
// parameters and then asks Err once. A parameter that is absent, empty, or a null in JSON's or Python's
// spelling takes its default. Parameters that nobody asks for are ignored.
type Reader struct {
	values map[string]string
	prefix string // of a parameter inside an object, for messages: "tree_param."
	err    *error
}

// NewReader reads from the parameters of a task.
func NewReader(parameters map[string]string) *Reader {
	return &Reader{values: parameters, err: new(error)}
}

// Err is the first error, naming the parameter, the value's problem and what is expected.
func (r *Reader) Err() error { return *r.err }

// Fail records that a parameter's value can't be used.
func (r *Reader) Fail(name, format string, args ...any) {
	if *r.err == nil {
		*r.err = fmt.Errorf("parameter %s%s: %s", r.prefix, name, fmt.Sprintf(format, args...))
	}
}

// Given tells whether a parameter has a value.
func (r *Reader) Given(name string) bool {
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

// String reads text. A value that is a JSON string loses its quotes.
func (r *Reader) String(name, def string) string {
	v, ok := r.raw(name)
	if !ok {
		return def
	}
	return unquote(v)
}

// OneOf reads text that must be one of the allowed words; case is ignored, the allowed spelling is returned.
func (r *Reader) OneOf(name, def string, allowed ...string) string {
	v := r.String(name, def)
	for _, a := range allowed {
		if strings.EqualFold(v, a) {
			return a
		}
	}
	r.Fail(name, "%q is not supported; supported: %s", clip(v), strings.Join(allowed, ", "))
	return def
}

// Int reads a whole number from min to max; 2.0 is one.
func (r *Reader) Int(name string, def, min, max int) int {
	f := r.Float(name, float64(def), float64(min), float64(max))
	if f != math.Trunc(f) {
		r.Fail(name, "%v is not a whole number", f)
		return def
	}
	return int(f)
}

// Float reads a number from min to max, both included.
func (r *Reader) Float(name string, def, min, max float64) float64 {
	v, ok := r.raw(name)
	if !ok {
		return def
	}
	f, err := strconv.ParseFloat(unquote(v), 64)
	if err != nil || math.IsNaN(f) {
		r.Fail(name, "%q is not a number", clip(v))
		return def
	}
	if f < min || f > max {
		r.Fail(name, "%v is out of range: from %v to %v", f, min, max)
		return def
	}
	return f
}

// Bool reads true, True, "True", 1 and their opposites.
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
	r.Fail(name, "%q is neither true nor false", clip(v))
	return def
}

// Strings reads a JSON list of words.
func (r *Reader) Strings(name string, def []string) []string {
	v, ok := r.raw(name)
	if !ok {
		return def
	}
	var list []string
	if err := json.Unmarshal([]byte(v), &list); err != nil {
		r.Fail(name, "not a JSON list of words")
		return def
	}
	return list
}

// Object reads a JSON object as parameters of its own, named in messages as name.field. Absent is an empty object.
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

// IsObject tells whether a parameter's value looks like a JSON object, for those that may also be a plain word.
func (r *Reader) IsObject(name string) bool {
	v, _ := r.raw(name)
	return strings.HasPrefix(v, "{")
}

// Subset checks that every word of a list is an allowed one.
func (r *Reader) Subset(name string, words, allowed []string) {
	for _, w := range words {
		if !slices.Contains(allowed, w) {
			r.Fail(name, "%q is not supported; supported: %s", clip(w), strings.Join(allowed, ", "))
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

// clip keeps a message short when someone passes a whole document where a word is expected.
func clip(v string) string {
	if r := []rune(v); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return v
}

// Paillier reads an object with the method Paillier and a key_length, and returns the latter: even, from 1024 to 8192 bits.
func (r *Reader) Paillier(name string) (keyBits int) {
	e := r.Object(name)
	e.OneOf("method", "Paillier", "Paillier")
	keyBits = e.Int("key_length", 2048, 0, 1<<20)
	if keyBits < 1024 || keyBits > 8192 || keyBits%2 != 0 {
		e.Fail("key_length", "%d is not supported; supported: even numbers from 1024 to 8192, and 2048 for data that matters", keyBits)
	}
	return keyBits
}
