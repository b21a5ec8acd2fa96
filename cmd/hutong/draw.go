package main

import (
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
	lines := header(status, now, v)
	lines = append(lines, taskLines(status, now, v)...)
	lines = append(lines, waitLines(status, now, v)...)
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

// header returns the lines above the tasks. The reason of an ended job is left to its summary.
func header(status *bfia.JobStatus, now time.Time, v view) []line {
	var l line
	l.add(bold, "job "+plain(status.JobID))
	l.add(normal, "  ")
	l.add(jobStyle(status), stateOf(status))
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
	if reason := plain(status.Reason); reason != "" && !ended(status) {
		lines = append(lines, wrapped(reason, v)...)
	}

	return lines
}

// stateOf returns the state of a job, or its outcome once it has ended.
func stateOf(status *bfia.JobStatus) string {
	if status.Outcome != "" {
		return string(status.Outcome)
	}

	return string(status.State)
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

func taskLines(status *bfia.JobStatus, now time.Time, v view) []line {
	all := rows(status.Tasks)
	shown, hidden := all, []row(nil)
	if v.height > 0 {
		// The other lines: the header, the column heads, the count of hidden tasks, the waits, and the
		// progress.
		layout := layoutFor(status, all, v)
		others := len(header(status, now, v)) + len(layout.heads(v)) + len(waitLines(status, now, v)) + 2
		limit := v.height - others
		if layout.below && len(all) > 0 {
			limit /= 1 + len(cellLines(all[0], layout, v))
		}
		shown, hidden = selectRows(all, limit)
	}
	layout := layoutFor(status, shown, v)

	lines := layout.heads(v)
	for _, r := range shown {
		lines = append(lines, taskLine(r, now, layout))
		if layout.below {
			lines = append(lines, cellLines(r, layout, v)...)
		}
	}
	if len(hidden) > 0 {
		lines = append(lines, line{{"  … and " + countStates(hidden), dim}})
	}

	return lines
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
		if layout.below {
			break
		}
		if p, found := partOf(r, c); found {
			symbol, style := stateSymbol(p.State)
			l.add(style, symbol)
			if !layout.numbered {
				l.add(normal, " "+took(p.StartedAt, p.EndedAt, now))
			}
		}
		at += layout.widths[i]
		l.padTo(at)
	}

	l.add(dim, strings.Join(remarks(r), "  "))

	return l
}

// partOf returns the part of a task that belongs to a column.
func partOf(r row, c column) (bfia.PartStatus, bool) {
	i := slices.IndexFunc(r.task.Parties, func(p bfia.PartStatus) bool {
		return partName(p) == c.role && p.NodeID == c.node
	})
	if i < 0 {
		return bfia.PartStatus{}, false
	}

	return r.task.Parties[i], true
}

// cellLines returns the cells of a task on lines of their own: "1✓ 2●".
func cellLines(r row, layout layout, v view) []line {
	var lines []line
	current := line{{strings.Repeat(" ", symbolWidth), normal}}
	for i, c := range layout.parts {
		p, found := partOf(r, c)
		if !found {
			continue
		}
		number := fmt.Sprint(i + 1)
		if current.width()+len(number)+2 > v.width && current.width() > symbolWidth {
			lines, current = append(lines, current), line{{strings.Repeat(" ", symbolWidth), normal}}
		}
		symbol, style := stateSymbol(p.State)
		current.add(dim, number)
		current.add(style, symbol+" ")
	}

	return append(lines, current)
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
