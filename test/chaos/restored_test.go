package main

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The jobs of restoredObservations, besides those of validObservations.
const (
	endedID   = "20261201080500000000"
	forgotID  = "20261201080600000000"
	refusedID = "20261201080700000000"
	laterID   = "20261201083000000000"
)

const restoreFailure = `{"kind":"internal","node_id":"T1","message":"T1 was restored from a backup"}`

// copyRows returns a copy of a party's rows of a job.
func copyRows(r *rows) *rows {
	c := *r
	c.tasks, c.parts = append([]taskRow{}, r.tasks...), append([]partRow{}, r.parts...)
	return &c
}

// restoredObservations returns the observations of a correct run in which the database of the party third was
// put back from minute 10 to minute 4. The jobs of validObservations had ended before. Then:
//
//   - endedID ran at the time of the backup and succeeded since. The restore ended it at third, which takes
//     part; its scheduler keeps the success.
//   - forgotID was created after the backup, and succeeded. Third schedules it and has forgotten it. The
//     participant keeps the success.
//   - refusedID was submitted to guest shortly before the restore, and is created nowhere.
//   - laterID is of after the restore.
func restoredObservations() *observations {
	f := validObservations()
	k := &restoration{party: "third", kind: faultRestoreDatabase, finishBegan: minute(11),
		finishEnded: minute(12), ready: minute(13), before: map[string]*rows{}, after: map[string]*rows{},
		finished: map[string]*rows{}}
	f.restoresPlanned, f.restorations = 1, []*restoration{k}
	for id, r := range f.rows["third"] {
		k.before[id], k.after[id], k.finished[id] = r, copyRows(r), copyRows(r)
	}
	add := func(id, scheduler, other string, began int) *jobRun {
		j := &jobRun{JobPlan: JobPlan{Kind: jobBoost, ID: id, Roles: map[string]string{"guest": scheduler,
			"host": other}}, began: minute(began), ended: minute(began + 1)}
		f.jobs = append(f.jobs, j)
		f.results[id] = map[string]string{"s1 guest out": "rows"}
		s := &rows{job: "FINISHED", scheduled: "FINISHED", outcome: "SUCCESS",
			keys: map[string]string{"s1 guest out": "data0"}}
		p := &rows{job: "FINISHED", outcome: "SUCCESS"}
		for role, r := range map[string]*rows{"guest": s, "host": p} {
			run := "hutong-" + id + "-s1-" + role + ".0-1"
			r.outputs = map[string]string{"s1 " + role: "t"}
			r.tasks = []taskRow{{name: "s1", role: role, state: "SUCCESS", taskID: "t", containerName: run}}
			s.parts = append(s.parts, partRow{task: "s1", role: role, state: "SUCCESS", taskID: "t"})
			f.created[j.Roles[role]][run] = []time.Time{minute(began)}
		}
		f.rows[scheduler][id], f.rows[other][id] = s, p
		return j
	}

	add(endedID, "guest", "third", 3)
	k.before[endedID] = copyRows(f.rows["third"][endedID])
	open := copyRows(k.before[endedID])
	open.job, open.outcome, open.tasks[0].state = "RUNNING", "", "RUNNING"
	k.after[endedID] = open
	ended := copyRows(open)
	ended.job, ended.outcome, ended.jobFailure, ended.tasks[0].state = "FINISHED", "FAILED", restoreFailure,
		"FAILED"
	k.finished[endedID], f.rows["third"][endedID] = ended, copyRows(ended)

	forgot := add(forgotID, "third", "guest", 6)
	forgot.ended, forgot.unknown = time.Time{}, true
	k.before[forgotID] = f.rows["third"][forgotID]
	delete(f.rows["third"], forgotID)
	f.results[forgotID] = map[string]string{} // guest has none of them

	refused := add(refusedID, "guest", "third", 9)
	refused.ended, refused.refusal = time.Time{}, restoreRefusal
	for _, name := range []string{"guest", "third"} {
		delete(f.rows[name], refusedID)
		delete(f.created[name], "hutong-"+refusedID+"-s1-guest.0-1")
		delete(f.created[name], "hutong-"+refusedID+"-s1-host.0-1")
	}
	add(laterID, "third", "guest", 20)
	return f
}

// jobNamed returns a job of the observations.
func jobNamed(f *observations, id string) *jobRun {
	for _, j := range f.jobs {
		if j.ID == id {
			return j
		}
	}
	return nil
}

// TestCheckJudgesRestoredJobs checks that the checker accepts what a restore may do to jobs, and reports each
// planted fault.
func TestCheckJudgesRestoredJobs(t *testing.T) {
	require.Equal(t, &findings{}, check(restoredObservations()))
	for name, c := range map[string]struct {
		plant func(f *observations, k *restoration)
		want  [4]int // lost, doubled, orphaned, wrong
	}{
		"no restore was done": {func(f *observations, _ *restoration) {
			*f = *validObservations()
			f.restoresPlanned = 1
		}, [4]int{0, 0, 0, 1}},
		"a restore that failed": {func(_ *observations, k *restoration) {
			k.problems = []string{"did not refuse to start"}
		}, [4]int{0, 0, 0, 1}},
		"a job that finish leaves open": {func(_ *observations, k *restoration) {
			k.finished[endedID].job, k.finished[endedID].outcome = "RUNNING", "FAILED"
		}, [4]int{1, 0, 0, 1}}, // and it changes later
		"a job that finish makes a success": {func(f *observations, k *restoration) {
			for _, r := range []*rows{k.finished[endedID], f.rows["third"][endedID]} {
				r.outcome, r.jobFailure = "SUCCESS", ""
			}
		}, [4]int{0, 0, 0, 1}},
		"an ended job that finish changes": {func(f *observations, k *restoration) {
			for _, r := range []*rows{k.finished[failsID], f.rows["third"][failsID]} {
				r.jobFailure = restoreFailure
			}
		}, [4]int{0, 0, 0, 1}},
		"an ended job that changes later": {func(f *observations, _ *restoration) {
			f.rows["third"][endedID].jobFailure = `{"kind":"timeout","node_id":"T1"}`
		}, [4]int{0, 0, 0, 1}},
		"a job that vanishes after the restore": {func(f *observations, _ *restoration) {
			delete(f.rows["third"], endedID)
		}, [4]int{2, 0, 0, 0}},
		"a forgotten job that comes back": {func(f *observations, k *restoration) {
			f.rows["third"][forgotID] = k.before[forgotID]
			f.results[forgotID]["s1 guest out"] = "rows"
		}, [4]int{0, 1, 0, 0}},
		"a container of an ended job after the restore": {func(f *observations, _ *restoration) {
			f.created["third"]["hutong-"+endedID+"-s1-host.0-2"] = []time.Time{minute(14)}
		}, [4]int{0, 1, 0, 0}},
		"a container that runs again after the restore": {func(f *observations, _ *restoration) {
			run := "hutong-" + endedID + "-s1-host.0-1"
			f.created["third"][run] = append(f.created["third"][run], minute(14))
		}, [4]int{0, 2, 0, 0}},
		"a partner that never ends": {func(f *observations, _ *restoration) {
			f.rows["guest"][forgotID].job, f.rows["guest"][forgotID].outcome = "RUNNING", ""
			f.rows["guest"][forgotID].jobFailure = restoreFailure
		}, [4]int{0, 0, 0, 1}},
		"a part of a partner that never ends": {func(f *observations, _ *restoration) {
			f.rows["guest"][forgotID].tasks[0].state = "RUNNING"
		}, [4]int{0, 0, 0, 1}},
		"a partner that loses its side": {func(f *observations, _ *restoration) {
			delete(f.rows["guest"], endedID)
		}, [4]int{1, 0, 0, 0}},
		"a scheduler that is open": {func(f *observations, _ *restoration) {
			f.rows["guest"][endedID].scheduled = "RUNNING"
		}, [4]int{0, 0, 0, 1}},
		"a client that waits for ever": {func(f *observations, _ *restoration) {
			jobNamed(f, endedID).ended = time.Time{}
		}, [4]int{1, 0, 0, 0}},
		"a job unknown at a scheduler that was not restored": {func(f *observations, _ *restoration) {
			j := jobNamed(f, endedID)
			j.ended, j.unknown = time.Time{}, true
		}, [4]int{1, 0, 0, 0}},
		"a refusal of a job that nobody forgot": {func(f *observations, _ *restoration) {
			j := jobNamed(f, endedID)
			j.ended, j.refusal = time.Time{}, restoreRefusal
		}, [4]int{1, 0, 0, 0}},
		"a success of the partner without a container": {func(f *observations, _ *restoration) {
			delete(f.created["third"], "hutong-"+forgotID+"-s1-guest.0-1")
		}, [4]int{1, 0, 0, 0}},
		"a success of a job that must fail": {func(f *observations, _ *restoration) {
			jobNamed(f, forgotID).Kind = jobFails
		}, [4]int{0, 0, 0, 1}},
		"a success of the scheduler without a part": {func(f *observations, _ *restoration) {
			f.rows["guest"][endedID].parts[0].state = "FAILED"
		}, [4]int{0, 0, 0, 1}},
		"a success without its output": {func(f *observations, _ *restoration) {
			delete(f.results[endedID], "s1 guest out")
		}, [4]int{0, 0, 0, 1}},
		"a success with another output": {func(f *observations, _ *restoration) {
			f.results[endedID]["s1 guest out"] = "ro"
		}, [4]int{0, 0, 0, 1}},
		"an end that has nothing to do with the restore": {func(f *observations, _ *restoration) {
			r := f.rows["guest"][forgotID]
			r.outcome, r.jobFailure = "FAILED", `{"kind":"exit_code","exit_code":1,"node_id":"G1"}`
		}, [4]int{0, 0, 0, 1}},
		"an end that says nothing": {func(f *observations, _ *restoration) {
			f.rows["guest"][forgotID].outcome = "FAILED"
		}, [4]int{0, 0, 0, 1}},
		"a job of after the restore that fails because of it": {func(f *observations, _ *restoration) {
			r := f.rows["third"][laterID]
			r.failure = restoreFailure
			for i := range r.parts {
				r.parts[i].state = "FAILED"
			}
		}, [4]int{0, 0, 0, 1}},
		"a job of before the backup that is lost": {func(f *observations, k *restoration) {
			delete(f.rows["third"], boostID)
			delete(k.finished, boostID)
		}, [4]int{0, 0, 0, 1}},
		"a session of an ended job": {func(f *observations, _ *restoration) {
			f.sessions = []session{{party: "third", id: "session_" + endedID}}
		}, [4]int{0, 0, 1, 0}},
		"a session of a job that the party has forgotten": {func(f *observations, _ *restoration) {
			f.sessions = []session{{party: "third", id: "session_" + forgotID, folder: "third/spool/s1"}}
		}, [4]int{0, 0, 1, 0}},
		"a session of a forgotten job at a party that was not restored": {func(f *observations, _ *restoration) {
			f.sessions = []session{{party: "guest", id: "session_" + forgotID}}
		}, [4]int{0, 0, 1, 0}},
		"a lost output that the party has not noted": {func(f *observations, k *restoration) {
			k.kind = faultLoseStorage
			delete(f.results[laterID], "s1 guest out")
		}, [4]int{0, 0, 0, 1}},
		"an output that is lost besides those that are noted": {func(f *observations, k *restoration) {
			k.kind = faultLoseStorage
			delete(f.results[laterID], "s1 guest out")
			f.rows["third"][laterID].note = "lost from the storage in a restore: guest.0 s1.data01"
		}, [4]int{0, 0, 0, 1}},
		"a scheduler's failure that is a component's": {func(f *observations, _ *restoration) {
			f.rows["guest"][endedID].failure = `{"kind":"temporary","exit_code":75,"node_id":"G1"}`
		}, [4]int{0, 0, 0, 2}}, // and its participant at guest says SUCCESS
		"an output that is noted as lost without a restore of the storage": {
			func(f *observations, _ *restoration) {
				delete(f.results[laterID], "s1 guest out")
				f.rows["third"][laterID].note = "lost from the storage in a restore: guest.0 s1.data0"
			}, [4]int{0, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			f := restoredObservations()
			c.plant(f, f.restorations[0])
			v := check(f)
			require.Equal(t, c.want,
				[4]int{len(v.lost), len(v.duplicated), len(v.orphaned), len(v.wrong)}, "%+v", v)
		})
	}
}

// TestCheckAcceptsWhatFaultsDoToRestoredJobs checks that the checker accepts ends of jobs that a restore and
// another fault explain together.
func TestCheckAcceptsWhatFaultsDoToRestoredJobs(t *testing.T) {
	const refused = `{"kind":"exit_code","exit_code":1,"node_id":"G1","log":["the transport of T1 knows no session"]}`
	failAtGuest := func(failure string) func(f *observations) {
		return func(f *observations) {
			r := f.rows["guest"][forgotID]
			r.outcome, r.jobFailure, r.tasks[0].state = "FAILED", failure, "FAILED"
		}
	}
	for name, plant := range map[string]func(f *observations){
		"a container whose partner the restored party has forgotten": failAtGuest(refused),
		"a container that was killed and is not started again": func(f *observations) {
			f.kills = 1
			failAtGuest(`{"kind":"killed","exit_code":137,"node_id":"G1"}`)(f)
		},
		"a scheduler that has no log": func(f *observations) {
			r := f.rows["guest"][endedID]
			r.outcome, r.jobFailure = "FAILED", refused
			r.failure = `{"kind":"exit_code","exit_code":1,"node_id":"G1"}`
		},
		"a scheduler that was stopped before it created its own part": func(f *observations) {
			j, k := jobNamed(f, forgotID), f.restorations[0]
			j.unknown, j.ended = false, minute(12)
			r := &rows{scheduled: "RUNNING"}
			k.after[forgotID] = r
			r = copyRows(r)
			r.scheduled, r.failure = "FINISHED", restoreFailure
			k.finished[forgotID], f.rows["third"][forgotID] = r, copyRows(r)
			delete(f.rows["guest"], forgotID)
		},
		"the placeholder of a container that has not started": func(f *observations) {
			f.created["third"]["hutong-"+endedID+"-s1-host.0-2"+placeholderSuffix] = []time.Time{minute(14)}
		},
		"a job that a later restore brings back": func(f *observations) {
			again := *f.restorations[0]
			again.finished = maps.Clone(again.finished)
			back := copyRows(again.before[forgotID])
			back.outcome, back.jobFailure, back.failure = "FAILED", restoreFailure, restoreFailure
			again.after, again.finished[forgotID] = maps.Clone(again.after), back
			again.after[forgotID] = copyRows(back)
			again.after[forgotID].job, again.after[forgotID].scheduled = "RUNNING", "RUNNING"
			f.rows["third"][forgotID] = copyRows(back)
			f.restorations = append(f.restorations, &again)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := restoredObservations()
			plant(f)
			require.Equal(t, &findings{}, check(f))
		})
	}
}

// TestCheckAcceptsNotedLosses checks that an output may lack that its party has noted as lost with its
// storage.
func TestCheckAcceptsNotedLosses(t *testing.T) {
	f := restoredObservations()
	f.restorations[0].kind = faultLoseStorage
	delete(f.results[laterID], "s1 guest out")
	f.rows["third"][laterID].note = "checked by hand\n" +
		"lost from the storage in a restore: guest.0 s0.x, guest.0 s1.data0"
	require.Equal(t, &findings{}, check(f))
}
