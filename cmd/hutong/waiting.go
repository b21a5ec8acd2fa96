package main

import (
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"hutong/bfia"
)

// maxWaits bounds the reasons that a picture shows.
const maxWaits = 4

// waitLines says why the job and its tasks do not proceed. It leaves out tasks that wait for others, which
// the picture shows.
func waitLines(status *bfia.JobStatus, now time.Time, v view) []line {
	var lines []line
	add := func(who string, w bfia.Waiting) {
		lines = append(lines, wrapped(who+waitText(w, now), v)...)
	}
	groups := taskWaits(status)
	for i, w := range status.Waiting {
		if i == maxWaits {
			add("", bfia.Waiting{Message: "… and more: see --json"})

			break
		}
		add("", w)
	}
	for i, g := range groups {
		if i == maxWaits {
			add("… ", bfia.Waiting{Message: "and more tasks wait: see --json"})

			break
		}
		add(strings.Join(g.tasks, ", ")+" ", g.waiting)
	}

	return lines
}

// waitText returns the reason of a wait with its length: "waits for a slot: …, for 2m05s".
func waitText(w bfia.Waiting, now time.Time) string {
	text := plain(w.Text())
	if !w.Since.IsZero() {
		text += ", for " + duration(now.Sub(w.Since))
	}
	if w.Until != nil {
		text += ", and fails after " + duration(w.Until.Sub(w.Since))
	}

	return text
}

// taskWait is a reason for which several tasks wait.
type taskWait struct {
	tasks   []string
	waiting bfia.Waiting
}

// taskWaits returns why tasks and their parts wait, each reason once, with the longest wait.
func taskWaits(status *bfia.JobStatus) []taskWait {
	var groups []taskWait
	add := func(who string, w *bfia.Waiting) {
		if w == nil || w.Kind == bfia.WaitsForInputs {
			return
		}
		i := slices.IndexFunc(groups, func(g taskWait) bool { return g.waiting.Same(w) })
		if i < 0 {
			groups = append(groups, taskWait{waiting: *w})
			i = len(groups) - 1
		}
		g := &groups[i]
		g.tasks = append(g.tasks, plain(who))
		if w.Since.Before(g.waiting.Since) {
			g.waiting.Since = w.Since
		}
	}
	for _, t := range status.Tasks {
		add(t.Name, t.Waiting)
		for _, p := range t.Parties {
			add(t.Name+" "+partName(p)+" at "+p.NodeID, p.Waiting)
		}
	}
	for i := range groups {
		if more := len(groups[i].tasks) - 3; more > 0 {
			groups[i].tasks = append(groups[i].tasks[:3], "…")
		}
	}

	return groups
}

// wrapped breaks a text into lines that fit the view.
func wrapped(text string, v view) []line {
	var lines []line
	for part := range strings.SplitSeq(ansi.Wrap(text, max(v.width, 1), " "), "\n") {
		lines = append(lines, line{{part, yellow}})
	}

	return lines
}
