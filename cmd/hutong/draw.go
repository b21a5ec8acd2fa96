package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"hutong/bfia"
)

// draw returns a picture of a job: a header, a line for each task in topological order with a cell for each
// part, and a progress bar. It fits the width of the view, and its height if that is at least five lines.
func draw(status *bfia.JobStatus, now time.Time, v view) []string {
	lines := header(status, now)
	lines = append(lines, taskLines(status, now, v)...)
	lines = append(lines, progress(status, v))

	var out []string
	for _, l := range lines {
		out = append(out, l.render(v))
	}

	return out
}

// stateSymbol returns a character for a task's state, and its style.
func stateSymbol(s bfia.TaskState) (string, lipgloss.Style) {
	switch s {
	case bfia.TaskSuccess:
		return "✓", green
	case bfia.TaskFailed:
		return "✗", red
	case bfia.TaskRunning:
		return "●", blue
	case bfia.TaskReady:
		return "○", normal
	}

	return "·", dim
}

func header(status *bfia.JobStatus, now time.Time) []line {
	var l line
	l.add(bold, "job "+plain(status.JobID))
	l.add(normal, "  ")
	l.add(jobStyle(status), string(status.State))
	if elapsed := took(status.CreatedAt, status.EndedAt, now); elapsed != "" {
		l.add(normal, "  "+elapsed)
	}
	if status.FlowID != "" {
		l.add(dim, "  flow "+plain(status.FlowID))
	}
	if status.Scheduler != "" {
		l.add(dim, "  scheduler "+plain(status.Scheduler))
	}

	lines := []line{l}
	if reason := plain(status.Reason); reason != "" {
		lines = append(lines, line{{reason, jobStyle(status)}})
	}
	if queued := plain(status.Queued.String()); queued != "" {
		lines = append(lines, line{{queued, jobStyle(status)}})
	}

	return lines
}

func jobStyle(status *bfia.JobStatus) lipgloss.Style {
	switch {
	case succeeded(status):
		return green
	case ended(status):
		return red
	case status.State == bfia.JobRunning:
		return blue
	}

	return yellow
}

// column identifies the column of a part: a role at a party.
type column struct {
	role, node string
}

func columns(status *bfia.JobStatus) []column {
	var found []column
	for _, t := range status.Tasks {
		for _, p := range t.Parties {
			c := column{partName(p), p.NodeID}
			if !slices.Contains(found, c) {
				found = append(found, c)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b column) int {
		return cmp.Or(roleRank(a.role)-roleRank(b.role), strings.Compare(a.role, b.role))
	})

	return found
}

func partName(p bfia.PartStatus) string { return bfia.Part{Role: p.Role, Index: p.Index}.Self() }

func roleRank(role string) int {
	for i, first := range []string{"guest", "host", "arbiter"} {
		if strings.HasPrefix(role, first+".") {
			return i
		}
	}

	return 3
}

const (
	symbolWidth = 2 // the state's symbol and a space
	timeWidth   = 8
	gapWidth    = 2
	// cellWidth holds a symbol and the longest duration, and a shortened node id that can still be
	// recognised.
	cellWidth = 9
	// minNameWidth is the width of a task's name below which the parts' cells lose their durations.
	minNameWidth = 24
)

// layout holds the widths of a picture: "✓ name  12.3s  cells".
type layout struct {
	parts  []column
	widths []int // of the parts' cells
	narrow bool  // cells show a symbol only
	name   int
}

// layoutFor chooses the most detailed layout that fits: cells with durations below whole node ids, below
// shortened node ids, symbols only, no cells.
func layoutFor(status *bfia.JobStatus, shown []row, v view) layout {
	l := layout{parts: columns(status), name: len("task")}
	for _, r := range shown {
		l.name = max(l.name, ansi.StringWidth(r.name()))
	}

	available := v.width - symbolWidth - timeWidth - gapWidth
	forCells := available - min(l.name, minNameWidth)

	var total int
	if l.widths, total = cellWidths(l.parts, true); forCells < total {
		l.widths, total = cellWidths(l.parts, false)
	}
	if l.narrow = forCells < total; l.narrow {
		total = 2 * len(l.parts)
		for i := range l.widths {
			l.widths[i] = 2
		}
	}
	if available-12 < total {
		l.parts, total = nil, 0
	}
	l.name = max(min(l.name, available-total), 4)

	return l
}

// cellsAt returns the column in which the parts' cells start.
func (l layout) cellsAt() int { return symbolWidth + l.name + gapWidth + timeWidth }

func cellWidths(parts []column, wholeNodes bool) (widths []int, total int) {
	for _, p := range parts {
		width := max(cellWidth, ansi.StringWidth(p.role))
		if wholeNodes {
			width = max(width, ansi.StringWidth(plain(p.node)))
		}
		widths = append(widths, width+gapWidth)
		total += width + gapWidth
	}

	return widths, total
}

func taskLines(status *bfia.JobStatus, now time.Time, v view) []line {
	all := rows(status.Tasks)
	shown, hidden := all, []row(nil)
	if v.height > 0 {
		// The other lines: the header, two column heads, the count of hidden tasks, and the progress.
		shown, hidden = selectRows(all, v.height-len(header(status, now))-4)
	}
	layout := layoutFor(status, shown, v)

	var lines []line
	if len(layout.parts) > 0 && !layout.narrow {
		lines = append(lines, columnHeads(layout)...)
	}
	for _, r := range shown {
		lines = append(lines, taskLine(r, now, layout))
	}
	if len(hidden) > 0 {
		lines = append(lines, line{{"  … and " + countStates(hidden), dim}})
	}

	return lines
}

func columnHeads(layout layout) []line {
	var roles, nodes line
	at := layout.cellsAt()
	roles.padTo(at)
	nodes.padTo(at)
	for i, p := range layout.parts {
		roles.add(normal, p.role)
		nodes.add(dim, shortNode(p.node, layout.widths[i]-gapWidth))
		at += layout.widths[i]
		roles.padTo(at)
		nodes.padTo(at)
	}

	return []line{roles, nodes}
}

// shortNode keeps the end of a node id, because the ids of one numbering scheme differ there.
func shortNode(node string, width int) string {
	if node = plain(node); ansi.StringWidth(node) > width {
		node = ansi.TruncateLeft(node, ansi.StringWidth(node)-width+1, "…")
	}

	return node
}

func taskLine(r row, now time.Time, layout layout) line {
	var l line
	symbol, style := stateSymbol(r.task.State)
	l.add(style, symbol)
	l.padTo(symbolWidth)
	l.add(normal, ansi.Truncate(r.name(), layout.name, "…"))
	l.padTo(symbolWidth + layout.name + gapWidth)
	l.add(normal, took(r.task.StartedAt, r.task.EndedAt, now))

	at := layout.cellsAt()
	l.padTo(at)
	for i, c := range layout.parts {
		part := slices.IndexFunc(r.task.Parties, func(p bfia.PartStatus) bool {
			return partName(p) == c.role && p.NodeID == c.node
		})
		if part >= 0 {
			p := r.task.Parties[part]
			symbol, style := stateSymbol(p.State)
			l.add(style, symbol)
			if !layout.narrow {
				l.add(normal, " "+took(p.StartedAt, p.EndedAt, now))
			}
		}
		at += layout.widths[i]
		l.padTo(at)
	}

	l.add(dim, strings.Join(remarks(r), "  "))

	return l
}

// remarks returns what a task's line shows behind its cells: the attempt, the dependencies, and reported
// progress.
func remarks(r row) []string {
	var out []string
	if r.task.Attempt > 1 {
		out = append(out, fmt.Sprintf("attempt %d", r.task.Attempt))
	}
	if len(r.after) > 0 {
		out = append(out, "after "+plain(strings.Join(r.after, ", ")))
	}
	for _, p := range r.task.Parties {
		if p.Progress != "" {
			out = append(out, partName(p)+": "+plain(p.Progress))
		}
	}

	return out
}

// progress returns the progress bar, which counts the parts that have ended.
func progress(status *bfia.JobStatus, v view) line {
	ended, failed, running, total := 0, 0, 0, 0
	for _, t := range status.Tasks {
		for _, p := range t.Parties {
			total++
			switch p.State {
			case bfia.TaskSuccess:
				ended++
			case bfia.TaskFailed:
				ended++
				failed++
			case bfia.TaskRunning:
				running++
			}
		}
	}

	var l line
	if total > 0 {
		bar := min(30, max(5, v.width/4))
		full := bar * ended / total
		style := green
		if failed > 0 {
			style = red
		}
		l.add(style, strings.Repeat("█", full))
		l.add(dim, strings.Repeat("░", bar-full))
		l.add(normal, fmt.Sprintf("  %d of %d parts", ended, total))
		if running > 0 {
			l.add(normal, fmt.Sprintf(", %d running", running))
		}
		if failed > 0 {
			l.add(red, fmt.Sprintf(", %d failed", failed))
		}
	} else {
		l.add(dim, "no task has started")
	}
	if v.note != "" {
		l.add(yellow, "  "+v.note)
	}

	return l
}
