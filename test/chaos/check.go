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

	"github.com/uptrace/bun/driver/pgdriver"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// findings are what the checker holds against a run. All of them should be empty.
type findings struct {
	lost, duplicated, orphaned, wrong []string
}

func (f *findings) ok() bool {
	return len(f.lost)+len(f.duplicated)+len(f.orphaned)+len(f.wrong) == 0
}

// taskRow is a row of t_task.
type taskRow struct {
	name, role, state, taskID, runName, failure string
	index, attempt                              int
}

// partRow is what a scheduler knows of a part.
type partRow struct {
	task, role, node, state, taskID, failure string
	index, attempt                           int
}

// rows are what one party's database tells of one job.
type rows struct {
	job, scheduled string // states; empty: there is no row
	failure        string // of the scheduler, why the job did not go well
	tasks          []taskRow
	parts          []partRow
	outputs        map[string]string // by "task role": the task id under which they lie
}

// database opens a party's database, to read it.
func (p *party) openDatabase() (*sql.DB, error) {
	u, err := url.Parse(p.database)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "sqlite" {
		return sql.Open("sqlite", "file:"+u.Path+"?mode=ro&_pragma=busy_timeout(10000)")
	}
	return sql.OpenDB(pgdriver.NewConnector(pgdriver.WithNetwork("unix"), pgdriver.WithAddr(filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432")),
		pgdriver.WithUser("postgres"), pgdriver.WithDatabase(strings.TrimPrefix(u.Path, "/")), pgdriver.WithInsecure(true))), nil
}

// readRows reads all jobs of a party, by id.
func readRows(ctx context.Context, db *sql.DB) (map[string]*rows, error) {
	all := map[string]*rows{}
	of := func(id string) *rows {
		if all[id] == nil {
			all[id] = &rows{outputs: map[string]string{}}
		}
		return all[id]
	}
	each := func(query string, row func(scan func(...any) error) error) error {
		found, err := db.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		defer func() { _ = found.Close() }()
		for found.Next() {
			if err := row(found.Scan); err != nil {
				return err
			}
		}
		return found.Err()
	}
	var id string
	if err := each("SELECT job_id, state FROM t_job", func(scan func(...any) error) error {
		var state string
		err := scan(&id, &state)
		of(id).job = state
		return err
	}); err != nil {
		return nil, err
	}
	if err := each("SELECT job_id, state, COALESCE(failure, '') FROM t_schedule_job", func(scan func(...any) error) error {
		var state, explanation string
		err := scan(&id, &state, &explanation)
		of(id).scheduled, of(id).failure = state, explanation
		return err
	}); err != nil {
		return nil, err
	}
	if err := each("SELECT job_id, name, role, role_index, attempt, state, task_id, container_name, COALESCE(failure, '') FROM t_task", func(scan func(...any) error) error {
		var t taskRow
		err := scan(&id, &t.name, &t.role, &t.index, &t.attempt, &t.state, &t.taskID, &t.runName, &t.failure)
		of(id).tasks = append(of(id).tasks, t)
		return err
	}); err != nil {
		return nil, err
	}
	if err := each(`SELECT t.job_id, t.name, p.role, p.role_index, p.node_id, p.state, t.task_id, t.attempt, COALESCE(p.failure, '')
		FROM t_schedule_task t JOIN t_schedule_part p ON p.task_id = t.task_id`, func(scan func(...any) error) error {
		var p partRow
		err := scan(&id, &p.task, &p.role, &p.index, &p.node, &p.state, &p.taskID, &p.attempt, &p.failure)
		of(id).parts = append(of(id).parts, p)
		return err
	}); err != nil {
		return nil, err
	}
	err := each("SELECT job_id, task_name, role, task_id FROM t_task_output", func(scan func(...any) error) error {
		var task, role, taskID string
		err := scan(&id, &task, &role, &taskID)
		of(id).outputs[task+" "+role] = taskID
		return err
	})
	return all, err
}

// facts are all that the checker looks at.
type observations struct {
	jobs            []*jobRun
	rows            map[string]map[string]*rows // by party, then job
	created         map[string]map[string]int   // by party, then run
	leftovers       []string                    // what is there that should be gone
	unreadable      []string                    // why results of jobs could not be read
	limitViolations []string                    // where jobs held more room than they may
	results         map[string]map[string]string
	expected        map[JobKind]map[string]string
}

// judge holds the facts of a run against what must be.
func check(f *observations) *findings {
	v := &findings{orphaned: f.leftovers, wrong: slices.Concat(f.unreadable, f.limitViolations)}
	known := map[string]bool{}
	for _, j := range f.jobs {
		known[j.ID] = true
		checkJob(f, j, v)
	}
	for party, jobs := range f.rows {
		for id := range jobs {
			if !known[id] {
				v.wrong = append(v.wrong, fmt.Sprintf("%s has job %s, which nobody submitted", party, id))
			}
		}
	}
	for party, runs := range f.created {
		for run, n := range runs {
			if n > 1 {
				v.duplicated = append(v.duplicated, fmt.Sprintf("%s at %s was created %d times", run, party, n))
			}
			if !slices.ContainsFunc(f.jobs, func(j *jobRun) bool { return strings.HasPrefix(run, "hutong-"+j.ID+"-") }) {
				v.orphaned = append(v.orphaned, fmt.Sprintf("%s at %s is of no job", run, party))
			}
		}
	}
	return v
}

func checkJob(f *observations, j *jobRun, v *findings) {
	guest := j.Roles["guest"]
	scheduler := f.rows[guest][j.ID]
	if j.ended.IsZero() || scheduler == nil || scheduler.scheduled != "FINISHED" {
		v.lost = append(v.lost, fmt.Sprintf("job %s (%s) of %s has not ended: %+v, %v", j.ID, j.Kind, guest, scheduler, j.err))
		return
	}
	wrong := func(format string, args ...any) {
		v.wrong = append(v.wrong, fmt.Sprintf("job %s (%s): ", j.ID, j.Kind)+fmt.Sprintf(format, args...))
	}
	for _, name := range j.Roles {
		r := f.rows[name][j.ID]
		if r == nil || r.job != "FINISHED" {
			wrong("is not FINISHED at %s: %+v", name, r)
			continue
		}
		for _, t := range r.tasks {
			checkTask(f, j, name, r, t, scheduler, v, wrong)
		}
	}
	failed, success := 0, 0
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
	switch j.Kind {
	case jobFails:
		told := slices.ContainsFunc(scheduler.parts, func(p partRow) bool {
			return p.task == "s1" && p.state == "FAILED" && isFailure(p.failure, "exit_code", 3)
		})
		if failed == 0 || success > 0 || !told || !isFailure(scheduler.failure, "exit_code", 3) {
			wrong("did not fail as it must: %+v", scheduler.parts)
		}
	case jobStops:
		if success > 0 {
			wrong("a task of 60 seconds succeeded before its stop: %+v", scheduler.parts)
		}
		if !isFailure(scheduler.failure, "stopped", 0) {
			wrong("was stopped, and is told as %s", scheduler.failure)
		}
	default:
		if success != len(scheduler.parts) {
			wrong("did not succeed: %+v", scheduler.parts)
		}
		for key, content := range f.expected[j.Kind] {
			if got, there := f.results[j.ID][key]; !there {
				wrong("output %s is missing", key)
			} else if got != content {
				wrong("output %s is not what it was without faults (%d bytes, then %d)", key, len(content), len(got))
			}
		}
	}
}

// explains tells whether an explanation, as a database holds it, is of a kind of failure and an exit code.
func isFailure(explanation, kind string, exitCode int) bool {
	var told struct {
		Kind     string `json:"kind"`
		ExitCode int    `json:"exit_code"`
	}
	return json.Unmarshal([]byte(explanation), &told) == nil && told.Kind == kind && told.ExitCode == exitCode
}

func checkTask(f *observations, j *jobRun, party string, r *rows, t taskRow, scheduler *rows, v *findings, wrong func(string, ...any)) {
	part := fmt.Sprintf("task %s %s.%d", t.name, t.role, t.index)
	i := slices.IndexFunc(scheduler.parts, func(p partRow) bool { return p.task == t.name && p.role == t.role && p.index == t.index })
	if i < 0 {
		wrong("%s at %s is not known to its scheduler", part, party)
		return
	}
	told := scheduler.parts[i]
	// A part that ended well just as the job was ended elsewhere may be told as stopped, never the other way.
	if t.state != told.state && !(t.state == "SUCCESS" && told.state == "FAILED") && !(t.state == "READY" && told.state == "FAILED") {
		wrong("%s is %s at %s, its scheduler says %s", part, t.state, party, told.state)
	}
	if t.state == "RUNNING" {
		wrong("%s is RUNNING at %s", part, party)
	}
	if t.state == "SUCCESS" && t.taskID != told.taskID {
		wrong("%s succeeded at %s as another attempt than its scheduler's", part, party)
	}
	if id, there := r.outputs[t.name+" "+t.role]; there && id != t.taskID {
		v.duplicated = append(v.duplicated, fmt.Sprintf("job %s: %s at %s has outputs of an attempt that does not count", j.ID, part, party))
	}
	if t.state == "SUCCESS" && f.created[party][t.runName] == 0 {
		v.lost = append(v.lost, fmt.Sprintf("job %s: %s at %s is SUCCESS, and %s was never created", j.ID, part, party, t.runName))
	}
}
