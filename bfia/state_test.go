package bfia

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var taskStates = []TaskState{TaskPending, TaskReady, TaskRunning, TaskSuccess, TaskFailed}

func TestJobStateNext(t *testing.T) {
	// What may follow what; everything else leaves the state as it is.
	next := map[JobState][]JobState{
		"":          {JobPending, JobReady, JobRejected, JobRunning, JobFinished},
		JobPending:  {JobReady, JobRejected, JobRunning, JobFinished},
		JobReady:    {JobRejected, JobRunning, JobFinished},
		JobRunning:  {JobFinished},
		JobRejected: {},
		JobFinished: {},
	}
	for from, allowed := range next {
		for _, to := range []JobState{"", "SUCCESS", "finished", JobPending, JobReady, JobRejected,
			JobRunning, JobFinished} {
			want := from
			for _, a := range allowed {
				if a == to {
					want = to
				}
			}
			require.Equal(t, want, from.Next(to), "%q after %q", to, from)
		}
		require.Equal(t, from == JobFinished || from == JobRejected, from.Terminal(), "%q", from)
		require.Equal(t, string(from), from.String())
	}
}

func TestTaskStateNext(t *testing.T) {
	next := map[TaskState][]TaskState{
		"":          taskStates,
		TaskPending: {TaskReady, TaskRunning, TaskSuccess, TaskFailed},
		TaskReady:   {TaskRunning, TaskSuccess, TaskFailed},
		TaskRunning: {TaskSuccess, TaskFailed},
		TaskSuccess: {},
		TaskFailed:  {},
	}
	for from, allowed := range next {
		for _, to := range append([]TaskState{"", "FINISHED", "success"}, taskStates...) {
			want := from
			for _, a := range allowed {
				if a == to {
					want = to
				}
			}
			require.Equal(t, want, from.Next(to), "%q after %q", to, from)
		}
		require.Equal(t, from == TaskSuccess || from == TaskFailed, from.Terminal(), "%q", from)
		require.Equal(t, string(from), from.String())
	}
}

func TestParseTaskState(t *testing.T) {
	for _, s := range taskStates {
		for _, spelling := range []string{string(s), strings.ToLower(string(s)), string(s[:1]) +
			strings.ToLower(string(s[1:]))} {
			got, err := ParseTaskState(spelling)
			require.NoError(t, err)
			require.Equal(t, s, got)
			var report TaskReport
			require.NoError(t, DecodeJSON([]byte(`{"status": "`+spelling+`"}`), &report))
			require.Equal(t, s, report.Status)
			var status JobStatus
			require.NoError(t, DecodeJSON([]byte(`{"job_status": "`+strings.ToLower(string(JobFinished))+`"}`),
				&status))
			require.Equal(t, JobFinished, status.State)
		}
	}
	for _, s := range []string{"", "FINISHED", "succeeded", " SUCCESS"} {
		_, err := ParseTaskState(s)
		requireRefusal(t, err, CodeBadRequest,
			fmt.Sprintf("status: %q is none of PENDING, READY, RUNNING, SUCCESS, FAILED", s))
	}
}

// TestMergeTaskStatesExhaustively checks the rule in its inverse form: the worst state of the parts is the
// task's.
func TestMergeTaskStatesExhaustively(t *testing.T) {
	badness := map[TaskState]int{TaskSuccess: 0, TaskPending: 1, TaskReady: 2, TaskRunning: 3, TaskFailed: 4}
	var check func(parts []TaskState, n int)
	checked := 0
	check = func(parts []TaskState, n int) {
		if n == 0 {
			want := TaskSuccess
			for _, p := range parts {
				if badness[p] > badness[want] {
					want = p
				}
			}
			require.Equal(t, want, MergeTaskStates(parts...), "%v", parts)
			checked++
			return
		}
		for _, s := range taskStates {
			check(append(parts[:len(parts):len(parts)], s), n-1)
		}
	}
	for n := 0; n <= 4; n++ {
		check(nil, n)
	}
	require.Equal(t, 1+5+25+125+625, checked)
}

func TestMergeTaskStatesUnknownState(t *testing.T) {
	for _, test := range []struct {
		parts []TaskState
		want  TaskState
	}{
		{[]TaskState{""}, TaskPending},
		{[]TaskState{"WAITING", TaskSuccess}, TaskPending},
		{[]TaskState{"WAITING", TaskReady}, TaskReady},
		{[]TaskState{"WAITING", TaskFailed}, TaskFailed},
	} {
		require.Equal(t, test.want, MergeTaskStates(test.parts...), "%v", test.parts)
	}
}
