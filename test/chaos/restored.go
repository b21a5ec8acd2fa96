package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What must hold for a job of a party that was restored:
//
//   - Once hutong restore finish has run, every job is over there: the party's rows of it never change again,
//     and it creates no container of a job from before. A job that it does not have then never comes back.
//   - The party has only those successes that it had in the restored database.
//   - A job that had ended in the restored database is judged like all others. Only outputs may lack that
//     the party has noted as lost from its storage.
//   - The restore touches the other jobs that began before its end. They end at all parties, and never run
//     on. A party says SUCCESS of them only if the job's kind may succeed, all its containers were created,
//     and the outputs that the party has are right. If its scheduler was not restored and says SUCCESS, all
//     parts have succeeded. Any other end is the one that the job's kind must have, or names the restored
//     party. A participant may also have the failure with which its own container noticed that another one
//     was gone, or whose log names the restored party; or its container was killed by a fault, and no
//     scheduler started it again.
//   - A party lacks a touched job only if it was restored, or if its scheduler was, or if the job's
//     submission was refused because of the restore. Its client loses a job only where the scheduler lost it.

// touch is what restores of one party have done to a job.
type touch struct {
	forgotten bool // the party has, or had after one of them, no rows of it
}

// ended reports whether a party has a job as ended, in all roles in which it has it. A scheduler may have
// been stopped before it created its own part.
func (r *rows) ended() bool {
	over := func(state string) bool { return state == "" || state == "FINISHED" }
	return r != nil && over(r.job) && over(r.scheduled)
}

// touched returns the parties whose restore has touched a job.
func (f *observations) touched(j *jobRun) map[string]touch {
	touched := map[string]touch{}
	for _, k := range f.restorations {
		isPart := slices.Contains(slices.Collect(maps.Values(j.Roles)), k.party)
		until := k.finishEnded
		if k.kind == faultLoseStorage && k.ready.After(until) { // its datasets were lost until then
			until = k.ready
		}
		if !isPart || k.finishEnded.IsZero() || !until.After(j.began) {
			continue
		}
		r := k.after[j.ID]
		if whole := r.ended() && r.job != "" && (k.party != j.Roles["guest"] || r.scheduled != ""); !whole {
			// A later restore may bring back what an earlier one has forgotten.
			forgotten := k.finished[j.ID] == nil && k.finishEnded.After(j.began)
			touched[k.party] = touch{forgotten: forgotten || touched[k.party].forgotten}
		}
	}
	return touched
}

// noted reports whether a party has noted on a job that a restore of its storage lost an output, "task role
// output". The note has the name that the job gives it.
func (f *observations) noted(j *jobRun, party, output string) bool {
	restored := slices.ContainsFunc(f.restorations, func(k *restoration) bool {
		return k.party == party && k.kind.concernsStorage()
	})
	r := f.rows[party][j.ID]
	if !restored || r == nil || r.keys[output] == "" {
		return false
	}
	parts := strings.Fields(output)
	name := fmt.Sprintf("%s.0 %s.%s", parts[1], parts[0], r.keys[output])
	return slices.ContainsFunc(strings.Split(r.note, "\n"), func(line string) bool {
		lost, found := strings.CutPrefix(line, "lost from the storage in a restore: ")
		return found && slices.Contains(strings.Split(lost, ", "), name)
	})
}

// checkTouched checks a job that restores have touched.
func checkTouched(f *observations, j *jobRun, touched map[string]touch, found *findings) {
	wrong := found.wrongAbout(j)
	guest := j.Roles["guest"]
	_, schedulerTouched := touched[guest]
	anyForgot := slices.ContainsFunc(slices.Collect(maps.Values(touched)),
		func(t touch) bool { return t.forgotten })
	switch {
	case !j.ended.IsZero(), j.unknown && touched[guest].forgotten, j.refusal != "" && anyForgot:
	default:
		found.lost = append(found.lost,
			fmt.Sprintf("job %s (%s) of %s has no end for its client: unknown %t, refusal %q, last error: %v",
				j.ID, j.Kind, guest, j.unknown, j.refusal, j.err))
	}

	scheduler := f.rows[guest][j.ID]
	if scheduler != nil && scheduler.scheduled == "" {
		scheduler = nil
	}
	for _, name := range j.Roles {
		r := f.rows[name][j.ID]
		if r == nil || r.job == "" {
			if !touched[name].forgotten && !schedulerTouched && j.refusal == "" {
				note(&found.lost, "job %s (%s) is unknown at %s", j.ID, j.Kind, name)
			}
			continue
		}
		if r.job != "FINISHED" {
			wrong("is not FINISHED at %s: %+v", name, r)
		}
		_, ownTouch := touched[name]
		for _, t := range r.tasks {
			if scheduler == nil || schedulerTouched || ownTouch {
				checkOwnTask(f, j, name, r, t, found, wrong)
			} else {
				checkTask(f, j, name, r, t, scheduler, found, wrong)
			}
		}
		checkClaim(f, j, touched, name, "participant", r.outcome == "SUCCESS", r.jobFailure, found, wrong)
		if r.outcome == "SUCCESS" && scheduler != nil && !schedulerTouched && scheduler.failure != "" {
			wrong("succeeded at %s, and failed at its scheduler: %s", name, scheduler.failure)
		}
	}
	if scheduler == nil {
		return
	}
	if scheduler.scheduled != "FINISHED" {
		wrong("is %s at its scheduler %s", scheduler.scheduled, guest)
	}
	success, _ := countParts(scheduler, wrong)
	if scheduler.failure == "" && success != len(scheduler.parts) {
		wrong("succeeded at its scheduler without all of its parts: %+v", scheduler.parts)
	}
	checkClaim(f, j, touched, guest, "scheduler", scheduler.failure == "", scheduler.failure, found, wrong)
}

// checkClaim checks what a party says about the end of a touched job.
func checkClaim(f *observations, j *jobRun, touched map[string]touch, party, side string, success bool,
	failure string, found *findings, wrong func(string, ...any)) {
	if !success {
		if !explains(f, j, touched, side, failure) {
			wrong("ended at %s, its %s, for no reason that it must have: %s", party, side, failure)
		}
		return
	}
	if j.Kind == jobFails || j.Kind == jobStops {
		wrong("is SUCCESS at %s, its %s", party, side)
		return
	}
	for _, part := range f.partsOf(j.Kind) {
		task, role, _ := strings.Cut(part, " ")
		ran := func(name string) bool { return strings.HasPrefix(name, "hutong-"+j.ID+"-"+task+"-"+role+".") }
		at := j.Roles[role]
		if !slices.ContainsFunc(slices.Collect(maps.Keys(f.created[at])), ran) {
			note(&found.lost, "job %s (%s) is SUCCESS at %s, but no container of %s was created at %s", j.ID,
				j.Kind, party, part, at)
		}
	}
	if side == "participant" {
		checkOutputs(f, j, party, nil, wrong)
		return
	}
	for _, at := range j.Roles { // those that say SUCCESS too are checked above
		if r := f.rows[at][j.ID]; r == nil || r.outcome != "SUCCESS" {
			// A restored party may have lost them with the end of its part.
			mayLack := func() bool { _, restored := touched[at]; return restored }
			checkOutputs(f, j, at, mayLack, wrong)
		}
	}
}

// partsOf returns the parts, "task role", of jobs of a kind, from one that succeeded without a restore.
func (f *observations) partsOf(kind JobKind) (found []string) {
	for _, j := range f.jobs {
		r := f.rows[j.Roles["guest"]][j.ID]
		if j.Kind == kind && r != nil && r.scheduled == "FINISHED" && r.failure == "" &&
			len(f.touched(j)) == 0 {
			for _, p := range r.parts {
				found = append(found, p.task+" "+p.role)
			}
			return found
		}
	}
	return nil
}

// explains reports whether a touched job may have ended with a failure at a scheduler or a participant: that
// of its kind, or one that names the restored party.
func explains(f *observations, j *jobRun, touched map[string]touch, side, failure string) bool {
	if j.Kind == jobFails && isFailure(failure, "exit_code", 3) ||
		j.Kind == jobStops && isFailure(failure, "stopped", 0) {
		return true
	}
	killed := f.kills > 0 && isFailure(failure, "killed", 137)
	if side == "participant" && (isFailure(failure, "temporary", 75) || killed) {
		return true
	}
	var parsed struct {
		Message string   `json:"message"`
		NodeID  string   `json:"node_id"`
		By      string   `json:"by"`
		Log     []string `json:"log"`
	}
	if json.Unmarshal([]byte(failure), &parsed) != nil {
		return false
	}
	names := func(node string) bool {
		return parsed.NodeID == node || parsed.By == node || strings.Contains(parsed.Message, node) ||
			strings.Contains(strings.Join(parsed.Log, "\n"), node)
	}
	for name := range touched {
		if node := f.nodes[name]; node != "" && names(node) {
			return true
		}
	}
	// The scheduler does not have the log of the container whose failure it was.
	for name, node := range f.nodes {
		r := f.rows[name][j.ID]
		if side == "scheduler" && node != "" && node == parsed.NodeID && r != nil && r.jobFailure != "" &&
			explains(f, j, touched, "participant", r.jobFailure) {
			return true
		}
	}
	return false
}

// summary returns the states and failures in a party's rows of a job.
func (r *rows) summary() string {
	if r == nil {
		return "none"
	}
	text := fmt.Sprintf("%s %s %s, as scheduler %s %s", r.job, r.outcome, r.jobFailure, r.scheduled,
		r.failure)
	var lines []string
	for _, t := range r.tasks {
		lines = append(lines, fmt.Sprintf("%s %s.%d %s %s", t.name, t.role, t.index, t.state, t.taskID))
	}
	for _, p := range r.parts {
		lines = append(lines,
			fmt.Sprintf("scheduled %s %s.%d %s %s", p.task, p.role, p.index, p.state, p.taskID))
	}
	slices.Sort(lines)
	return text + ": " + strings.Join(lines, ", ")
}

// succeeded reports whether a party says in one of its roles that a job succeeded.
func (r *rows) succeeded() bool {
	return r != nil && (r.job == "FINISHED" && r.outcome == "SUCCESS" ||
		r.scheduled == "FINISHED" && r.failure == "")
}

// note adds a finding to a list.
func note(list *[]string, format string, args ...any) {
	*list = append(*list, fmt.Sprintf(format, args...))
}

// checkRestorations checks each restore, and that it stays in effect until the party's next one.
func checkRestorations(f *observations, found *findings) {
	if f.restoresPlanned > 0 && len(f.restorations) == 0 {
		found.wrong = append(found.wrong, "no restore was done")
	}
	last := map[string]*restoration{}
	for _, k := range f.restorations {
		for _, problem := range k.problems {
			found.wrong = append(found.wrong, fmt.Sprintf("%s of %s: %s", k.kind, k.party, problem))
		}
		if k.finishEnded.IsZero() {
			continue
		}
		last[k.party] = k
		for id, r := range k.finished {
			before := k.after[id]
			if !r.ended() {
				note(&found.lost, "job %s is open at %s after its restore (%s) was finished: %+v", id, k.party,
					k.kind, r)
			}
			if r.succeeded() && !before.succeeded() || before.ended() && before.summary() != r.summary() {
				note(&found.wrong, "hutong restore finish of %s (%s) changed job %s: %s, then %s", k.party,
					k.kind, id, before.summary(), r.summary())
			}
		}
	}
	for party, k := range last {
		checkAfterRestore(f, party, k, found)
	}
	checkLateContainers(f, found)
}

// checkAfterRestore checks that nothing has changed since a restore about the jobs from before it.
func checkAfterRestore(f *observations, party string, k *restoration, found *findings) {
	for _, j := range f.jobs {
		now, then := f.rows[party][j.ID], k.finished[j.ID]
		switch {
		case then == nil && now != nil && j.began.Before(k.finishBegan):
			note(&found.duplicated, "job %s (%s) is at %s again, after its restore (%s) had lost it: %s", j.ID,
				j.Kind, party, k.kind, now.summary())
		case then != nil && now == nil:
			note(&found.lost, "job %s (%s) vanished at %s after its restore (%s)", j.ID, j.Kind, party,
				k.kind)
		case then != nil && now.summary() != then.summary():
			note(&found.wrong, "job %s (%s) changed at %s after its restore (%s): %s, then %s", j.ID, j.Kind,
				party, k.kind, then.summary(), now.summary())
		}
	}
}

// placeholderSuffix ends the name of a container with which the Docker driver stops one that has not started.
const placeholderSuffix = ".stopped-before-start"

// checkLateContainers checks that no restored party created a container of a job from before its restore.
func checkLateContainers(f *observations, found *findings) {
	for _, k := range f.restorations {
		if k.finishEnded.IsZero() {
			continue
		}
		for name, times := range f.created[k.party] {
			j := f.jobOf(name)
			late := slices.ContainsFunc(times, func(at time.Time) bool { return at.After(k.finishEnded) })
			// A placeholder never starts: it keeps another container from getting the name.
			late = late && !strings.HasSuffix(name, placeholderSuffix)
			if j != nil && late && j.began.Before(k.finishBegan) {
				note(&found.duplicated, "%s at %s was created after the restore (%s) that ended its job", name,
					k.party, k.kind)
			}
		}
	}
}

// restoreFigures returns what restores have done.
func (f *observations) restoreFigures() string {
	done, refused, interrupted := 0, 0, 0
	for _, k := range f.restorations {
		if !k.finishEnded.IsZero() {
			done++
		}
		if k.refused {
			refused++
		}
		if k.interrupted {
			interrupted++
		}
	}
	touched, forgotten, refusals, kept := 0, 0, 0, 0
	for _, j := range f.jobs {
		t := f.touched(j)
		if len(t) == 0 {
			continue
		}
		touched++
		for _, one := range t {
			if one.forgotten {
				forgotten++
				break
			}
		}
		if j.refusal != "" {
			refusals++
		}
		for _, name := range j.Roles {
			if f.rows[name][j.ID].succeeded() {
				kept++
				break
			}
		}
	}
	return fmt.Sprintf("restores: %d of %d planned, %d with a start refused before, %d with an interrupted "+
		"finish\njobs that they touched: %d of %d; a restored party has forgotten %d and refused %d, some party "+
		"has %d as SUCCESS", done, f.restoresPlanned, refused, interrupted, touched, len(f.jobs), forgotten,
		refusals, kept)
}
