package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(seconds float64) *time.Time {
	t := noon.Add(time.Duration(seconds * float64(time.Second)))
	return &t
}

func part(node, role string, index int, state bfia.TaskState, start, end *time.Time) bfia.PartStatus {
	return bfia.PartStatus{
		NodeID:    node,
		Role:      role,
		Index:     index,
		State:     state,
		StartedAt: start,
		EndedAt:   end,
	}
}

const guestNode, hostNode = "JG0100001100000010", "JG0110017800000000"

// twoTasks returns the reference job while its second task runs.
func twoTasks() *bfia.JobStatus {
	return &bfia.JobStatus{
		JobID:     "202601021200000000001",
		FlowID:    "F1",
		State:     bfia.JobRunning,
		Scheduler: guestNode,
		CreatedAt: at(0),
		StartedAt: at(0.2),
		Tasks: []bfia.TaskStatus{
			{
				TaskID:    "t1",
				Name:      "intersect_rsa_1",
				State:     bfia.TaskSuccess,
				StartedAt: at(0.3),
				EndedAt:   at(1.5),
				Parties: []bfia.PartStatus{
					part(guestNode, "guest", 0, bfia.TaskSuccess, at(0.3),
						at(1.5)), part(hostNode, "host", 0, bfia.TaskSuccess, at(0.4), at(1.4))},
			},
			{
				TaskID:    "t2",
				Name:      "hetero_secureboost_1",
				State:     bfia.TaskRunning,
				DependsOn: []string{"intersect_rsa_1"},
				StartedAt: at(1.6),
				Parties: []bfia.PartStatus{
					part(guestNode, "guest", 0, bfia.TaskRunning, at(1.6),
						nil), part(hostNode, "host", 0, bfia.TaskReady, nil, nil)},
			},
		},
	}
}

// failedJob returns the reference job after its second task failed at the host.
func failedJob() *bfia.JobStatus {
	s := twoTasks()
	s.State, s.EndedAt, s.Reason = bfia.JobFinished, at(70), "task hetero_secureboost_1 failed"
	t := &s.Tasks[1]
	t.State, t.EndedAt = bfia.TaskFailed, at(69)
	t.Parties[0].State, t.Parties[0].EndedAt = bfia.TaskFailed, at(69)
	t.Parties[1] = part(hostNode, "host", 0, bfia.TaskFailed, at(1.7), at(68))
	t.Parties[1].Reason = "exit code 1: no column \x1b[2J\"标签\""
	return s
}

// diamond returns a job at three parties whose tasks are not in topological order.
func diamond() *bfia.JobStatus {
	s := &bfia.JobStatus{JobID: "D", State: bfia.JobRunning, CreatedAt: at(0)}
	for _, t := range []struct {
		name string
		deps []string
	}{{"evaluate", []string{"left", "right"}}, {"right", []string{"read"}}, {"left", []string{"read"}},
		{"read", nil}, {"other", nil}} {
		s.Tasks = append(
			s.Tasks,
			bfia.TaskStatus{
				Name:      t.name,
				DependsOn: t.deps,
				State:     bfia.TaskPending,
				Parties: []bfia.PartStatus{
					part("A", "arbiter", 0, bfia.TaskPending, nil,
						nil), part("H10", "host", 10, bfia.TaskPending, nil, nil),
					part("G", "guest", 0, bfia.TaskPending, nil, nil)},
			},
		)
	}
	return s
}

func many(n int) *bfia.JobStatus {
	s := &bfia.JobStatus{JobID: "M", State: bfia.JobRunning, CreatedAt: at(0)}
	for i := range n {
		state := bfia.TaskPending
		switch {
		case i < n/2:
			state = bfia.TaskSuccess
		case i == n/2:
			state = bfia.TaskRunning
		}
		s.Tasks = append(
			s.Tasks,
			bfia.TaskStatus{
				Name:    fmt.Sprintf("task_%d", i),
				State:   state,
				Parties: []bfia.PartStatus{part("G", "guest", 0, state, nil, nil)},
			},
		)
	}
	return s
}

// manyParties returns the reference job with several hosts, whose node ids differ in the middle.
func manyParties(n int) *bfia.JobStatus {
	s := twoTasks()
	for i := range s.Tasks {
		t := &s.Tasks[i]
		host := t.Parties[1]
		for k := 1; k < n-1; k++ {
			host.Index, host.NodeID = k, fmt.Sprintf("JG0110%02d7800000000", 20+k)
			t.Parties = append(t.Parties, host)
		}
	}

	return s
}

// waitingJob returns a job whose tasks and parts wait for different things.
func waitingJob() *bfia.JobStatus {
	s := manyParties(3)
	slot := bfia.WaitForSlot(hostNode, 1, *at(3))
	for _, name := range []string{"evaluate_1", "evaluate_2"} {
		waiting := slot
		s.Tasks = append(s.Tasks, bfia.TaskStatus{Name: name, State: bfia.TaskReady, Waiting: &waiting,
			DependsOn: []string{"intersect_rsa_1"}, Parties: []bfia.PartStatus{
				part(guestNode, "guest", 0, bfia.TaskReady, nil, nil),
				part(hostNode, "host", 0, bfia.TaskReady, nil, nil)}})
	}
	s.Tasks[1].Parties[1].Waiting = &bfia.Waiting{Kind: bfia.WaitsForRunner, NodeID: hostNode, Since: *at(2),
		Message: "waits for a runner: runner r1 is offline, and no other runner is online"}
	s.Waiting = []bfia.Waiting{bfia.WaitForApproval(s.JobID, hostNode, *at(1))}

	return s
}

// golden compares text with a file. With HUTONG_GOLDEN=write it writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("HUTONG_GOLDEN") == "write" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

func TestDraw(t *testing.T) {
	now := noon.Add(12300 * time.Millisecond)
	for _, c := range []struct {
		name   string
		status *bfia.JobStatus
		view   view
	}{
		{"wide", twoTasks(), view{width: 100}},
		{"shortened", twoTasks(), view{width: 70}},
		{"narrow", twoTasks(), view{width: 50}},
		{"tiny", twoTasks(), view{width: 20}},
		{"colour", twoTasks(), view{width: 80, colour: true, note: "no answer for 3.0s, retrying"}},
		{"failed", failedJob(), view{width: 90}},
		{"diamond", diamond(), view{width: 90}},
		{"three", manyParties(3), view{width: 79}},
		{"six", manyParties(6), view{width: 79}},
		{"twelve", manyParties(12), view{width: 79}},
		{"twelve_tiny", manyParties(12), view{width: 30}},
		{"waiting", waitingJob(), view{width: 79}},
		{"low", many(40), view{width: 60, height: 12}},
		{"new", &bfia.JobStatus{JobID: "N", State: bfia.JobPending, CreatedAt: at(12)}, view{width: 60}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := draw(c.status, now, c.view)
			golden(t, "draw_"+c.name+".txt", strings.Join(lines, "\n")+"\n")
		})
	}
}

// TestDrawFits checks that the picture fits a terminal of any size.
func TestDrawFits(t *testing.T) {
	for _, status := range []*bfia.JobStatus{
		twoTasks(), failedJob(), diamond(), many(100), {}, manyParties(3), manyParties(12), waitingJob(),
	} {
		for width := 1; width < 130; width++ {
			for _, height := range []int{0, 7, 10, 24} {
				for _, colour := range []bool{false, true} {
					lines := draw(status, noon,
						view{width: width, height: height, colour: colour, note: "no answer"})
					for _, l := range lines {
						require.LessOrEqual(t, ansi.StringWidth(l), width, "%q", l)
					}
					v := view{width: width}
					heads := layoutFor(status, rows(status.Tasks), v).heads(v)
					if height > 0 && (len(heads) > 2 || width < 8) {
						continue // the legend may need more lines than there are
					}
					if height > 0 && status.Reason == "" && len(status.Waiting) == 0 {
						require.LessOrEqual(t, len(lines), height)
					}
				}
			}
		}
	}
}

// TestRowsOfBrokenDAG checks that sorting ends for a DAG that no party accepts.
func TestRowsOfBrokenDAG(t *testing.T) {
	tasks := []bfia.TaskStatus{
		{Name: "a", DependsOn: []string{"b"}},
		{Name: "b", DependsOn: []string{"a"}},
		{Name: "a"},
		{Name: "c", DependsOn: []string{"c", "nobody"}},
	}
	done := make(chan []row, 1)
	go func() { done <- rows(tasks) }()
	select {
	case got := <-done:
		assert.NotEmpty(t, got)
	case <-time.After(time.Minute):
		t.Fatal("rows does not end")
	}
}

func TestSummary(t *testing.T) {
	good := twoTasks()
	good.State, good.EndedAt, good.Tasks[1].State = bfia.JobFinished, at(3.2), bfia.TaskSuccess
	rejected := twoTasks()
	rejected.State, rejected.Reason = bfia.JobRejected, hostNode+" says no"
	var text string
	for _, s := range []*bfia.JobStatus{good, failedJob(), rejected} {
		text += strings.Join(summary(s, view{width: 10}), "\n") + "\n\n"
	}
	golden(t, "summary.txt", text)
}

func TestSucceeded(t *testing.T) {
	s := twoTasks()
	assert.False(t, succeeded(s))
	s.State = bfia.JobFinished
	assert.False(t, succeeded(s), "a stopped job is FINISHED, too")
	s.Tasks[1].State = bfia.TaskSuccess
	assert.True(t, succeeded(s))
	s.State = bfia.JobRejected
	assert.False(t, succeeded(s))
	assert.False(t, succeeded(&bfia.JobStatus{State: bfia.JobFinished}), "no task ran")
}

func TestChanges(t *testing.T) {
	first := twoTasks()
	assert.Equal(t, []string{"job 202601021200000000001 RUNNING",
		"task intersect_rsa_1 guest.0 at " + guestNode + " SUCCESS",
		"task intersect_rsa_1 host.0 at " + hostNode + " SUCCESS", "task intersect_rsa_1 SUCCESS",
		"task hetero_secureboost_1 guest.0 at " + guestNode + " RUNNING",
		"task hetero_secureboost_1 host.0 at " + hostNode + " READY",
		"task hetero_secureboost_1 RUNNING"}, changes(nil, first))
	assert.Empty(t, changes(first, twoTasks()))
	assert.Equal(t, []string{"task hetero_secureboost_1 guest.0 at " + guestNode + " FAILED",
		"task hetero_secureboost_1 host.0 at " + hostNode + " FAILED: exit code 1: no column  [2J\"标签\"",
		"task hetero_secureboost_1 FAILED",
		"job 202601021200000000001 FINISHED"}, changes(first, failedJob()))
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 40 * time.Millisecond: "0.0s", 59940 * time.Millisecond: "59.9s",
		59960 * time.Millisecond: "1m00s",
		125 * time.Second:        "2m05s", 3*time.Hour + 7*time.Minute + 59*time.Second: "3h07m",
		53 * time.Hour: "2d05h",
	} {
		assert.Equal(t, want, duration(d))
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1048575: "1024 KiB",
		1 << 20: "1.0 MiB", 8 << 30: "8.0 GiB"} {
		assert.Equal(t, want, size(n))
	}
}

func FuzzDraw(f *testing.F) {
	f.Add("name", "reason\x1b[31m", "node\u202e", 40)
	f.Add("名字很长的任务", "", "\xff", 13)
	f.Fuzz(func(t *testing.T, name, reason, node string, width int) {
		s := twoTasks()
		s.Reason, s.Tasks[0].Name, s.Tasks[0].Parties[0].NodeID = reason, name, node
		width = min(max(width, 1), 200)
		for _, l := range draw(s, noon, view{width: width}) {
			if strings.ContainsAny(l, "\x1b\r\n\x00") || ansi.StringWidth(l) > width {
				t.Fatalf("%q exceeds %d columns, or contains control characters", l, width)
			}
		}
	})
}

// TestDrawProgress checks that a component's progress report is at the end of its task's line.
func TestDrawProgress(t *testing.T) {
	s := &bfia.JobStatus{
		JobID: "j",
		State: bfia.JobRunning,
		Tasks: []bfia.TaskStatus{{Name: "boost", State: bfia.TaskRunning, Parties: []bfia.PartStatus{
			{
				NodeID:   guestNode,
				Role:     "guest",
				State:    bfia.TaskRunning,
				Progress: "42%: tree 3\x1b[2J",
			}, {NodeID: hostNode, Role: "host", State: bfia.TaskRunning}}}},
	}
	text := strings.Join(draw(s, time.Now(), view{width: noLimit}), "\n")
	require.Contains(t, text, "guest.0: 42%: tree 3 [2J\n")
	require.NotContains(t, text, "host.0:")
}

// TestDrawAttempt checks that a retried task shows its attempt.
func TestDrawAttempt(t *testing.T) {
	first := &bfia.JobStatus{
		JobID: "j",
		State: bfia.JobRunning,
		Tasks: []bfia.TaskStatus{{Name: "boost", TaskID: "t1", State: bfia.TaskRunning}},
	}
	second := &bfia.JobStatus{
		JobID: "j",
		State: bfia.JobRunning,
		Tasks: []bfia.TaskStatus{{Name: "boost", TaskID: "t2", Attempt: 2, State: bfia.TaskRunning}},
	}
	require.Contains(t, strings.Join(draw(second, time.Now(), view{width: noLimit}), "\n"), "attempt 2")
	require.Equal(t, []string{"task boost is retried, attempt 2"}, changes(first, second))
	require.Empty(t, changes(second, second))
	require.Empty(t, attemptLines(first, view{width: noLimit}))

	second.Tasks[0].Attempts = []bfia.AttemptStatus{{Attempt: 1, TaskID: "t1", StartedAt: &noon,
		EndedAt: new(noon.Add(12300 * time.Millisecond)), Failure: &bfia.Failure{Kind: bfia.FailedKilled,
			NodeID: "B", Role: "host.0", Message: "killed\x1b[31m from outside"}}}
	require.Equal(t, []string{"task boost is retried, attempt 2: B (host.0): killed [31m from outside"},
		changes(first, second))
	ended := clock(second.Tasks[0].Attempts[0].EndedAt)
	require.Equal(t, []string{"boost attempt 1 ended at " + ended +
		" after 12.3s: B (host.0): killed [31m from outside"}, attemptLines(second, view{width: noLimit}))
	second.Tasks[0].Attempts[0].Failure = nil
	require.Contains(t, attemptLines(second, view{width: noLimit})[0], "failed at another party")
}

// TestDrawKeepsColumns checks that at any width each party of a job has a column, and that shortened node ids
// differ.
func TestDrawKeepsColumns(t *testing.T) {
	for parties := 2; parties <= 12; parties++ {
		status := manyParties(parties)
		for width := 20; width <= 200; width++ {
			l := layoutFor(status, rows(status.Tasks), view{width: width})
			require.Len(t, l.parts, parties)
			distinct := map[string]bool{}
			for _, node := range l.nodes {
				distinct[node] = true
			}
			require.Len(t, distinct, parties, "%d parties at %d columns: %v", parties, width, l.nodes)

			text := renderAll(append(l.heads(view{width: width}), taskLine(rows(status.Tasks)[0], noon, l)))
			cells := strings.Count(text, "✓") - 1
			if l.below {
				cells = strings.Count(renderAll(cellLines(rows(status.Tasks)[0], l, view{width: width})), "✓")
			}
			require.Equal(t, parties, cells, "%d parties at %d columns:\n%s", parties, width, text)
		}
	}
}

// TestShortenNodes checks that shortened node ids differ, wherever their differences are.
func TestShortenNodes(t *testing.T) {
	for _, c := range []struct{ nodes, short []string }{
		{[]string{"A", "B"}, []string{"A", "B"}},
		{[]string{"JG0100001100000010", "JG0110017800000000"}, []string{"…00000010", "…00000000"}},
		{[]string{"JG0100001100000010", "XX0100001100000010"}, []string{"J…0000010", "X…0000010"}},
		{[]string{"party-of-bank-one", "party-of-bank-two"}, []string{"…bank-one", "…bank-two"}},
		{[]string{"JG0100001100000010", "JG0100001100000010"}, []string{"…00000010", "…00000010"}},
	} {
		short, distinct := shortenNodes(c.nodes, 9)
		assert.True(t, distinct)
		assert.Equal(t, c.short, short)
	}
	_, distinct := shortenNodes([]string{"aaaaaaaaXaaaaaaaaaaaaaaa", "aaaaaaaaYaaaaaaaaaaaaaaa",
		"aaaaaaaaaaaaaaaXaaaaaaaa"}, 9)
	assert.False(t, distinct, "the columns get numbers, and a legend has the whole ids")
}

// TestStopIsShownOnce checks that people read only once who stopped a job: in the status, in the watched
// picture, and in the lines of a watched job without a terminal.
func TestStopIsShownOnce(t *testing.T) {
	running := manyParties(3)
	stopped := manyParties(3)
	by := &bfia.Failure{Kind: bfia.FailedStopped, By: guestNode}
	stopped.State, stopped.Outcome, stopped.EndedAt = bfia.JobFinished, bfia.OutcomeStopped, at(20)
	stopped.Failure, stopped.Reason = by, by.String()
	task := &stopped.Tasks[1]
	task.State, task.Reason = bfia.TaskFailed, guestNode+" (guest.0): the job was stopped: "+by.String()
	for k := range task.Parties {
		p := &task.Parties[k]
		p.State, p.EndedAt = bfia.TaskFailed, at(20)
		p.Failure = &bfia.Failure{Kind: bfia.FailedStopped, Message: "the job was stopped: " + by.String()}
		p.Reason = p.Failure.Message
	}

	status := strings.Join(append(draw(stopped, noon, view{width: 79}), summary(stopped, view{width: 79})...),
		"\n")
	piped := strings.Join(append(changes(running, stopped), summary(stopped, view{width: 79})...), "\n")
	for _, text := range []string{status, piped} {
		assert.Equal(t, 1, strings.Count(text, "stopped by"), text)
		assert.NotContains(t, text, "the job was stopped", text)
		assert.Contains(t, text, "job "+stopped.JobID+" STOPPED", text)
	}
}
