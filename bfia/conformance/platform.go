package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"hutong/bfia"
)

// platform returns the checks of the endpoints for a party's own clients.
func platform() []Check {
	list := func(query string) func(context.Context, *session) (string, error) {
		return func(ctx context.Context, s *session) (string, error) {
			t := s.submitted
			if t == nil {
				return "", &skipError{"no job was submitted"}
			}
			a, err := s.askQuery(ctx, bfia.PathPlatformJobList, strings.ReplaceAll(query, "FLOW", t.flow))
			if err != nil {
				return "", err
			}
			jobs, err := a.mapField("job_list")
			if err != nil && !isDeviation(err) {
				return "", err
			}
			word, ok := jobs[t.id]
			if !ok || !slices.Contains(jobStates, word) {
				return "", fmt.Errorf("job %s is %q in a list of %d", t.id, word, len(jobs))
			}
			if query != "" && len(jobs) != 1 {
				return "", fmt.Errorf("the flow has one job, the list %d", len(jobs))
			}
			return fmt.Sprintf("%s of %d", word, len(jobs)), worst(a.checkSuccess(), err)
		}
	}
	return []Check{
		missingField(bfia.PathPlatformCreateAll, "dag", "2/5.1",
			constantBody(map[string]any{"dag": map[string]any{}, "config": map[string]any{}})),
		missingField(bfia.PathPlatformCreateAll, "config", "2/5.1",
			constantBody(map[string]any{"dag": map[string]any{}, "config": map[string]any{}})),
		{
			"POST " + bfia.PathPlatformCreateAll,
			"a job is submitted, and gets an id",
			"2/5.1",
			func(ctx context.Context, s *session) (string, error) {
				t, err := s.newTestJob()
				if err != nil {
					return "", err
				}
				fields := map[string]any{
					"flow_id": t.flow,
					"dag":     jsonOf(t.doc, "dag"),
					"config":  jsonOf(t.doc, "config"),
				}
				a, err := s.ask(ctx, http.MethodPost, bfia.PathPlatformCreateAll, fields)
				if err != nil {
					return "", err
				}
				if err := a.checkSuccess(); err != nil && !isDeviation(err) {
					return "", err
				}
				id, err := a.stringField("job_id")
				if id != "" {
					t.id = id
					s.submitted = t
				}
				return a.String(), worst(err, a.checkSuccess())
			},
		},
		{
			"GET " + bfia.PathPlatformStatusAll,
			"a submitted job's status, job_id in the query",
			"2/5.3",
			func(ctx context.Context, s *session) (string, error) {
				return s.jobState(ctx, s.submitted, jobStates...)
			},
		},
		{
			"GET " + bfia.PathPlatformStatusAll,
			"the job runs to FINISHED, all tasks SUCCESS, by task id",
			"2/5.3",
			func(ctx context.Context, s *session) (string, error) {
				return s.awaitSuccess(ctx, s.submitted)
			},
		},
		{
			"GET " + bfia.PathPlatformStatusAll,
			"an unknown job is refused",
			"2/5.3",
			func(ctx context.Context, s *session) (string, error) {
				a, err := s.askQuery(ctx, bfia.PathPlatformStatusAll, "job_id="+unknownID)
				if err != nil {
					return "", err
				}
				if a.code != nil && *a.code == 0 {
					return "", deviates("is accepted: %s", a)
				}
				return a.String(), a.checkRefusal()
			},
		},
		{"GET " + bfia.PathPlatformJobList, "the jobs of a flow", "2/5.6", list("flow_id=FLOW")},
		{"GET " + bfia.PathPlatformJobList, "the jobs of all flows", "2/5.6", list("")},
		{"POST " + bfia.PathPlatformStopAll, "a job is stopped, and is FINISHED", "2/5.2",
			stopJob(bfia.PathPlatformStopAll, false)},
		{"POST " + bfia.PathPlatformStopTask, "the first task and its dependents are stopped", "2/5.7",
			stopJob(bfia.PathPlatformStopTask, true)},
		missingField(bfia.PathPlatformStopAll, "job_id", "2/5.2",
			constantBody(map[string]any{"job_id": unknownID})),
		missingField(bfia.PathPlatformStopTask, "task_name", "2/5.7",
			constantBody(map[string]any{"job_id": unknownID, "task_name": "t"})),
	}
}

// jsonOf returns one field of a document as it arrived.
func jsonOf(doc *bfia.Document, field string) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(doc.Bytes(), &fields) != nil {
		return nil
	}
	return fields[field]
}

// stopJob returns a check that submits a job, stops it or its first task, and waits for its end.
func stopJob(path string, task bool) func(context.Context, *session) (string, error) {
	return func(ctx context.Context, s *session) (string, error) {
		t, err := s.newTestJob()
		if err != nil {
			return "", err
		}
		a, err := s.ask(ctx, http.MethodPost, bfia.PathPlatformCreateAll,
			map[string]any{"flow_id": t.flow, "dag": jsonOf(t.doc, "dag"), "config": jsonOf(t.doc, "config")})
		if err != nil {
			return "", err
		}
		if t.id, err = a.stringField("job_id"); t.id == "" {
			return "", err
		}
		ref := bfia.JobRef{JobID: t.id}
		if task {
			for _, c := range t.doc.DAG.Components {
				if len(c.Input) == 0 {
					ref.TaskName = c.Name
					break
				}
			}
		}
		if a, err = s.ask(ctx, http.MethodPost, path, ref); err != nil {
			return "", err
		}
		if err := a.checkSuccess(); err != nil && !isDeviation(err) {
			return "", err
		}
		state, err := s.awaitJob(ctx, t, "FINISHED")
		return state, worst(err, a.checkSuccess())
	}
}

// askQuery sends a GET with its parameters in the query, as in the specification. If that fails, it sends
// them in a JSON body, as FATE-Flow requires.
func (s *session) askQuery(ctx context.Context, path, query string) (*answer, error) {
	full := path
	if query != "" {
		full += "?" + query
	}
	a, err := s.ask(ctx, http.MethodGet, full, nil)
	if err != nil || a.code != nil && *a.code == 0 {
		return a, err
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	body := map[string]string{}
	for name := range values {
		body[name] = values.Get(name)
	}
	b, err := s.ask(ctx, http.MethodGet, path, body)
	if err == nil && b.code != nil && *b.code == 0 {
		return b, nil
	}
	return a, err
}

// jobState returns the state of a job at the tested party, which must be one of the expected ones.
func (s *session) jobState(ctx context.Context, t *testJob, expected ...string) (string, error) {
	if t == nil {
		return "", &skipError{"no job was created"}
	}
	word, _, err := s.platformStatus(ctx, t)
	if err != nil && !isDeviation(err) {
		return "", err
	}
	if word != "" && !slices.Contains(expected, word) {
		return "", fmt.Errorf("job_status is %q, must be one of %s", word, strings.Join(expected, ", "))
	}
	return word, err
}

// platformStatus returns the state of a job and those of its tasks by id. FATE-Flow sends no job_status here.
func (s *session) platformStatus(ctx context.Context, t *testJob) (string, map[string]string, error) {
	a, err := s.askQuery(ctx, bfia.PathPlatformStatusAll, "job_id="+url.QueryEscape(t.id))
	if err != nil {
		return "", nil, err
	}
	form := a.checkSuccess()
	if form != nil && !isDeviation(form) {
		return "", nil, form
	}
	word, wordErr := a.stringField("job_status")
	if wordErr != nil && !isDeviation(wordErr) {
		wordErr = deviates("has no job_status: %s", a)
	}
	tasks, tasksErr := a.mapField("status")
	return word, tasks, worst(tasksErr, wordErr, form)
}

// awaitJob waits until a job has a state.
func (s *session) awaitJob(ctx context.Context, t *testJob, state string) (word string, problem error) {
	if t == nil {
		return "", &skipError{"no job was created"}
	}
	err := s.await(ctx, "job "+t.id+" "+state, func() (bool, error) {
		var err error
		word, _, err = s.platformStatus(ctx, t)
		if err != nil && !isDeviation(err) {
			return false, err
		}
		problem = err
		return word == state || word == "" && isDeviation(err), nil
	})
	return word, worst(err, problem)
}

// awaitSuccess waits until a job has finished with all its tasks successful. It records the ids of the tasks.
func (s *session) awaitSuccess(ctx context.Context, t *testJob) (string, error) {
	if t == nil {
		return "", &skipError{"no job was created"}
	}
	var problem error
	var tasks map[string]string
	err := s.await(ctx, "job "+t.id, func() (bool, error) {
		word, now, err := s.platformStatus(ctx, t)
		if err != nil && !isDeviation(err) {
			return false, err
		}
		problem, tasks = err, now
		for id, state := range now {
			if state == "FAILED" {
				return false, fmt.Errorf("task %s FAILED; the job must succeed at the tested party", id)
			}
		}
		done := len(now) == len(t.doc.DAG.Components)
		for _, state := range now {
			done = done && state == "SUCCESS"
		}
		return done && (word == "FINISHED" || word == ""), nil
	})
	if err != nil {
		return "", err
	}
	t.ended = true
	for id := range tasks {
		t.tasks[id] = id
	}
	return fmt.Sprintf("FINISHED, %d tasks SUCCESS", len(tasks)), problem
}
