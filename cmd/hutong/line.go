package main

import (
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// noLimit is the width of output that is not a terminal.
const noLimit = 1 << 20

// view describes where a job is drawn.
type view struct {
	width  int // columns of the terminal, noLimit without a terminal
	height int // rows of the terminal; 0 means no limit
	colour bool
	note   string // appended to the progress line
}

// The styles of the command line client. Terminals map the 16 ANSI colours to their own theme.
var (
	normal = lipgloss.NewStyle()
	bold   = lipgloss.NewStyle().Bold(true)
	dim    = lipgloss.NewStyle().Faint(true)
	red    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	green  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	yellow = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	blue   = lipgloss.NewStyle().Foreground(lipgloss.Blue)
)

// span is text in one style.
type span struct {
	text  string
	style lipgloss.Style
}

// line is one line of output as a list of spans.
type line []span

func (l *line) add(s lipgloss.Style, text string) { *l = append(*l, span{text, s}) }

// padTo appends spaces up to a column.
func (l *line) padTo(column int) {
	if missing := column - l.width(); missing > 0 {
		l.add(normal, strings.Repeat(" ", missing))
	}
}

func (l line) width() (n int) {
	for _, s := range l {
		n += ansi.StringWidth(s.text)
	}

	return n
}

// render returns the line, cut at the view's width. Without colour it contains no escape sequences and no
// trailing spaces.
func (l line) render(v view) string {
	var out strings.Builder
	for _, s := range l {
		if v.colour && s.text != "" {
			out.WriteString(s.style.TabWidth(lipgloss.NoTabConversion).Render(s.text))
		} else {
			out.WriteString(s.text)
		}
	}

	text := ansi.Truncate(out.String(), v.width, "…")
	if v.colour {
		return text
	}

	return strings.TrimRight(text, " ")
}

// renderAll returns the lines as they are printed without a terminal.
func renderAll(lines []line) string {
	var out strings.Builder
	for _, l := range lines {
		out.WriteString(l.render(view{width: noLimit}) + "\n")
	}

	return out.String()
}
