package main

import (
	"fmt"
	"strings"
	"time"

	"hutong/bfia"
)

// ended tells whether a job changes no more.
func ended(status *bfia.JobStatus) bool { return status.State.Terminal() }

// succeeded tells whether a job finished and every task went well.
func succeeded(status *bfia.JobStatus) bool {
	if status.State != bfia.JobFinished {
		return false
	}
	for _, t := range status.Tasks {
		if t.State != bfia.TaskSuccess {
			return false
		}
	}
	return len(status.Tasks) > 0
}

// summary tells how a job ended, the reason of a failure first.
func summary(status *bfia.JobStatus, v view) []string {
	var lines []line
	good := 0
	if !succeeded(status) {
		lines = append(lines, explained(status.Failure)...)
	}
	for _, t := range status.Tasks {
		if t.State == bfia.TaskSuccess {
			good++
		}
		lines = append(lines, failures(status.JobID, t, status.Failure)...)
	}
	if reason := plain(status.Reason); reason != "" && !succeeded(status) && len(lines) == 0 {
		lines = append(lines, line{{string(status.State), red}, {"  " + reason, normal}})
	}
	text := fmt.Sprintf("job %s %s", plain(status.JobID), status.State)
	if status.EndedAt != nil && status.CreatedAt != nil {
		text += " in " + took(status.CreatedAt, status.EndedAt, time.Time{})
	}
	if succeeded(status) {
		text += fmt.Sprintf(": all %d tasks SUCCESS. See 'hutong job outputs %s --show'", len(status.Tasks), plain(status.JobID))
		lines = append(lines, line{{text, green}})
	} else {
		text += fmt.Sprintf(": %d of %d tasks SUCCESS", good, len(status.Tasks))
		lines = append(lines, line{{text, red}})
	}
	var out []string
	v.width = noLimit // what went wrong is worth more than one line of the terminal
	for _, l := range lines {
		out = append(out, l.render(v))
	}
	return out
}

// failures tell which part failed and why, and where its log is. Parts that were only stopped because another one failed
// say so in their own reason, and come behind it.
func failures(jobID string, t bfia.TaskStatus, first *bfia.Failure) []line {
	if t.State != bfia.TaskFailed {
		return nil
	}
	var told, rest []line
	for _, p := range t.Parties {
		if p.State != bfia.TaskFailed || first != nil && first.Task == t.Name && first.NodeID == p.NodeID && first.Role == partName(p) {
			continue
		}
		l := line{{"FAILED", red}, {fmt.Sprintf("  %s %s at %s", plain(t.Name), partName(p), plain(p.NodeID)), bold}}
		if reason := plain(p.Reason); reason != "" {
			l.add(normal, ": "+reason)
			told = append(told, l)
		} else {
			rest = append(rest, l)
		}
	}
	lines := append(told, rest...)
	if reason := plain(t.Reason); reason != "" && !strings.Contains(renderAll(lines), reason) && (first == nil || first.Task != t.Name) {
		lines = append([]line{{{"FAILED", red}, {"  " + plain(t.Name), bold}, {": " + reason, normal}}}, lines...)
	}
	if len(lines) == 0 && (first == nil || first.Task != t.Name) {
		lines = []line{{{"FAILED", red}, {"  " + plain(t.Name), bold}}}
	}
	return append(lines, line{{fmt.Sprintf("        its log: hutong job logs %s --task %s", plain(jobID), plain(t.Name)), dim}})
}

// explained is the first thing to know of a job that did not go well: which party's which task, why, the last lines of
// its log, and what to try.
func explained(f *bfia.Failure) []line {
	if f == nil {
		return nil
	}
	title := "FAILED"
	switch f.Kind {
	case bfia.FailedStopped:
		title = "STOPPED"
	case bfia.FailedRejected:
		title = "REJECTED"
	}
	lines := []line{{{title, red}, {"  " + plain(f.String()), bold}}}
	for _, text := range f.Log {
		lines = append(lines, line{{"        | " + plainLog(text), dim}})
	}
	if hint := plain(f.Hint); hint != "" {
		lines = append(lines, line{{"        try: " + hint, normal}})
	}
	return lines
}

