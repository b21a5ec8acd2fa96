package calendar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hutong/bfia"
)

// formats are the names of placeholders, with what they write.
var formats = map[string]func(time.Time) string{
	"date":   func(t time.Time) string { return t.Format(time.DateOnly) },
	"ymd":    func(t time.Time) string { return t.Format("20060102") },
	"year":   func(t time.Time) string { return t.Format("2006") },
	"month":  func(t time.Time) string { return t.Format("2006-01") },
	"ym":     func(t time.Time) string { return t.Format("200601") },
	"hour":   func(t time.Time) string { return t.Format("15") },
	"minute": func(t time.Time) string { return t.Format("04") },
	"time":   func(t time.Time) string { return t.Format(time.RFC3339) },
	"week": func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprintf("%04d-W%02d", year, week)
	},
}

var (
	placeholder = regexp.MustCompile(`\{\{([^{}"]*)\}\}`)
	// inside is what stands between the braces: a name, and how much earlier or later than the run.
	inside = regexp.MustCompile(`^\s*([a-z]+)\s*(?:([+-])\s*([0-9]{1,4})\s*([hdm]))?\s*$`)
)

// HasPlaceholders reports whether a document has anything that [Expand] replaces or refuses.
func HasPlaceholders(document []byte) bool { return bytes.Contains(document, []byte("{{")) }

// Expand returns the document of a run: each placeholder, such as {{date}} or {{ymd-1d}}, in a text of the
// JSON document is replaced by the run's scheduled time in the time zone. An error names the field.
func Expand(document []byte, at time.Time, timezone string) ([]byte, error) {
	if !HasPlaceholders(document) {
		return document, nil
	}
	zone, err := time.LoadLocation(timezone)
	if err != nil {
		return nil, wrong("timezone: %q is not the name of a time zone", timezone)
	}
	var decoded any
	if err := json.Unmarshal(document, &decoded); err != nil {
		return nil, bfia.Wrap(bfia.CodeBadRequest, err, "document: is not JSON: %v", err)
	}
	if err := checkTexts("document", decoded); err != nil {
		return nil, err
	}
	// JSON has two opening braces in a row only in a text, and what replaces them needs no escape.
	at = at.In(zone)
	return placeholder.ReplaceAllFunc(document, func(found []byte) []byte {
		text, err := write(string(found[2:len(found)-2]), at)
		if err != nil {
			return found // checkTexts has found none
		}
		return []byte(text)
	}), nil
}

// checkTexts returns an error for the first text that has something else than known placeholders in double
// braces.
func checkTexts(path string, value any) error {
	switch v := value.(type) {
	case string:
		return checkText(path, v)
	case []any:
		for i, e := range v {
			if err := checkTexts(fmt.Sprintf("%s[%d]", path, i), e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if strings.Contains(name, "{{") {
				return wrong("%s: the name %q of a field can't have a placeholder", path, name)
			}
			if err := checkTexts(path+"."+name, v[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkText(path, text string) error {
	for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
		if _, err := write(found[1], time.Time{}); err != nil {
			return wrong("%s: %s", path, err)
		}
	}
	if strings.Contains(placeholder.ReplaceAllString(text, ""), "{{") {
		return wrong(`%s: "{{" has no "}}" of its own after it`, path)
	}
	return nil
}

// write returns what replaces a placeholder, whose text is given without the braces.
func write(text string, at time.Time) (string, error) {
	part := inside.FindStringSubmatch(text)
	if part == nil {
		return "", fmt.Errorf("{{%s}} is not a placeholder; write one such as {{date}} or {{date-1d}}", text)
	}
	format := formats[part[1]]
	if format == nil {
		return "", fmt.Errorf("{{%s}}: %q is not one of %s", text, part[1],
			strings.Join(slices.Sorted(maps.Keys(formats)), ", "))
	}
	n, _ := strconv.Atoi(part[2] + part[3])
	switch part[4] {
	case "h":
		at = at.Add(time.Duration(n) * time.Hour)
	case "d":
		at = at.AddDate(0, 0, n)
	case "m":
		at = addMonths(at, n)
	}
	return format(at), nil
}

// addMonths adds months. It stays in the month: a month after January the 31st is February the 28th or 29th.
func addMonths(at time.Time, n int) time.Time {
	first := time.Date(at.Year(), at.Month()+time.Month(n), 1, at.Hour(), at.Minute(), at.Second(), 0,
		at.Location())
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(at.Day(), last)-1)
}
