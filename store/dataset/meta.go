package dataset

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"hutong/bfia"
)

// meta is the parsed meta of an upload.
type meta struct {
	delimiter   rune
	labelName   string
	matchIDName string
	header      []string // only for files without one
	rest        map[string]json.RawMessage
}

// parseMeta parses the field meta of an upload. All its fields have defaults. It keeps unknown ones.
func parseMeta(raw json.RawMessage) (meta, error) {
	m := meta{delimiter: ',', rest: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(raw)) == 0 {
		return m, nil
	}

	if err := json.Unmarshal(raw, &m.rest); err != nil {
		return m, bfia.Errorf(bfia.CodeBadRequest, "meta: is not a JSON object")
	}
	if m.rest == nil { // raw is null
		m.rest = map[string]json.RawMessage{}
	}

	delimiter := ""
	for field, into := range map[string]*string{"delimiter": &delimiter, "label_name": &m.labelName,
		"match_id_name": &m.matchIDName} {

		if err := m.take(field, into); err != nil {
			return m, bfia.Errorf(bfia.CodeBadRequest, "meta.%s: is not a string", field)
		}
	}
	if delimiter == `\t` { // shells do not write a tab easily
		delimiter = "\t"
	}
	if delimiter != "" {
		r, size := utf8.DecodeRuneInString(delimiter)
		if size != len(delimiter) || r == utf8.RuneError || strings.ContainsRune("\"\r\n\x00", r) {
			return m, bfia.Errorf(bfia.CodeBadRequest,
				"meta.delimiter: must be one character, or \\t for a tab, but not a quote, a line end or NUL")
		}
		m.delimiter = r
	}

	var line string
	if m.take("header", &line) == nil {
		if line != "" {
			m.header = strings.Split(line, string(m.delimiter))
		}
	} else if m.take("header", &m.header) != nil {
		return m, bfia.Errorf(bfia.CodeBadRequest, "meta.header: is neither a string nor a list of strings")
	}
	return m, nil
}

// take moves a field from rest to into, which stays unchanged when the field is missing or null.
func (m *meta) take(field string, into any) error {
	raw, ok := m.rest[field]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return err
	}
	delete(m.rest, field)
	return nil
}
