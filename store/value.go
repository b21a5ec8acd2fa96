package store

import (
	"strings"
	"time"
	"unicode/utf8"

	"hutong/bfia"
)

// MaxReason is the maximal length of a reason in bytes.
const MaxReason = 4 << 10

// normalizeTime returns a time as both databases store it.
func normalizeTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// normalizeTimes does the same to all times that are set, in place. (Drivers return times in the zone of
// their session.)
func normalizeTimes(times ...*time.Time) {
	for _, t := range times {
		if t != nil {
			*t = normalizeTime(*t)
		}
	}
}

// timeOrNow returns t, or the current time if t is not set.
func timeOrNow(t time.Time) time.Time {
	if t.IsZero() {
		t = time.Now()
	}
	return normalizeTime(t)
}

// cleanReason makes a reason acceptable for both databases: valid UTF-8 without NUL, at most [MaxReason]
// bytes.
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

// checkText refuses text that PostgreSQL can't store, so that both databases refuse the same. Fields and
// values alternate.
func checkText(fieldsAndValues ...string) error {
	for i := 0; i+1 < len(fieldsAndValues); i += 2 {
		if v := fieldsAndValues[i+1]; !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
			return bfia.Errorf(bfia.CodeBadRequest, "%s: is not UTF-8 text without NUL", fieldsAndValues[i])
		}
	}
	return nil
}

var (
	jobStates = []bfia.JobState{
		bfia.JobPending,
		bfia.JobReady,
		bfia.JobRunning,
		bfia.JobRejected,
		bfia.JobFinished,
	}
	taskStates = []bfia.TaskState{
		bfia.TaskPending,
		bfia.TaskReady,
		bfia.TaskRunning,
		bfia.TaskSuccess,
		bfia.TaskFailed,
	}
)

// jobStatesBefore returns the states from which a job may move to s; none for an unknown state.
func jobStatesBefore(s bfia.JobState) []bfia.JobState {
	var before []bfia.JobState
	for _, from := range jobStates {
		if from != s && from.Next(s) == s {
			before = append(before, from)
		}
	}
	return before
}

// taskStatesBefore returns the states from which a task may move to s; none for an unknown state.
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
	return bfia.Errorf(bfia.CodeBadRequest, "state: %q is not a state of a job", s)
}

func checkTaskState(s bfia.TaskState) error {
	_, err := bfia.ParseTaskState(string(s))
	return err
}
