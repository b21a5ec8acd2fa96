package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// printTable prints rows in aligned columns, without borders. A cell of several lines is joined into one
// line.
func printTable(w io.Writer, rows [][]string) error {
	cell := lipgloss.NewStyle().PaddingRight(2)
	t := table.New().
		Border(lipgloss.Border{}).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderHeader(false).BorderColumn(false).BorderRow(false).
		Wrap(false).
		StyleFunc(func(int, int) lipgloss.Style { return cell })

	for _, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			cells[i] = plain(text)
		}
		t.Row(cells...)
	}

	for line := range strings.Lines(t.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}

	return nil
}

// printList prints the table of a command that lists things, with its head. Without any it says so on the
// standard error, so that the table stays the same for programs.
func printList(cmd *cobra.Command, things string, rows [][]string) error {
	if err := printTable(cmd.OutOrStdout(), rows); err != nil || len(rows) > 1 {
		return err
	}
	text := "There are no " + things + ".\n"
	filtered := false
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		filtered = filtered || f.Changed && f.Name != "format" && f.Name != "json"
	})
	if filtered {
		text = "No " + things + " match, or there are none.\n"
	}
	_, err := fmt.Fprint(cmd.ErrOrStderr(), text)
	return err
}

// plain returns text from another party as one printable line. Control characters become spaces, because they
// could move the cursor or change the terminal's state.
func plain(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s))
}

// plainLog removes the colours and control characters of a log line, but keeps tabs and indentation.
func plainLog(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && isControl(r) {
			return -1
		}
		return r
	}, ansi.Strip(s))
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }

func printJSON(w io.Writer, data json.RawMessage) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)

	return e.Encode(data)
}

// clock formats a time in the machine's time zone.
func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}

	return t.Local().Format("2006-01-02 15:04:05")
}

// took formats the time from start to end, or to now if end is not known. It returns "" without a start.
func took(start, end *time.Time, now time.Time) string {
	if start == nil {
		return ""
	}
	if end != nil {
		now = *end
	}

	return duration(now.Sub(*start))
}

// duration formats d in at most six characters: 0.3s, 12.3s, 2m05s, 3h07m, 2d05h. A growing duration never
// switches back to a smaller unit. go-humanize has no format for running clocks.
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

// size formats a number of bytes.
func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
