package fateflow

import (
	"bytes"
	"encoding/json"

	"hutong/bfia"
)

// Text is a string, or a number as it was written: in YAML, ids and versions often lack their quotes.
type Text string

// UnmarshalJSON reads a string or a number.
func (t *Text) UnmarshalJSON(b []byte) error {
	var s string
	var n json.Number
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	switch {
	case json.Unmarshal(b, &s) == nil:
		*t = Text(s)
	case len(b) > 0 && b[0] != '"' && dec.Decode(&n) == nil:
		*t = Text(n)
	default:
		return bfia.Errorf(bfia.CodeBadRequest, "body: must be a string or a number")
	}
	return nil
}

// Texts is a list of [Text], or a single one.
type Texts []string

// UnmarshalJSON reads a list or a single value.
func (t *Texts) UnmarshalJSON(b []byte) error {
	list := make([]Text, 1)
	var err error
	if len(b) > 0 && b[0] == '[' {
		err = bfia.ListOf(&list)(b)
	} else {
		err = bfia.DecodeJSON(b, &list[0])
	}
	*t = make(Texts, 0, len(list))
	for _, one := range list {
		*t = append(*t, string(one))
	}
	return err
}
