package scheduler

import (
	"context"
	"strings"

	"github.com/stretchr/testify/require"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

func (f *fakeParties) recordJob(_ context.Context, in scheduler.RecordScheduleJobInput) error {
	defer f.enter()()
	if err := f.errors["record"]; err != nil {
		return err
	}
	f.known, f.job = true, bfia.JobPending
	for _, t := range in.Plan.Tasks {
		f.rows[t.Name] = bfia.TaskReady
		for _, part := range t.Parts {
			f.partRows[flowtest.PartKey(t.Name, part)] = bfia.TaskReady
		}
	}
	return nil
}

func (f *fakeParties) forget(context.Context, scheduler.ForgetScheduleJobInput) error {
	defer f.enter()()
	f.known, f.forgot = false, true
	return nil
}

func (f *fakeParties) recordWaits(_ context.Context, in scheduler.RecordScheduleWaitsInput) error {
	defer f.enter()()
	if !f.known {
		f.breaks("waits of a job without rows")
	}
	f.waits = in.Waiting
	f.waited = append(f.waited, in.Waiting...)
	return nil
}

// recordProgress checks each write against the table of states.
func (f *fakeParties) recordProgress(_ context.Context, p scheduler.Progress) error {
	defer f.enter()()
	if err := f.errors["progress"]; err != nil {
		return err
	}
	if !f.known {
		f.breaks("progress of a job without rows")
	}
	if p.State != "" {
		if f.job.Next(p.State) != p.State {
			f.breaks("the job went from %s to %s", f.job, p.State)
		}
		f.job, f.reason = p.State, p.Failure.String()
	}
	names := map[string]string{}
	for _, t := range f.in.Plan.Tasks {
		names[bfia.TaskID(f.in.Plan.JobID, t.Name)] = t.Name
	}
	for _, t := range p.Tasks {
		name := names[t.TaskID]
		if t.Attempt > 1 {
			if name = t.Name; t.TaskID != f.taskID(name, t.Attempt) {
				f.breaks("attempt %d of %s under the id %s", t.Attempt, name, t.TaskID)
			}
			if f.written[name] != t.Attempt {
				if t.Lost == nil || t.Lost.Failure == nil || t.Lost.EndedAt.Before(t.Lost.StartedAt) {
					f.breaks("attempt %d of %s without what became of the one before: %+v", t.Attempt, name,
						t.Lost)
				} else {
					f.lost[name] = append(f.lost[name], *t.Lost)
				}
				f.written[name], f.rows[name] = t.Attempt, bfia.TaskRunning
				for _, part := range t.Parts {
					f.partRows[flowtest.PartKey(name, part.Part)] = bfia.TaskReady
				}
			}
		}
		if s := f.rows[name]; s != t.State && s.Next(t.State) != t.State {
			f.breaks("task %s went from %s to %s", name, s, t.State)
		}
		f.rows[name], f.whys[name] = t.State, t.Reason
		for _, part := range t.Parts {
			key := flowtest.PartKey(name, part.Part)
			if f.partRows[key].Next(part.State) != part.State {
				f.breaks("part %s went from %s to %s", key, f.partRows[key], part.State)
			}
			f.partRows[key], f.partWhys[key] = part.State, part.Failure.Text()
		}
	}
	for _, t := range f.in.Plan.Tasks {
		var states []bfia.TaskState
		for _, part := range t.Parts {
			states = append(states, f.partRows[flowtest.PartKey(t.Name, part)])
		}
		if merged := bfia.MergeTaskStates(states...); merged != f.rows[t.Name] {
			f.breaks("task %s is %s, its parts are %v", t.Name, f.rows[t.Name], states)
		}
		for _, dep := range t.DependsOn {
			if f.rows[t.Name] != bfia.TaskReady && f.rows[dep] != bfia.TaskSuccess {
				f.breaks("task %s is %s, but %s is %s", t.Name, f.rows[t.Name], dep, f.rows[dep])
			}
		}
	}
	return nil
}

// checkEnd checks the rows and the parties of a job that was created.
func (f *fakeParties) checkEnd(r workflows.Result) {
	if r.Outcome == workflows.OutcomeRejected {
		require.Equal(f.t, bfia.JobRejected, r.State)
		require.Empty(f.t, f.times["start "+flowtest.NodeA])
	} else {
		require.Equal(f.t, bfia.JobFinished, r.State)
	}
	require.Equal(f.t, r.State, f.job)
	for _, ref := range f.stops {
		require.Equal(f.t, r.Outcome == workflows.OutcomeRejected, ref.State == bfia.JobRejected, "%v", ref)
	}
	require.Equal(f.t, r.Reason, f.reason)
	require.Empty(f.t, f.waits, "an ended job waits")
	stopping := 0 // a task that is being stopped may still run while the next starts
	for _, command := range f.sent {
		if strings.HasPrefix(command, "stop ") && strings.Count(command, " ") == 2 {
			stopping++
		}
	}
	require.LessOrEqual(f.t, f.most, f.in.Settings.TasksInFlight+stopping)
	success := true
	for _, t := range f.in.Plan.Tasks {
		success = success && f.rows[t.Name] == bfia.TaskSuccess
		require.NotEqual(f.t, bfia.TaskRunning, f.rows[t.Name], "%s of an ended job", t.Name)
		for _, part := range t.Parts {
			key := flowtest.PartKey(t.Name, part)
			require.NotEqual(f.t, bfia.TaskRunning, f.partRows[key], "%s of an ended job", key)
			if f.errors["stop "+part.NodeID] == nil {
				require.NotEqual(f.t, bfia.TaskRunning, f.parts[key], "%s was not stopped", key)
			}
			if f.parts[key] != bfia.TaskReady {
				require.NotEqual(f.t, bfia.TaskReady, f.partRows[key], "%s ran", key)
			}
			if f.partRows[key] == bfia.TaskSuccess {
				require.Equal(f.t, bfia.TaskSuccess, f.parts[key], "%s is not what its party reports", key)
			}
		}
	}
	require.Equal(f.t, success, r.Outcome == workflows.OutcomeSuccess, "%+v %v", r, f.rows)
	require.Equal(f.t, success, r.Reason == "", r.Reason)
	for _, node := range f.in.Nodes {
		if f.errors["stop "+node] == nil {
			require.Contains(f.t, f.sent, "stop "+node, "a party was not notified of the end")
		}
	}
}
