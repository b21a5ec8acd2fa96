package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// cells measures text in a terminal's columns. Characters of ambiguous width, such as the marks and the bar, are narrow:
// that is what terminals do today, also under Chinese locales.
var cells = &runewidth.Condition{}

// printTable prints rows in columns as wide as what is in them. What takes several lines is put on one.
func printTable(w io.Writer, rows [][]string) error {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], cells.StringWidth(plain(cell)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cells.FillRight(plain(cell), widths[i]+2))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// plain makes one printable line of what came from elsewhere: control characters could move a terminal's cursor, or
// worse.
func plain(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s))
}

// plainLog is plain for a line of a log: it keeps what stands before the text, and tabs.
func plainLog(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, s)
}

func printJSON(w io.Writer, data json.RawMessage) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(data)
}

// clock is a time for a person, in the zone of the machine.
func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// took is how long something lasted, or has lasted until now; "" if it has not begun.
func took(start, end *time.Time, now time.Time) string {
	if start == nil {
		return ""
	}
	if end != nil {
		now = *end
	}
	return duration(now.Sub(*start))
}

// duration is short and never jumps between units while it runs: 0.3s, 12.3s, 2m05s, 3h07m, 2d05h.
func duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute-50*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// size is a number of bytes for a person.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.95 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// visible is the width of a text without its styles.
func visible(s string) int { return cells.StringWidth(styles.ReplaceAllString(s, "")) }

var styles = regexp.MustCompile("\x1b\\[[0-9;]*m")
