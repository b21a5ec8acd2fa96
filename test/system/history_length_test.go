package system

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	temporal "go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/workflows"
)

// The bounds of the reference job at two parties: of the workflow tasks in the histories of its three
// workflows, and of the events that belong to no workflow task and no timer. The first is the worst case, in
// which the reports of two parties do not come together. Usually it is 15. The second is the usual number,
// 65, and some more for records that are written apart. A container that takes long to exit adds one to each.
const (
	maxWorkflowTasks = 17
	maxOtherEvents   = 70
)

// requireShortHistories checks that the reference job needed no more workflow tasks and events than it
// should. It does not judge a job for which the machine was too slow: a command was tried again, or a task
// was polled.
func requireShortHistories(t *testing.T, guest, host *testParty, jobID string) {
	t.Helper()
	events := map[enums.EventType]int{}
	scheduler, participant := workflows.SchedulerJobID(jobID), workflows.ParticipantJobID(jobID)
	started := countEvents(t, guest, scheduler, events)
	started = append(started, countEvents(t, guest, participant, events)...)
	started = append(started, countEvents(t, host, participant, events)...)

	total := 0
	for _, n := range events {
		total += n
	}
	timers := 0
	for _, kind := range []enums.EventType{enums.EVENT_TYPE_TIMER_STARTED, enums.EVENT_TYPE_TIMER_FIRED,
		enums.EVENT_TYPE_TIMER_CANCELED} {
		timers += events[kind]
	}
	tasks := events[enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
	ofTasks := tasks + events[enums.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED] +
		events[enums.EVENT_TYPE_WORKFLOW_TASK_STARTED] + events[enums.EVENT_TYPE_WORKFLOW_TASK_FAILED] +
		events[enums.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT]
	t.Logf("the reference job has %d workflow tasks and %d events: %v", tasks, total, events)
	for _, id := range started {
		if !strings.HasPrefix(id, "run ") {
			t.Logf("not judged, since %q ran as an activity", id)

			return
		}
	}
	require.Len(t, started, 4, "two tasks at two parties")
	late := callbacks(t, guest, participant) + callbacks(t, host, participant)
	for _, party := range []*testParty{guest, host} {
		rows, err := party.database().Tasks(t.Context(), jobID)
		require.NoError(t, err)
		require.Len(t, rows, 2)
		for _, row := range rows {
			require.Equal(t, bfia.TaskSuccess, row.Reported(), "%s waited for its exit", row.Key())
		}
	}
	require.Equal(t, 4, events[enums.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES])
	require.LessOrEqual(t, tasks-events[enums.EVENT_TYPE_TIMER_FIRED], maxWorkflowTasks+late)
	require.LessOrEqual(t, total-ofTasks-timers, maxOtherEvents+late)
}

// countEvents counts the events of a workflow's history by type, and returns the ids of its activities.
func countEvents(t *testing.T, n *testParty, workflowID string, events map[enums.EventType]int,
) (activities []string) {
	t.Helper()
	c, err := temporal.Dial(
		temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace})
	require.NoError(t, err)
	defer c.Close()

	history := c.GetWorkflowHistory(t.Context(), workflowID, "", false,
		enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		require.NoError(t, err)
		events[event.EventType]++
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			activities = append(activities, scheduled.ActivityId)
		}
	}

	return activities
}

// callbacks counts the callbacks of containers in the history of a job at a participant: each is of a
// container that did not exit soon.
func callbacks(t *testing.T, n *testParty, workflowID string) (count int) {
	t.Helper()
	c, err := temporal.Dial(
		temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace})
	require.NoError(t, err)
	defer c.Close()

	history := c.GetWorkflowHistory(t.Context(), workflowID, "", false,
		enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		require.NoError(t, err)
		signaled := event.GetWorkflowExecutionSignaledEventAttributes()
		if signaled.GetSignalName() == workflows.SignalTaskCallback {
			count++
		}
	}

	return count
}
