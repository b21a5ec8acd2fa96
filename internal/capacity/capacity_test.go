package capacity

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFit checks that costs are found again in what they cost.
func TestFit(t *testing.T) {
	want := Cost{Job: 40, Task: 11, Partner: 3, PartnerTask: 2}
	got := Fit([2]float64{1, 8}, [2]float64{1, 9}, want.Of)
	require.InDelta(t, want.Job, got.Job, 1e-9)
	require.InDelta(t, want.Task, got.Task, 1e-9)
	require.InDelta(t, want.Partner, got.Partner, 1e-9)
	require.InDelta(t, want.PartnerTask, got.PartnerTask, 1e-9)
	require.Equal(t, Cost{Job: 40, Task: 11}, FitTasks([2]float64{1, 8}, func(tasks float64) float64 {
		return Cost{Job: 40, Task: 11}.Of(tasks, 7)
	}))
	require.InDelta(t, 40+11*4+3*5+2*4*5, want.Of(4, 5), 1e-9)
}

// TestPlan computes a plan by hand.
func TestPlan(t *testing.T) {
	costs := Costs{
		Scheduler: Side{API: Cost{Job: 10}, Worker: Cost{Task: 20}, Transport: Cost{Job: 1},
			Temporal: Cost{Job: 100, Partner: 10, PartnerTask: 1}, Database: Cost{Job: 1e4},
			TemporalDatabase: Cost{Job: 5e4}},
		Participant: Side{Worker: Cost{Task: 10}, Temporal: Cost{Job: 50}, Database: Cost{Job: 5e3},
			TemporalDatabase: Cost{Job: 2e4}},
		Idle: Processes{API: 0.01, Temporal: 0.05}, Memory: Processes{API: 1e8, Temporal: 2e8},
		SendByte: 5, ReceiveByte: 3, Container: 300,
	}
	// 2 scheduled jobs and 1 joined one each second at the busiest hour.
	load := Load{Scheduled: daySeconds, Joined: daySeconds / 2, Tasks: 5, Partners: 2, Sent: 1e6,
		Received: 2e6, Stored: 1e5, ContainerSeconds: 10, ContainerCores: 2, ContainerMemory: 1e9, Peak: 2,
		KeepDays: 10, KeepHistoryDays: 3}
	machine := Machine{Cores: 1, Use: 0.5, Disk: 1e12, Network: 1e9}
	require.NoError(t, Check(load, machine))
	p := PlanFor(costs, load, machine)
	require.InDelta(t, 3, p.Jobs, 1e-9)
	require.InDelta(t, 2, p.Submissions, 1e-9)
	require.InDelta(t, 150, p.Containers, 1e-9)
	require.InDelta(t, 300, p.ContainerCores, 1e-9)
	require.InDelta(t, 150e9, p.ContainerMemory, 1)
	require.InDelta(t, 3e6, p.Sent, 1e-3)
	require.InDelta(t, 6e6, p.Received, 1e-3)
	require.InDelta(t, daySeconds*(1e4+5e3/2)*10, p.Database, 1)
	require.InDelta(t, daySeconds*(5e4+2e4/2)*3, p.TemporalDatabase, 1)
	require.InDelta(t, daySeconds*1.5*1e5*10, p.Storage, 1)
	want := []Process{
		{Name: "api", Cores: 2*0.010 + 0.01, Count: 1, Memory: 1e8},
		{Name: "worker", Cores: 2*0.100 + 0.050, Count: 1},
		{Name: "transport", Cores: 2*0.001 + 0.015 + 0.018, Count: 1},
		{Name: "Temporal", Cores: 2*0.130 + 0.050 + 0.05, Count: 1, Memory: 2e8},
		{Name: "Docker Engine", Cores: 15 * 0.3, Count: 9},
	}
	require.Len(t, p.Processes, len(want))
	for i, w := range want {
		got := p.Processes[i]
		require.InDelta(t, w.Cores, got.Cores, 1e-9, w.Name)
		got.Cores = w.Cores
		require.Equal(t, w, got)
	}
	require.Equal(t, "Temporal's server as one process", p.Limits[0].Name)
	require.InDelta(t, 0.62, p.Limits[0].Share, 1e-9)
	for _, l := range p.Limits {
		require.NotEmpty(t, l.Moves)
	}

	double := load
	double.Scheduled, double.Joined = 2*load.Scheduled, 2*load.Joined
	require.InDelta(t, 2*p.Limits[0].Share, PlanFor(costs, double, machine).Limits[0].Share, 1e-9)
}

// TestCheck checks that what makes no sense is named.
func TestCheck(t *testing.T) {
	good := Load{Tasks: 1, Peak: 1}
	machine := Machine{Cores: 1, Use: 1, Disk: 1, Network: 1}
	require.NoError(t, Check(good, machine))
	for want, wrong := range map[string]func(*Load, *Machine){
		"tasks: must be at least 1, not 0":           func(l *Load, _ *Machine) { l.Tasks = 0 },
		"scheduled jobs: must be at least 0, not -1": func(l *Load, _ *Machine) { l.Scheduled = -1 },
		"peak: must be at least 1, not NaN":          func(l *Load, _ *Machine) { l.Peak = math.NaN() },
		"disk: must be at least 1, not +Inf":         func(_ *Load, m *Machine) { m.Disk = math.Inf(1) },
		"use: must be at most 1, not 1.5":            func(_ *Load, m *Machine) { m.Use = 1.5 },
	} {
		l, m := good, machine
		wrong(&l, &m)
		require.EqualError(t, Check(l, m), want)
	}
}

// TestMeasured checks the costs that are part of the program: a job costs each process something, and more
// with more tasks.
func TestMeasured(t *testing.T) {
	c, err := Measured()
	require.NoError(t, err)
	require.NotEmpty(t, c.Measured)
	for name, side := range map[string]Side{"scheduler": c.Scheduler, "participant": c.Participant} {
		costs := map[string]Cost{"api": side.API, "worker": side.Worker, "Temporal": side.Temporal,
			"database": side.Database, "Temporal's database": side.TemporalDatabase}
		for kind, cost := range costs {
			require.Positive(t, cost.Of(1, 1), "%s, %s", name, kind)
			require.Greater(t, cost.Of(10, 1), cost.Of(1, 1), "%s, %s", name, kind)
		}
	}
	require.Positive(t, c.SendByte)
	require.Positive(t, c.ReceiveByte)
}
