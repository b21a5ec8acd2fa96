package main

import (
	"fmt"

	"hutong/bfia"
)

// attemptLines lists the attempts of tasks before the latest: when each ended, after how long, and why.
func attemptLines(status *bfia.JobStatus, v view) []string {
	var out []string
	for _, t := range status.Tasks {
		for i := range t.Attempts {
			l := attemptLine(t.Name, &t.Attempts[i])
			out = append(out, l.render(v))
		}
	}

	return out
}

func attemptLine(task string, a *bfia.AttemptStatus) line {
	l := line{{fmt.Sprintf("%s attempt %d", plain(task), a.Attempt), bold}}
	switch {
	case a.EndedAt == nil:
		l.add(normal, " ended")
	case a.StartedAt == nil:
		l.add(normal, " ended at "+clock(a.EndedAt))
	default:
		l.add(normal, fmt.Sprintf(" ended at %s after %s", clock(a.EndedAt),
			duration(a.EndedAt.Sub(*a.StartedAt))))
	}
	l.add(normal, ": "+plain(attemptEnd(a)))

	return l
}

// attemptEnd returns why an attempt ended. A scheduler of an older version does
// not report to participants why an attempt failed elsewhere.
func attemptEnd(a *bfia.AttemptStatus) string {
	if a.Failure == nil {
		return "failed at another party"
	}

	return a.Failure.NodeID + " (" + a.Failure.Role + "): " + a.Failure.Text()
}
