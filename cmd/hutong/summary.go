package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hutong/bfia"
)

// ended reports whether a job is in a terminal state.
func ended(status *bfia.JobStatus) bool { return status.State.Terminal() }

// succeeded reports whether a job finished and every task succeeded.
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

// summary describes how a job ended, with the reason of a failure first.
func summary(status *bfia.JobStatus, v view) []string {
	var lines []line
	good := 0
	if !succeeded(status) {
		lines = append(lines, failureLines(status.Failure)...)
	}
	for _, t := range status.Tasks {
		if t.State == bfia.TaskSuccess {
			good++
		}
		lines = append(lines, failedParts(status.JobID, t, status.Failure)...)
	}
	if reason := plain(status.Reason); reason != "" && !succeeded(status) && len(lines) == 0 {
		lines = append(lines, line{{stateOf(status), red}, {"  " + reason, normal}})
	}
	text := fmt.Sprintf("job %s %s", plain(status.JobID), stateOf(status))
	if status.EndedAt != nil && status.CreatedAt != nil {
		text += " in " + took(status.CreatedAt, status.EndedAt, time.Time{})
	}
	if succeeded(status) {
		all := fmt.Sprintf("all %d tasks", len(status.Tasks))
		if len(status.Tasks) == 1 {
			all = "1 task"
		}
		text += fmt.Sprintf(": %s SUCCESS. See 'hutong job outputs %s --show'", all, plain(status.JobID))
		lines = append(lines, line{{text, green}})
	} else {
		text += fmt.Sprintf(": %d of %d tasks SUCCESS", good, len(status.Tasks))
		lines = append(lines, line{{text, red}})
	}
	var out []string
	v.width = noLimit // the terminal wraps long reasons instead of cutting them
	for _, l := range lines {
		out = append(out, l.render(v))
	}
	return out
}

// failedParts lists the parts of a task that failed, with their reasons, and the command that prints the log.
// Parts without a reason come last. It skips the part that the job's failure already describes, and those
// that were only stopped for it.
func failedParts(jobID string, t bfia.TaskStatus, first *bfia.Failure) []line {
	stopped := func(p bfia.PartStatus) bool {
		return p.State != bfia.TaskFailed || p.Failure != nil && p.Failure.Kind == bfia.FailedStopped
	}
	allStopped := len(t.Parties) > 0 &&
		!slices.ContainsFunc(t.Parties, func(p bfia.PartStatus) bool { return !stopped(p) })
	if t.State != bfia.TaskFailed || first != nil && allStopped {
		return nil
	}
	var withReason, rest []line
	for _, p := range t.Parties {
		isFirst := first != nil && first.Task == t.Name && first.NodeID == p.NodeID &&
			first.Role == partName(p)
		if p.State != bfia.TaskFailed || isFirst || first != nil && stopped(p) {
			continue
		}
		l := line{
			{"FAILED", red},
			{fmt.Sprintf("  %s %s at %s", plain(t.Name), partName(p), plain(p.NodeID)), bold},
		}
		if reason := plain(p.Reason); reason != "" {
			l.add(normal, ": "+reason)
			withReason = append(withReason, l)
		} else {
			rest = append(rest, l)
		}
	}
	lines := append(withReason, rest...)
	described := first != nil && first.Task == t.Name
	if reason := plain(t.Reason); reason != "" && !strings.Contains(renderAll(lines), reason) && !described {
		lines = append([]line{{{"FAILED", red}, {"  " + plain(t.Name), bold}, {": " + reason, normal}}},
			lines...)
	}
	if len(lines) == 0 && !described {
		lines = []line{{{"FAILED", red}, {"  " + plain(t.Name), bold}}}
	}
	hint := fmt.Sprintf("        this party's log: hutong job logs %s --task %s", plain(jobID), plain(t.Name))

	return append(lines, line{{hint, dim}})
}

// failureLines describes a job's failure: the party and the task, the reason, the last lines of the log, and
// what to try.
func failureLines(f *bfia.Failure) []line {
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
