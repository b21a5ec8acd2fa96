package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// findings lists what the checker found wrong with a run. A good run has none.
type findings struct {
	lost, duplicated, orphaned, wrong []string
}

func (f *findings) ok() bool {
	return len(f.lost)+len(f.duplicated)+len(f.orphaned)+len(f.wrong) == 0
}

// taskRow is a row of t_task: a part as its participant recorded it.
type taskRow struct {
	name, role, state, taskID, containerName, failure string
	index, attempt                                    int
}

// partRow is a row of t_schedule_task_status: a part as its scheduler recorded it.
type partRow struct {
	task, role, node, state, taskID, failure string
	index, attempt                           int
}

// rows holds what one party's database has of one job.
type rows struct {
	job, scheduled string // states as participant and as scheduler; empty without a row
	failure        string // why the job failed, as its scheduler recorded it
	outcome        string // how the job ended, as its participant recorded it
	jobFailure     string // why the job failed, as its participant recorded it
	note           string // on the job
	tasks          []taskRow
	parts          []partRow
	outputs        map[string]string // task ids of the outputs, by "task role"
	keys           map[string]string // their names in the job, by "task role output"
}

// openDatabase opens a party's database for reading.
func (p *party) openDatabase() (*sql.DB, error) {
	u, err := url.Parse(p.database)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "sqlite" {
		return sql.Open("sqlite", "file:"+u.Path+"?mode=ro&_pragma=busy_timeout(10000)")
	}
	return sql.OpenDB(
		pgdriver.NewConnector(pgdriver.WithNetwork("unix"),
			pgdriver.WithAddr(filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432")),
			pgdriver.WithUser("postgres"), pgdriver.WithDatabase(strings.TrimPrefix(u.Path, "/")),
			pgdriver.WithInsecure(true)),
	), nil
}

// jobRows holds the rows of all jobs of a party, by job id.
type jobRows map[string]*rows

// of returns the rows of a job, which it adds if necessary.
func (all jobRows) of(id string) *rows {
	if all[id] == nil {
		all[id] = &rows{outputs: map[string]string{}, keys: map[string]string{}}
	}
	return all[id]
}

// tables has a query for each table that the checker reads, and what to do with each row.
var tables = []struct {
	query string
	add   func(all jobRows, scan func(...any) error) error
}{
	{`SELECT job_id, state, outcome, COALESCE(failure, '') FROM t_job`,
		func(all jobRows, scan func(...any) error) error {
			var id, state, outcome, failure string
			err := scan(&id, &state, &outcome, &failure)
			all.of(id).job, all.of(id).outcome, all.of(id).jobFailure = state, outcome, failure
			return err
		}},
	{"SELECT job_id, note FROM t_job_note", func(all jobRows, scan func(...any) error) error {
		var id, note string
		err := scan(&id, &note)
		all.of(id).note = note
		return err
	}},
	{`SELECT job_id, state, COALESCE(failure, '') FROM t_schedule_job`,
		func(all jobRows, scan func(...any) error) error {
			var id, state, failure string
			err := scan(&id, &state, &failure)
			all.of(id).scheduled, all.of(id).failure = state, failure
			return err
		}},
	{`SELECT job_id, name, role, role_index, attempt, state, task_id, container_name, COALESCE(failure, '')
		FROM t_task`, func(all jobRows, scan func(...any) error) error {
		var id string
		var t taskRow
		err := scan(&id, &t.name, &t.role, &t.index, &t.attempt, &t.state, &t.taskID, &t.containerName,
			&t.failure)
		all.of(id).tasks = append(all.of(id).tasks, t)
		return err
	}},
	{`SELECT t.job_id, t.name, p.role, p.role_index, p.node_id, p.state, t.task_id, t.attempt,
			COALESCE(p.failure, '')
		FROM t_schedule_task t JOIN t_schedule_part p ON p.task_id = t.task_id`,
		func(all jobRows, scan func(...any) error) error {
			var id string
			var p partRow
			err := scan(&id, &p.task, &p.role, &p.index, &p.node, &p.state, &p.taskID, &p.attempt, &p.failure)
			all.of(id).parts = append(all.of(id).parts, p)
			return err
		}},
	{"SELECT job_id, task_name, role, task_id, key, port FROM t_task_output",
		func(all jobRows, scan func(...any) error) error {
			var id, task, role, taskID, key, port string
			err := scan(&id, &task, &role, &taskID, &key, &port)
			all.of(id).outputs[task+" "+role] = taskID
			all.of(id).keys[task+" "+role+" "+port] = key
			return err
		}},
}

// readRows reads all jobs of a party, by id.
func readRows(ctx context.Context, db *sql.DB) (map[string]*rows, error) {
	all := jobRows{}
	for _, table := range tables {
		found, err := db.QueryContext(ctx, table.query)
		if err != nil {
			return nil, err
		}

		for err == nil && found.Next() {
			err = table.add(all, found.Scan)
		}
		if err == nil {
			err = found.Err()
		}
		_ = found.Close()
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// observations holds everything that the checker examines.
type observations struct {
	jobs            []*jobRun
	nodes           map[string]string                 // node ids, by party
	rows            map[string]map[string]*rows       // by party, then job
	created         map[string]map[string][]time.Time // by party, then run: when it was created
	leftovers       []string                          // what exists and should have been removed
	sessions        []session                         // that transports keep
	limitViolations []string                          // where jobs held more slots than allowed
	trustViolations []string                          // signed requests that counted twice, broken trails
	wrongVersions   []string                          // processes that run another version at the end
	results         map[string]map[string]string      // by job: content by "task role output"
	unreadable      map[string]map[string]string      // by job: why one of these, or a party's, lack
	expected        map[JobKind]map[string]string
	kills           int // faults that may have killed a container
	restoresPlanned int
	restorations    []*restoration
}

// check compares the observations of a run with what must hold, and returns the violations.
func check(f *observations) *findings {
	found := &findings{orphaned: slices.Concat(f.leftovers, f.orphanedSessions()),
		wrong: slices.Concat(f.limitViolations, f.trustViolations, f.wrongVersions)}
	known := map[string]bool{}
	for _, j := range f.jobs {
		known[j.ID] = true
		if t := f.touched(j); len(t) > 0 {
			checkTouched(f, j, t, found)
		} else {
			checkJob(f, j, found)
		}
	}
	for party, jobs := range f.rows {
		for id := range jobs {
			if !known[id] {
				found.wrong = append(found.wrong,
					fmt.Sprintf("%s has job %s, which no client submitted", party, id))
			}
		}
	}
	for party, containers := range f.created {
		for name, times := range containers {
			if len(times) > 1 {
				found.duplicated = append(found.duplicated,
					fmt.Sprintf("%s at %s was created %d times", name, party, len(times)))
			}
			if f.jobOf(name) == nil {
				found.orphaned = append(found.orphaned,
					fmt.Sprintf("%s at %s belongs to no job", name, party))
			}
		}
	}
	checkRestorations(f, found)
	return found
}

// jobOf returns the job of a container, or nil.
func (f *observations) jobOf(container string) *jobRun {
	i := slices.IndexFunc(f.jobs,
		func(j *jobRun) bool { return strings.HasPrefix(container, "hutong-"+j.ID+"-") })
	if i < 0 {
		return nil
	}
	return f.jobs[i]
}

// checkJob checks one job at its scheduler and its participants.
func checkJob(f *observations, j *jobRun, found *findings) {
	guest := j.Roles["guest"]
	scheduler := f.rows[guest][j.ID]
	if j.ended.IsZero() || scheduler == nil || scheduler.scheduled != "FINISHED" {
		found.lost = append(found.lost,
			fmt.Sprintf("job %s (%s) of %s has not ended: %+v, last error of its client: %v",
				j.ID, j.Kind, guest, scheduler, j.err))
		return
	}
	wrong := found.wrongAbout(j)

	for _, name := range j.Roles {
		r := f.rows[name][j.ID]
		if r == nil || r.job != "FINISHED" {
			wrong("is not FINISHED at %s: %+v", name, r)
			continue
		}
		for _, t := range r.tasks {
			checkTask(f, j, name, r, t, scheduler, found, wrong)
		}
	}
	checkEnd(f, j, scheduler, wrong)
}

// wrongAbout returns a function that adds what is wrong about a job.
func (f *findings) wrongAbout(j *jobRun) func(format string, args ...any) {
	return func(format string, args ...any) {
		f.wrong = append(f.wrong, fmt.Sprintf("job %s (%s): ", j.ID, j.Kind)+fmt.Sprintf(format, args...))
	}
}

// countParts returns how many parts of a job succeeded and failed at its scheduler. None may run.
func countParts(scheduler *rows, wrong func(string, ...any)) (success, failed int) {
	for _, p := range scheduler.parts {
		switch p.state {
		case "SUCCESS":
			success++
		case "FAILED":
			failed++
		case "RUNNING":
			wrong("task %s %s is RUNNING at its scheduler", p.task, p.role)
		}
	}
	return success, failed
}

// checkEnd checks that a job ended as its kind must.
func checkEnd(f *observations, j *jobRun, scheduler *rows, wrong func(string, ...any)) {
	success, failed := countParts(scheduler, wrong)
	switch j.Kind {
	case jobFails:
		reported := slices.ContainsFunc(scheduler.parts, func(p partRow) bool {
			return p.task == "s1" && p.state == "FAILED" && isFailure(p.failure, "exit_code", 3)
		})
		if failed == 0 || success > 0 || !reported || !isFailure(scheduler.failure, "exit_code", 3) {
			wrong("did not fail as expected: %+v", scheduler.parts)
		}

	case jobStops:
		if success > 0 {
			wrong("a task of 60 seconds succeeded before its stop: %+v", scheduler.parts)
		}
		if !isFailure(scheduler.failure, "stopped", 0) {
			wrong("was stopped, and its failure is %s", scheduler.failure)
		}

	default:
		if success != len(scheduler.parts) {
			wrong("did not succeed: %+v", scheduler.parts)
		}
		for _, name := range j.Roles {
			checkOutputs(f, j, name, nil, wrong)
		}
	}
}

// checkOutputs compares a job's outputs at a party with those of the run without faults. An output may lack
// only if the party has noted on the job that a restore of its storage lost it, or if mayLack is set.
func checkOutputs(f *observations, j *jobRun, party string, mayLack func() bool, wrong func(string, ...any)) {
	for key, content := range f.expected[j.Kind] {
		if role := strings.Fields(key)[1]; j.Roles[role] != party {
			continue
		}
		got, there := f.results[j.ID][key]
		switch {
		case there && got != content:
			wrong("output %s differs from the run without faults (%d bytes, now %d)", key, len(content), len(got))
		case there, f.noted(j, party, key), mayLack != nil && mayLack():
		default:
			wrong("output %s is missing: %s %s", key, f.unreadable[j.ID][key], f.unreadable[j.ID][party])
		}
	}
}

// isFailure reports whether a failure, as a database holds it, has a kind and an exit code.
func isFailure(text, kind string, exitCode int) bool {
	var f struct {
		Kind     string `json:"kind"`
		ExitCode int    `json:"exit_code"`
	}
	return json.Unmarshal([]byte(text), &f) == nil && f.Kind == kind && f.ExitCode == exitCode
}

// checkTask compares a participant's row of a part with its scheduler's row, its outputs and its containers.
func checkTask(f *observations, j *jobRun, party string, r *rows, t taskRow, scheduler *rows, v *findings,
	wrong func(string, ...any)) {
	part := fmt.Sprintf("task %s %s.%d", t.name, t.role, t.index)
	i := slices.IndexFunc(scheduler.parts,
		func(p partRow) bool { return p.task == t.name && p.role == t.role && p.index == t.index })
	if i < 0 {
		wrong("%s at %s is unknown to its scheduler", part, party)
		return
	}
	scheduled := scheduler.parts[i]

	// A part that succeeded just as the job was stopped elsewhere may be recorded as failed, never the
	// reverse.
	stopped := scheduled.state == "FAILED" && (t.state == "SUCCESS" || t.state == "READY")
	if t.state != scheduled.state && !stopped {
		wrong("%s is %s at %s, and %s at its scheduler", part, t.state, party, scheduled.state)
	}
	if t.state == "SUCCESS" && t.taskID != scheduled.taskID {
		wrong("%s succeeded at %s in another attempt than at its scheduler", part, party)
	}
	checkOwnTask(f, j, party, r, t, v, wrong)
}

// checkOwnTask compares a participant's row of a part with its outputs and its containers.
func checkOwnTask(f *observations, j *jobRun, party string, r *rows, t taskRow, v *findings,
	wrong func(string, ...any)) {
	part := fmt.Sprintf("task %s %s.%d", t.name, t.role, t.index)
	if t.state == "RUNNING" {
		wrong("%s is RUNNING at %s", part, party)
	}
	if id, there := r.outputs[t.name+" "+t.role]; there && id != t.taskID {
		v.duplicated = append(v.duplicated,
			fmt.Sprintf("job %s: %s at %s has outputs of a superseded attempt", j.ID, part, party))
	}
	if t.state == "SUCCESS" && len(f.created[party][t.containerName]) == 0 {
		v.lost = append(
			v.lost,
			fmt.Sprintf("job %s: %s at %s is SUCCESS, but its container %s was never created", j.ID, part,
				party, t.containerName),
		)
	}
}
