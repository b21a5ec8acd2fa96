package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	boostID = "chaos0000000000000001"
	failsID = "chaos0000000000000002"
	stopsID = "chaos0000000000000003"
)

// minute returns a time in the runs of these tests.
func minute(n int) time.Time { return time.Date(2026, 12, 1, 8, n, 0, 0, time.UTC) }

// validObservations returns the observations of a correct run: a job that succeeds in its second attempt, one
// that fails, and one that is stopped.
func validObservations() *observations {
	roles := map[string]string{"guest": "guest", "host": "third"}
	f := &observations{
		nodes:      map[string]string{"guest": "G1", "third": "T1"},
		rows:       map[string]map[string]*rows{"guest": {}, "third": {}},
		created:    map[string]map[string][]time.Time{"guest": {}, "third": {}},
		unreadable: map[string]map[string]string{},
		results: map[string]map[string]string{
			boostID: {"s1 guest out": "rows"},
		}, expected: map[JobKind]map[string]string{jobBoost: {"s1 guest out": "rows"}},
	}
	job := func(id string, kind JobKind, state, failure string, attempts int) {
		f.jobs = append(f.jobs,
			&jobRun{JobPlan: JobPlan{Kind: kind, ID: id, Roles: roles}, began: minute(1), ended: minute(2)})
		outcome := map[bool]string{true: "SUCCESS", false: "FAILED"}[failure == ""]
		scheduler := &rows{job: "FINISHED", scheduled: "FINISHED", failure: failure, outcome: outcome,
			jobFailure: failure, outputs: map[string]string{}}
		for role, name := range roles {
			run := "hutong-" + id + "-s1-" + role + ".0-" + string(rune('0'+attempts))
			r := scheduler
			if name != "guest" {
				r = &rows{job: "FINISHED", outcome: outcome, jobFailure: failure,
					outputs: map[string]string{}}
			}
			r.tasks = []taskRow{
				{name: "s1", role: role, state: state, taskID: "t", containerName: run,
					failure: failure, attempt: attempts},
			}
			r.outputs["s1 "+role] = "t"
			f.rows[name][id] = r
			for attempt := range attempts {
				earlier := "hutong-" + id + "-s1-" + role + ".0-" + string(rune('1'+attempt))
				f.created[name][earlier] = []time.Time{minute(1)}
			}
			scheduler.parts = append(
				scheduler.parts,
				partRow{task: "s1", role: role, state: state, taskID: "t", failure: failure,
					attempt: attempts},
			)
		}
	}
	job(boostID, jobBoost, "SUCCESS", "", 2)
	job(failsID, jobFails, "FAILED", `{"kind":"exit_code","exit_code":3}`, 1)
	job(stopsID, jobStops, "FAILED", `{"kind":"stopped","by":"x"}`, 1)
	return f
}

// TestCheckFindsPlantedFaults checks that the checker accepts a correct run and reports each planted fault.
func TestCheckFindsPlantedFaults(t *testing.T) {
	require.Equal(t, &findings{}, check(validObservations()))
	for name, c := range map[string]struct {
		plant func(*observations)
		want  [4]int // lost, doubled, orphaned, wrong
	}{
		"more slots held than exist": {
			func(f *observations) { f.limitViolations = []string{"5 slots"} },
			[4]int{0, 0, 0, 1},
		},
		"a reservation that is left": {
			func(f *observations) { f.leftovers = []string{"a reservation"} },
			[4]int{0, 0, 1, 0},
		},
		"a container created twice": {
			func(f *observations) {
				f.created["third"]["hutong-"+boostID+"-s1-host.0-2"] = []time.Time{minute(1), minute(2)}
			},
			[4]int{0, 1, 0, 0},
		},
		"outputs of another attempt": {
			func(f *observations) { f.rows["third"][boostID].outputs["s1 host"] = "earlier" },
			[4]int{0, 1, 0, 0},
		},
		"a job that never ends": {
			func(f *observations) { f.jobs[0].ended = time.Time{} },
			[4]int{1, 0, 0, 0},
		},
		"a job that still runs": {
			func(f *observations) { f.rows["guest"][boostID].scheduled = "RUNNING" },
			[4]int{1, 0, 0, 0},
		},
		"a job unknown to its scheduler": {
			func(f *observations) { delete(f.rows["guest"], boostID) },
			[4]int{1, 0, 0, 0},
		},
		"a success without a container": {func(f *observations) {
			delete(f.created["third"], "hutong-"+boostID+"-s1-host.0-2")
		}, [4]int{1, 0, 0, 0}},
		"a container of no job": {
			func(f *observations) {
				f.created["third"]["hutong-other-s1-host.0-1"] = []time.Time{minute(1)}
			},
			[4]int{0, 0, 1, 0},
		},
		"a leftover": {
			func(f *observations) { f.leftovers = []string{"container x"} },
			[4]int{0, 0, 1, 0},
		},
		"a session": {
			func(f *observations) { f.sessions = []session{{party: "guest", id: "session_" + boostID}} },
			[4]int{0, 0, 1, 0},
		},
		"a job without a client": {
			func(f *observations) { f.rows["third"]["x"] = &rows{job: "FINISHED"} },
			[4]int{0, 0, 0, 1},
		},
		"a participant that still runs": {
			func(f *observations) { f.rows["third"][boostID].job = "RUNNING" },
			[4]int{0, 0, 0, 1},
		},
		"a job unknown to a participant": {
			func(f *observations) { delete(f.rows["third"], boostID) },
			[4]int{0, 0, 0, 1},
		},
		"a participant in another state": {
			func(f *observations) { f.rows["third"][boostID].tasks[0].state = "FAILED" },
			[4]int{0, 0, 0, 1},
		},
		"another attempt than the scheduler's": {func(f *observations) {
			f.rows["third"][boostID].tasks[0].taskID = "u"
			f.rows["third"][boostID].outputs = nil
		}, [4]int{0, 0, 0, 1}},
		"a success that must fail": {func(f *observations) {
			for _, p := range []string{"guest", "third"} {
				f.rows[p][failsID].tasks[0].state = "SUCCESS"
			}
			for i := range f.rows["guest"][failsID].parts {
				f.rows["guest"][failsID].parts[i].state = "SUCCESS"
			}
		}, [4]int{0, 0, 0, 1}},
		"another failure": {func(f *observations) {
			for i := range f.rows["guest"][failsID].parts {
				f.rows["guest"][failsID].parts[i].failure = `{"kind":"exit_code","exit_code":137}`
			}
		}, [4]int{0, 0, 0, 1}},
		"a stop recorded as a failure": {
			func(f *observations) { f.rows["guest"][stopsID].failure = `{"kind":"timeout"}` },
			[4]int{0, 0, 0, 1},
		},
		"results that can't be read": {
			func(f *observations) {
				f.results[boostID] = nil
				f.unreadable[boostID] = map[string]string{"guest": "unknown job"}
			},
			[4]int{0, 0, 0, 1},
		},
		"a missing output": {
			func(f *observations) { delete(f.results[boostID], "s1 guest out") },
			[4]int{0, 0, 0, 1},
		},
		"a truncated output": {
			func(f *observations) { f.results[boostID]["s1 guest out"] = "ro" },
			[4]int{0, 0, 0, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := validObservations()
			c.plant(f)
			v := check(f)
			require.Equal(t, c.want,
				[4]int{len(v.lost), len(v.duplicated), len(v.orphaned), len(v.wrong)}, "%+v", v)
			require.False(t, v.ok())
		})
	}
}
