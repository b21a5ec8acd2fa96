package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
)

// noLimit is a width that is never reached.
const noLimit = 1 << 20

// view is how a job is drawn.
type view struct {
	width  int // columns of the terminal, noLimit if it is none
	height int // its rows; 0 is no limit
	colour bool
	note   string // what the progress line says beside the progress
}

// style is the parameters of an SGR sequence.
type style string

const (
	normal style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	blue   style = "34"
)

type span struct {
	text  string
	style style
}

// line is one line of a picture; its styles take no room.
type line []span

func (l *line) add(s style, text string) { *l = append(*l, span{text, s}) }

// to fills the line with spaces up to a column.
func (l *line) to(column int) {
	if missing := column - l.width(); missing > 0 {
		l.add(normal, strings.Repeat(" ", missing))
	}
}

func (l line) width() (n int) {
	for _, s := range l {
		n += cells.StringWidth(s.text)
	}
	return n
}

// render cuts the line at width and gives it its styles.
func (l line) render(v view) string {
	var out strings.Builder
	cut, left := l.width() > v.width, v.width
	for _, s := range l {
		text := s.text
		if cut && cells.StringWidth(text) >= left {
			text = cells.Truncate(text+"…", left, "…") // at least the mark, also where the text ends just here
		}
		left -= cells.StringWidth(text)
		if v.colour && s.style != normal && text != "" {
			text = "\x1b[" + string(s.style) + "m" + text + "\x1b[0m"
		}
		out.WriteString(text)
		if left <= 0 {
			break
		}
	}
	if v.colour {
		return out.String()
	}
	return strings.TrimRight(out.String(), " ")
}

// mark is a state in one character.
func mark(s bfia.TaskState) (string, style) {
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

// draw is the picture of a job at a moment: a header, a line for each task in the order of the DAG with a cell for each
// part, and the progress. It is no wider than the view, and no higher unless that is less than five lines.
func draw(status *bfia.JobStatus, now time.Time, v view) []string {
	var lines []string
	for _, l := range [][]line{header(status, now), taskLines(status, now, v), {progress(status, v)}} {
		for _, one := range l {
			lines = append(lines, one.render(v))
		}
	}
	return lines
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
	if waits := plain(status.Queued.String()); waits != "" {
		lines = append(lines, line{{waits, jobStyle(status)}})
	}
	return lines
}

func jobStyle(status *bfia.JobStatus) style {
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

// column is one part's: a role at a node.
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

// row is a task where it stands in the DAG.
type row struct {
	task  bfia.TaskStatus
	depth int      // the longest way from a root
	after []string // what it depends on, unless that is just the row above
}

// rows are the tasks in the order of the DAG: what a task depends on stands above it, and it as near below as can be.
func rows(tasks []bfia.TaskStatus) []row {
	byName := map[string]int{}
	for i, t := range tasks {
		byName[t.Name] = i
	}
	depths := make([]int, len(tasks)) // 0: not known yet
	var depth func(int) int
	depth = func(i int) int {
		if depths[i] == 0 {
			depths[i] = 1
			for _, name := range tasks[i].DependsOn {
				if up, ok := byName[name]; ok && up != i {
					depths[i] = max(depths[i], depth(up)+1)
				}
			}
		}
		return depths[i]
	}
	var out []row
	placed := map[string]bool{}
	ready := func(t bfia.TaskStatus) bool {
		return !slices.ContainsFunc(t.DependsOn, func(name string) bool { _, known := byName[name]; return known && !placed[name] })
	}
	place := func(i int) {
		r := row{task: tasks[i], depth: depth(i) - 1}
		if deps := tasks[i].DependsOn; len(deps) > 1 || len(deps) == 1 && (len(out) == 0 || out[len(out)-1].task.Name != deps[0]) {
			r.after = deps
		}
		placed[tasks[i].Name] = true
		out = append(out, r)
	}
	for len(out) < len(tasks) {
		next := -1
		for i, t := range tasks {
			if placed[t.Name] || !ready(t) {
				continue
			}
			follows := len(out) > 0 && slices.Contains(t.DependsOn, out[len(out)-1].task.Name)
			if next < 0 || follows {
				next = i
			}
			if follows {
				break
			}
		}
		if next < 0 { // a circle, or a name twice: no party takes such a job, but a picture must end
			next = slices.IndexFunc(tasks, func(t bfia.TaskStatus) bool { return !placed[t.Name] })
			if next < 0 {
				break
			}
		}
		place(next)
	}
	return out
}

func (r row) name() string {
	indent := min(r.depth, 6)
	if indent == 0 {
		return plain(r.task.Name)
	}
	return strings.Repeat("  ", indent-1) + "└ " + plain(r.task.Name)
}

// cellWidth holds a mark and the longest time, and the shortest useful name of a node.
const cellWidth = 9

func taskLines(status *bfia.JobStatus, now time.Time, v view) []line {
	all := rows(status.Tasks)
	shown, hidden := all, []row(nil)
	if v.height > 0 {
		// Beside the tasks: the header, two lines of heads, the tasks that are hidden, and the progress.
		shown, hidden = fit(all, v.height-len(header(status, now))-4)
	}
	parts := columns(status)
	nameWidth := len("task")
	for _, r := range shown {
		nameWidth = max(nameWidth, cells.StringWidth(r.name()))
	}
	// "✓ name  12.3s  cells": cells have mark and time under whole or shortened names of nodes, else the mark, else there are none.
	const before, timeWidth = 2, 8
	room := v.width - before - timeWidth - 2
	wide, total := cellWidths(parts, true)
	if room-min(nameWidth, 24) < total {
		wide, total = cellWidths(parts, false)
	}
	narrow := room-min(nameWidth, 24) < total
	if narrow {
		total = 2 * len(parts)
	}
	if room-12 < total {
		parts, total = nil, 0
	}
	nameWidth = max(min(nameWidth, room-total), 4)

	var lines []line
	if len(parts) > 0 && !narrow {
		lines = append(lines, columnHeads(parts, wide, before+nameWidth+2+timeWidth)...)
	}
	for _, r := range shown {
		lines = append(lines, taskLine(r, now, parts, wide, narrow, nameWidth, timeWidth))
	}
	if len(hidden) > 0 {
		lines = append(lines, line{{"  … and " + countStates(hidden), dim}})
	}
	return lines
}

func cellWidths(parts []column, wholeNodes bool) (widths []int, total int) {
	for _, p := range parts {
		width := max(cellWidth, cells.StringWidth(p.role))
		if wholeNodes {
			width = max(width, cells.StringWidth(plain(p.node)))
		}
		widths = append(widths, width+2)
		total += width + 2
	}
	return widths, total
}

// shortNode keeps the end of a node's name, which is where names of one numbering differ.
func shortNode(node string, width int) string {
	if node = plain(node); cells.StringWidth(node) > width {
		node = cells.TruncateLeft(node, cells.StringWidth(node)-width+1, "…")
	}
	return node
}

func columnHeads(parts []column, wide []int, from int) []line {
	var roles, nodes line
	roles.to(from)
	nodes.to(from)
	at := from
	for i, p := range parts {
		roles.add(normal, p.role)
		nodes.add(dim, shortNode(p.node, wide[i]-2))
		at += wide[i]
		roles.to(at)
		nodes.to(at)
	}
	return []line{roles, nodes}
}

func taskLine(r row, now time.Time, parts []column, wide []int, narrow bool, nameWidth, timeWidth int) line {
	var l line
	sign, s := mark(r.task.State)
	l.add(s, sign+" ")
	l.add(normal, cells.Truncate(r.name(), nameWidth, "…"))
	l.to(2 + nameWidth + 2)
	l.add(normal, took(r.task.StartedAt, r.task.EndedAt, now))
	at := 2 + nameWidth + 2 + timeWidth
	l.to(at)
	for i, c := range parts {
		if part := slices.IndexFunc(r.task.Parties, func(p bfia.PartStatus) bool { return partName(p) == c.role && p.NodeID == c.node }); part >= 0 {
			p := r.task.Parties[part]
			sign, s := mark(p.State)
			l.add(s, sign)
			if !narrow {
				l.add(normal, " "+took(p.StartedAt, p.EndedAt, now))
			}
		}
		if narrow {
			at += 2
		} else {
			at += wide[i]
		}
		l.to(at)
	}
	var words []string
	if r.task.Attempt > 1 {
		words = append(words, fmt.Sprintf("attempt %d", r.task.Attempt))
	}
	if len(r.after) > 0 {
		words = append(words, "after "+plain(strings.Join(r.after, ", ")))
	}
	for _, p := range r.task.Parties {
		if p.Progress != "" {
			words = append(words, partName(p)+": "+plain(p.Progress))
		}
	}
	if len(words) > 0 {
		l.add(dim, strings.Join(words, "  "))
	}
	return l
}

// fit chooses the rows that are shown where there is not room for all: what runs or failed first, then what comes next,
// then what is done.
func fit(all []row, room int) (shown, hidden []row) {
	if room = max(room, 1); room >= len(all) {
		return all, nil
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	rank := func(i int) int {
		switch all[i].task.State {
		case bfia.TaskFailed, bfia.TaskRunning:
			return 0
		case bfia.TaskSuccess:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(a) - rank(b) })
	chosen := map[int]bool{}
	for _, i := range order[:room] {
		chosen[i] = true
	}
	for i, r := range all {
		if chosen[i] {
			shown = append(shown, r)
		} else {
			hidden = append(hidden, r)
		}
	}
	return shown, hidden
}

// countStates says what tasks are hidden: "12 tasks: 10 SUCCESS, 2 PENDING".
func countStates(hidden []row) string {
	count := map[bfia.TaskState]int{}
	for _, r := range hidden {
		count[r.task.State]++
	}
	var words []string
	for _, s := range []bfia.TaskState{bfia.TaskFailed, bfia.TaskRunning, bfia.TaskReady, bfia.TaskPending, bfia.TaskSuccess} {
		if count[s] > 0 {
			words = append(words, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	return fmt.Sprintf("%d tasks: %s", len(hidden), strings.Join(words, ", "))
}

// progress is the bar of parts that have ended.
func progress(status *bfia.JobStatus, v view) line {
	done, failed, running, total := 0, 0, 0, 0
	for _, t := range status.Tasks {
		for _, p := range t.Parties {
			total++
			switch p.State {
			case bfia.TaskSuccess:
				done++
			case bfia.TaskFailed:
				done++
				failed++
			case bfia.TaskRunning:
				running++
			}
		}
	}
	var l line
	if total > 0 {
		bar := min(30, max(5, v.width/4))
		full := bar * done / total
		colour := green
		if failed > 0 {
			colour = red
		}
		l.add(colour, strings.Repeat("█", full))
		l.add(dim, strings.Repeat("░", bar-full))
		l.add(normal, fmt.Sprintf("  %d of %d parts", done, total))
		if running > 0 {
			l.add(normal, fmt.Sprintf(", %d running", running))
		}
		if failed > 0 {
			l.add(red, fmt.Sprintf(", %d failed", failed))
		}
	} else {
		l.add(dim, "no task has begun")
	}
	if v.note != "" {
		l.add(yellow, "  "+v.note)
	}
	return l
}
