package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"hutong/bfia"
)

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
	// leastNameWidth is the width of a task's name below which the cells get lines of their own.
	leastNameWidth = 8
)

// layout holds the widths of a picture: "✓ name  12.3s  cells".
type layout struct {
	parts  []column
	nodes  []string // whole or shortened; they differ if the node ids do
	widths []int    // of the parts' cells
	// numbered: the heads are numbers, which a legend explains, and the cells show a symbol only.
	numbered bool
	// below: the cells are on lines of their own, below the task.
	below bool
	name  int
}

// layoutFor chooses the most detailed layout that fits: cells with durations below whole node ids, below
// shortened node ids, symbols below numbers, symbols on lines of their own.
func layoutFor(status *bfia.JobStatus, shown []row, v view) layout {
	l := layout{parts: columns(status), name: len("task")}
	for _, r := range shown {
		l.name = max(l.name, ansi.StringWidth(r.name()))
	}
	for _, p := range l.parts {
		l.nodes = append(l.nodes, plain(p.node))
	}

	available := v.width - symbolWidth - timeWidth - gapWidth
	forCells := available - min(l.name, minNameWidth)
	total := l.fitCells()
	if short, distinct := shortenNodes(l.nodes, cellWidth); forCells < total && distinct {
		whole := l.nodes
		l.nodes = short
		if total = l.fitCells(); forCells < total {
			l.nodes = whole
		}
	}
	if forCells < total {
		l.numbered = true
		width := len(fmt.Sprint(len(l.parts))) + 1
		for i := range l.widths {
			l.widths[i] = width
		}
		total = width * len(l.parts)
	}
	if l.numbered && available-min(l.name, leastNameWidth) < total {
		l.below, total = true, 0
	}
	l.name = max(min(l.name, available-total), 4)

	return l
}

// cellsAt returns the column in which the parts' cells start.
func (l layout) cellsAt() int { return symbolWidth + l.name + gapWidth + timeWidth }

// fitCells sets the widths of the cells to those of their heads, and returns the sum.
func (l *layout) fitCells() (total int) {
	l.widths = nil
	for i, p := range l.parts {
		width := max(cellWidth, ansi.StringWidth(p.role), ansi.StringWidth(l.nodes[i])) + gapWidth
		l.widths = append(l.widths, width)
		total += width
	}

	return total
}

// heads returns the lines above the tasks: the role and the node of each column, or their numbers with a
// legend.
func (l layout) heads(v view) []line {
	if len(l.parts) == 0 {
		return nil
	}
	if l.numbered {
		return l.legend(v)
	}

	var roles, nodes line
	at := l.cellsAt()
	roles.padTo(at)
	nodes.padTo(at)
	for i, p := range l.parts {
		roles.add(normal, p.role)
		nodes.add(dim, l.nodes[i])
		at += l.widths[i]
		roles.padTo(at)
		nodes.padTo(at)
	}

	return []line{roles, nodes}
}

// legend explains the numbers of the columns, and heads the columns with them.
func (l layout) legend(v view) []line {
	nodes, longest := l.nodes, 0
	for i, p := range l.parts {
		longest = max(longest, ansi.StringWidth(fmt.Sprintf("%d %s ", i+1, p.role)))
	}
	if short, distinct := shortenNodes(nodes, max(v.width-longest, 2)); distinct {
		nodes = short
	}

	var lines []line
	var current line
	for i, p := range l.parts {
		entry := fmt.Sprintf("%d %s %s", i+1, p.role, nodes[i])
		if len(current) > 0 && current.width()+gapWidth+ansi.StringWidth(entry) > v.width {
			lines, current = append(lines, current), nil
		}
		if len(current) > 0 {
			current.add(normal, strings.Repeat(" ", gapWidth))
		}
		current.add(dim, entry)
	}
	lines = append(lines, current)
	if l.below {
		return lines
	}

	var numbers line
	at := l.cellsAt()
	numbers.padTo(at)
	for i := range l.parts {
		numbers.add(normal, fmt.Sprint(i+1))
		at += l.widths[i]
		numbers.padTo(at)
	}

	return append(lines, numbers)
}

// shortenNodes shortens node ids to a width so that they differ, and reports whether it can. It prefers to
// keep their ends, because the ids of one numbering scheme differ there.
func shortenNodes(nodes []string, width int) (short []string, distinct bool) {
	distinctNodes := slices.Compact(slices.Sorted(slices.Values(nodes)))
	for head := range width {
		short = nil
		seen := map[string]bool{}
		for _, node := range distinctNodes {
			seen[shortenNode(node, head, width)] = true
		}
		if len(seen) < len(distinctNodes) {
			continue
		}
		for _, node := range nodes {
			short = append(short, shortenNode(node, head, width))
		}

		return short, true
	}

	return nil, false
}

// shortenNode keeps the first columns of a node id, as many as head, and its end.
func shortenNode(node string, head, width int) string {
	whole := ansi.StringWidth(node)
	if whole <= width {
		return node
	}
	tail := width - 1 - head

	return ansi.Truncate(node, head, "") + "…" + ansi.TruncateLeft(node, whole-tail, "")
}
