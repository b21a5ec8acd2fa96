package store

import (
	"strings"
	"time"
	"unicode/utf8"

	"hutong/bfia"
)

// MaxReason is how many bytes of a reason are kept.
const MaxReason = 4 << 10

// stamp is a time as both databases keep it.
func truncateTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// stamps puts every time that is set into that form, in place. (A driver hands out times in its session's zone.)
func truncateTimes(times ...*time.Time) {
	for _, t := range times {
		if t != nil {
			*t = truncateTime(*t)
		}
	}
}

// timeOrNow is t, or the present when t is not set.
func timeOrNow(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Now()
	}
	return truncateTime(t)
}

// cleanReason makes a reason that both databases take: valid UTF-8 without NUL, at most [MaxReason] bytes.
func cleanReason(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) <= MaxReason {
		return s
	}
	const more = " …"
	cut := MaxReason - len(more)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// checkText refuses what PostgreSQL can't keep as text; fields and values alternate. Both databases then refuse the same.
func checkText(fieldsAndValues ...string) error {
	for i := 0; i+1 < len(fieldsAndValues); i += 2 {
		if v := fieldsAndValues[i+1]; !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
			return bfia.Errorf(bfia.CodeBadRequest, "%s: is not UTF-8 text without NUL", fieldsAndValues[i])
		}
	}
	return nil
}

var (
	jobStates  = []bfia.JobState{bfia.JobPending, bfia.JobReady, bfia.JobRunning, bfia.JobRejected, bfia.JobFinished}
	taskStates = []bfia.TaskState{bfia.TaskPending, bfia.TaskReady, bfia.TaskRunning, bfia.TaskSuccess, bfia.TaskFailed}
)

// jobStatesBefore are the states from which a job may move to s. None for an unknown word.
func jobStatesBefore(s bfia.JobState) []bfia.JobState {
	var before []bfia.JobState
	for _, from := range jobStates {
		if from != s && from.Next(s) == s {
			before = append(before, from)
		}
	}
	return before
}

// taskStatesBefore are the states from which a task may move to s. None for an unknown word.
func taskStatesBefore(s bfia.TaskState) []bfia.TaskState {
	var before []bfia.TaskState
	for _, from := range taskStates {
		if from != s && from.Next(s) == s {
			before = append(before, from)
		}
	}
	return before
}

func checkJobState(s bfia.JobState) error {
	for _, known := range jobStates {
		if s == known {
			return nil
		}
	}
	return bfia.Errorf(bfia.CodeBadRequest, "state: %q is no state of a job", s)
}

func checkTaskState(s bfia.TaskState) error {
	_, err := bfia.ParseTaskState(string(s))
	return err
}
