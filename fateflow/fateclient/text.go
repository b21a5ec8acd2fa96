package fateclient

import (
	"bytes"
	"encoding/json"

	"hutong/bfia"
)

// text is a string, or a number as it was written: in YAML, ids and versions often lack their quotes.
type text string

// UnmarshalJSON reads a string or a number.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	var n json.Number
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	switch {
	case json.Unmarshal(b, &s) == nil:
		*t = text(s)
	case len(b) > 0 && b[0] != '"' && dec.Decode(&n) == nil:
		*t = text(n)
	default:
		return bfia.Errorf(bfia.CodeBadRequest, "body: must be a string or a number")
	}
	return nil
}

// texts is a list of [text], or a single one.
type texts []string

// UnmarshalJSON reads a list or a single value.
func (t *texts) UnmarshalJSON(b []byte) error {
	list := make([]text, 1)
	var err error
	if len(b) > 0 && b[0] == '[' {
		err = bfia.ListOf(&list)(b)
	} else {
		err = bfia.DecodeJSON(b, &list[0])
	}
	*t = make(texts, 0, len(list))
	for _, one := range list {
		*t = append(*t, string(one))
	}
	return err
}
