package calendar

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestExpand checks what replaces placeholders: the scheduled time in the time zone of the calendar.
func TestExpand(t *testing.T) {
	run := at(t, "2026-12-31T18:05:00Z") // in Shanghai it is the next year
	for text, want := range map[string]string{
		"{{date}}": "2027-01-01", "{{ymd}}": "20270101", "{{month}}": "2027-01", "{{ym}}": "202701",
		"{{year}}": "2027", "{{hour}}": "02", "{{minute}}": "05", "{{time}}": "2027-01-01T02:05:00+08:00",
		"{{week}}": "2026-W53", "{{date-1d}}": "2026-12-31", "{{ date - 1d }}": "2026-12-31",
		"{{ymd+31d}}": "20270201", "{{ym-1m}}": "202612", "{{hour-3h}}": "23", "{{date-3h}}": "2026-12-31",
		"a_{{ymd}}_{{hour}}": "a_20270101_02", "no": "no", "{date}}": "{date}}", "{{{date}}": "{2027-01-01",
	} {
		document, err := json.Marshal(map[string]any{"a": []any{map[string]string{"b": text}}})
		require.NoError(t, err)
		expanded, err := Expand(document, run, "Asia/Shanghai")
		require.NoError(t, err, text)
		assert.JSONEq(t, strings.ReplaceAll(string(document), text, want), string(expanded))
	}
	for day, want := range map[string]string{"2027-01-31T12:00:00Z": "2027-02-28",
		"2028-01-30T12:00:00Z": "2028-02-29", "2026-12-31T12:00:00Z": "2027-01-31"} {
		expanded, err := Expand([]byte(`{"a":"{{date+1m}}"}`), at(t, day), "")
		require.NoError(t, err)
		assert.JSONEq(t, `{"a":"`+want+`"}`, string(expanded))
	}
}

// TestExpandRefuses checks that an error names the field and what is wrong with it.
func TestExpandRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":{"b":["x","{{dte}}"]}}`: `document.a.b[1]: {{dte}}: "dte" is not one of date, hour, minute, month, `,
		`{"a":"{{date-1y}}"}`:         "document.a: {{date-1y}} is not a placeholder; write one such as {{date}}",
		`{"a":"{{}}"}`:                "document.a: {{}} is not a placeholder",
		`{"a":"{{DATE}}"}`:            "document.a: {{DATE}} is not a placeholder",
		`{"a":"{{date"}`:              `document.a: "{{" has no "}}" of its own after it`,
		`{"a":"{{date-99999d}}"}`:     "document.a: {{date-99999d}} is not a placeholder",
		`{"a":{"{{date}}":1}}`:        `document.a: the name "{{date}}" of a field can't have a placeholder`,
		`{{`:                          "document: is not JSON",
	} {
		_, err := Expand([]byte(text), at(t, "2026-12-31T18:05:00Z"), "")
		require.Error(t, err, text)
		assert.Equal(t, bfia.CodeBadRequest, bfia.CodeOf(err))
		assert.Contains(t, bfia.MessageOf(err), want)
	}
	_, err := Expand([]byte(`{"a":"{{date}}"}`), at(t, "2026-12-31T18:05:00Z"), "Nowhere/Town")
	require.Error(t, err)
	assert.Contains(t, bfia.MessageOf(err), "timezone: ")
}
