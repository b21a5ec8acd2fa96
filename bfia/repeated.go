package bfia

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// RepeatedFields returns the paths of the fields that a JSON text has more than once, in order. Readers of
// JSON keep one of the values, so that the others have no effect. It ends at the first syntax error.
func RepeatedFields(text []byte) []string {
	r := repeatedReader{dec: json.NewDecoder(bytes.NewReader(text))}
	r.dec.UseNumber()
	r.value("")
	return r.repeated
}

type repeatedReader struct {
	dec      *json.Decoder
	repeated []string
}

// value reads the value at a path. It reports whether the text could be read.
func (r *repeatedReader) value(path string) bool {
	token, err := r.dec.Token()
	if err != nil {
		return false
	}
	switch token {
	case json.Delim('{'):
		return r.object(path)
	case json.Delim('['):
		for i := 0; r.dec.More(); i++ {
			if !r.value(path + "[" + strconv.Itoa(i) + "]") {
				return false
			}
		}
		_, err = r.dec.Token()
	}
	return err == nil
}

// object reads the fields of an object, after its brace.
func (r *repeatedReader) object(path string) bool {
	seen := map[string]int{}
	for r.dec.More() {
		token, err := r.dec.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return false
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		if seen[name]++; seen[name] == 2 {
			r.repeated = append(r.repeated, at)
		}
		if !r.value(at) {
			return false
		}
	}
	_, err := r.dec.Token()
	return err == nil
}
