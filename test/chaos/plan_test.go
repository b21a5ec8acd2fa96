package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPlanDependsOnlyOnSeed checks that a seed reproduces its run, and that another seed gives another run.
func TestPlanDependsOnlyOnSeed(t *testing.T) {
	first := NewPlan(7, 10*time.Minute)
	require.Equal(t, first, NewPlan(7, 10*time.Minute))
	require.NotEqual(t, first.Faults, NewPlan(8, 10*time.Minute).Faults)
	require.NotEqual(t, first.Jobs, NewPlan(8, 10*time.Minute).Jobs)
}

// TestPlanIsValid checks that faults end within the run, and that a target has one fault at a time, since the
// effects of two can't be distinguished.
func TestPlanIsValid(t *testing.T) {
	for seed := range uint64(200) {
		p := NewPlan(seed, 5*time.Minute)
		until := map[string]time.Duration{}
		for i, f := range p.Faults {
			require.GreaterOrEqual(t, f.At, quietPeriod)
			require.LessOrEqual(t, f.At+f.For, p.Length-quietPeriod, "%s", f)
			require.GreaterOrEqual(t, f.At, until[f.Target], "%s", f)
			until[f.Target] = f.At + f.For
			if i > 0 {
				require.GreaterOrEqual(t, f.At, p.Faults[i-1].At)
			}
		}
		ids := map[string]bool{}
		for _, j := range p.Jobs {
			require.False(t, ids[j.ID])
			ids[j.ID] = true
			require.Less(t, j.At, p.Length)
			names := map[string]bool{}
			for _, name := range j.Roles {
				names[name] = true
			}
			require.Len(t, names, len(j.Roles), "job %s has a party twice", j.ID)
			require.True(t, 0 <= j.Priority && j.Priority <= 9)
			require.Equal(t, j.Kind == jobLR, j.Roles["arbiter"] != "")
		}
	}
}

// TestDefaultPlanCoversEverything checks that the default run of make chaos has every fault and every kind of
// job.
func TestDefaultPlanCoversEverything(t *testing.T) {
	p := NewPlan(1, 9*time.Minute) // as make chaos has it
	kinds, targets, jobs := map[FaultKind]int{}, map[string]bool{}, map[JobKind]int{}
	for _, f := range p.Faults {
		kinds[f.Kind]++
		targets[f.Target] = true
	}
	for _, j := range p.Jobs {
		jobs[j.Kind]++
	}
	for _, kind := range []FaultKind{
		faultKill, faultRestart, faultPause, faultContainer, faultDrain, faultRotate,
		faultRekey,
		faultCut, faultStall, faultDelay, faultDuplicate, faultLoseAnswers, faultReorder,
	} {
		require.Positive(t, kinds[kind], "%s", kind)
	}
	for _, kind := range []JobKind{jobBoost, jobLR, jobSleeps, jobFails, jobStops} {
		require.Positive(t, jobs[kind], "%s", kind)
	}
	for _, target := range []string{"temporal", "postgres", "guest dockerd", "host dockerd"} {
		require.True(t, targets[target], "%s", target)
	}
	for _, party := range parties {
		for _, part := range parts {
			require.True(t, targets[party+" "+part], "%s %s", party, part)
		}
	}
	for _, l := range links {
		require.True(t, targets[l], "%s", l)
	}
	require.False(t, targets[secondTransport])
	both := NewPlan(1, 9*time.Minute)
	both.AddSecondTransport()
	added := map[FaultKind]int{}
	for _, f := range both.Faults {
		if f.Target == secondTransport {
			added[f.Kind]++
		}
	}
	require.GreaterOrEqual(t, added[faultKill], 7)
	require.GreaterOrEqual(t, added[faultPause], 2)
	require.Len(t, both.Faults, len(p.Faults)+added[faultKill]+added[faultPause], "the other faults stay")
	require.GreaterOrEqual(t, len(p.Faults), 100)
	require.GreaterOrEqual(t, len(p.Jobs), 60)
}

// TestVersionChangesCoverEverything checks that make upgrade changes every process to and fro, without
// changing the other faults.
func TestVersionChangesCoverEverything(t *testing.T) {
	without, p := NewPlan(1, 4*time.Minute), NewPlan(1, 4*time.Minute)
	p.AddVersionChanges()
	changes := map[string]int{}
	for i, f := range p.Faults {
		if i > 0 {
			require.GreaterOrEqual(t, f.At, p.Faults[i-1].At)
		}
		if f.Kind == faultVersion {
			changes[f.Target]++
		}
	}
	for _, process := range partyProcesses() {
		require.GreaterOrEqual(t, changes[process+versionSuffix], 2, process)
	}
	p.Faults = slices.DeleteFunc(p.Faults, func(f Fault) bool { return f.Kind == faultVersion })
	require.Equal(t, without, p)
}

// TestVersions checks which version a process runs.
func TestVersions(t *testing.T) {
	v := newVersions("new", "")
	require.Equal(t, "new", v.first())
	require.Equal(t, "new", v.of("guest api"))

	v = newVersions("new", "old")
	require.Equal(t, "old", v.first())
	require.Equal(t, "old", v.of("guest api"))
	v.change("guest api")
	require.Equal(t, "new", v.of("guest api"))
	require.Equal(t, "old", v.of("host api"))
	require.Equal(t, []string{"host api"}, v.upgrade([]string{"guest api", "host api"}))
	v.change("host api")
	require.Equal(t, "new", v.of("host api"), "after the upgrade all stay")
}
