package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"hutong/bfia"
)

// participant returns the checks of a participant. The checks act as its scheduler.
func participant() []Check {
	document := func(s *session) (map[string]any, error) {
		t, err := s.newTestJob()
		if err != nil {
			return nil, err
		}
		var body map[string]any
		return body, json.Unmarshal(t.doc.Bytes(), &body)
	}
	return []Check{
		missingField(bfia.PathCreate, "job_id", "2/3.2", document),
		missingField(bfia.PathCreate, "dag", "2/3.2", document),
		missingField(bfia.PathCreate, "config", "2/3.2", document),
		{
			"POST " + bfia.PathCreate,
			"a job with unknown fields is accepted",
			"2/3.2",
			func(ctx context.Context, s *session) (string, error) {
				t, err := s.newTestJob()
				if err != nil {
					return "", err
				}
				a, err := s.ask(ctx, http.MethodPost, bfia.PathCreate, t.doc.Bytes())
				if err != nil {
					return "", err
				}
				if err := a.checkSuccess(); err != nil && !isDeviation(err) {
					return "", err
				}
				s.participant = t
				return a.String(), a.checkSuccess()
			},
		},
		{"POST " + bfia.PathCreate, "the same job again is accepted", "2/3.2",
			command(bfia.PathCreate, func(t *testJob) any { return t.doc.Bytes() })},
		{
			"GET " + bfia.PathPlatformStatusAll,
			"a created job is PENDING or READY",
			"2/5.3",
			func(ctx context.Context, s *session) (string, error) {
				return s.jobState(ctx, s.participant, "PENDING", "READY")
			},
		},
		{"POST " + bfia.PathStart, "a job is started", "2/3.3", command(bfia.PathStart, jobRef)},
		{"POST " + bfia.PathStart, "starting it again is accepted", "2/3.3", command(bfia.PathStart, jobRef)},
		missingField(bfia.PathStart, "job_id", "2/3.3", constantBody(map[string]any{"job_id": unknownID})),
		missingField(bfia.PathTaskStart, "task_id", "2/3.4",
			constantBody(map[string]any{"job_id": unknownID, "task_id": unknownID, "task_name": "t"})),
		missingField(bfia.PathTaskStart, "job_id", "2/3.4",
			constantBody(map[string]any{"job_id": unknownID, "task_id": unknownID, "task_name": "t"})),
		missingField(bfia.PathTaskStart, "task_name", "2/3.4",
			constantBody(map[string]any{"job_id": unknownID, "task_id": unknownID, "task_name": "t"})),
		{"POST " + bfia.PathTaskStart,
			"tasks run after their upstream tasks, and their states only move forward", "2/3.4, 2/3.8",
			runTasks},
		{
			"POST " + bfia.PathTaskPoll,
			"the state of a task, for one role and for all",
			"2/3.8",
			func(ctx context.Context, s *session) (string, error) {
				t, name, id, err := s.finishedTask()
				if err != nil {
					return "", err
				}
				roles := []string{""}
				for role := range t.doc.Config.Role {
					roles = append(roles, role)
				}
				var all []error
				for _, role := range roles {
					state, err := s.poll(ctx, id, role)
					if err == nil && state != bfia.TaskSuccess {
						a := fmt.Errorf("task %s of role %q is %s after its end", name, role, state)
						if role != "" { // a component does not have to run at every role
							a = deviates("%v", a)
						}
						err = a
					}
					if role != "" && err != nil && !isDeviation(err) {
						err = deviates("role %q: %v", role, err)
					}
					all = append(all, err)
				}
				return "SUCCESS", worst(all...)
			},
		},
		missingField(bfia.PathTaskPoll, "task_id", "2/3.8",
			constantBody(map[string]any{"task_id": unknownID, "role": ""})),
		{
			"POST " + bfia.PathPlatformCallback,
			"a late callback of a container changes nothing",
			"2/4.1",
			func(ctx context.Context, s *session) (string, error) {
				_, _, id, err := s.finishedTask()
				if err != nil {
					return "", err
				}
				a, err := s.ask(ctx, http.MethodPost, bfia.PathPlatformCallback,
					bfia.TaskReport{TaskID: id, Status: bfia.TaskFailed, Role: s.role()})
				if err != nil {
					return "", err
				}
				if a.code == nil {
					return "", fmt.Errorf("is no envelope: %s", a)
				}
				state, err := s.poll(ctx, id, "")
				if err == nil && state != bfia.TaskSuccess {
					err = fmt.Errorf("the task is %s, and was SUCCESS", state)
				}
				return a.String(), err
			},
		},
		missingField(bfia.PathPlatformCallback, "status", "2/4.1",
			constantBody(map[string]any{"task_id": unknownID, "status": "SUCCESS", "role": "guest"})),
		{
			"POST " + bfia.PathStop,
			"for a task that succeeded it changes nothing",
			"2/3.6",
			func(ctx context.Context, s *session) (string, error) {
				t, name, id, err := s.finishedTask()
				if err != nil {
					return "", err
				}
				a, err := s.ask(ctx, http.MethodPost, bfia.PathStop, bfia.JobRef{JobID: t.id, TaskName: name})
				if err != nil {
					return "", err
				}
				state, err := s.poll(ctx, id, "")
				if err == nil && state != bfia.TaskSuccess {
					err = fmt.Errorf("the task is %s, and was SUCCESS", state)
				}
				return a.String(), worst(a.checkSuccess(), err)
			},
		},
		{
			"POST " + bfia.PathStop,
			"a job is stopped, and is FINISHED",
			"2/3.6",
			func(ctx context.Context, s *session) (string, error) {
				seen, err := command(bfia.PathStop, jobRef)(ctx, s)
				if err != nil && !isDeviation(err) {
					return "", err
				}
				_, stateErr := s.awaitJob(ctx, s.participant, "FINISHED")
				return seen, worst(stateErr, err)
			},
		},
		{"POST " + bfia.PathStop, "stopping it again is accepted", "2/3.6", command(bfia.PathStop, jobRef)},
		missingField(bfia.PathStop, "job_id", "2/3.6", constantBody(map[string]any{"job_id": unknownID})),
	}
}

// isDeviation reports whether an error is a deviation that Hutong accepts.
func isDeviation(err error) bool {
	var d *deviation
	return errors.As(err, &d)
}

func jobRef(t *testJob) any { return bfia.JobRef{JobID: t.id} }

// command returns a check of a command for the job in which the tested party takes part.
func command(path string, body func(*testJob) any) func(context.Context, *session) (string, error) {
	return func(ctx context.Context, s *session) (string, error) {
		if s.participant == nil {
			return "", &skipError{"no job was created"}
		}
		a, err := s.ask(ctx, http.MethodPost, path, body(s.participant))
		if err != nil {
			return "", err
		}
		return a.String(), a.checkSuccess()
	}
}

// runTasks runs the DAG: it starts each task after its upstream tasks have succeeded, and polls it until it
// has succeeded.
func runTasks(ctx context.Context, s *session) (string, error) {
	t := s.participant
	if t == nil {
		return "", &skipError{"no job was created"}
	}
	var problem error
	for len(t.tasks) < len(t.doc.DAG.Components) {
		before := len(t.tasks)
		for _, c := range t.doc.DAG.Components {
			waits := slices.ContainsFunc(c.Upstreams(), func(up string) bool { return t.tasks[up] == "" })
			if t.tasks[c.Name] != "" || waits {
				continue
			}
			id := uuid.NewString()
			a, err := s.ask(ctx, http.MethodPost, bfia.PathTaskStart,
				bfia.TaskRef{JobID: t.id, TaskID: id, TaskName: c.Name})
			if err != nil {
				return "", err
			}
			if problem = worst(problem, a.checkSuccess()); problem != nil && !isDeviation(problem) {
				return "", problem
			}
			if err := s.awaitTask(ctx, c.Name, id); err != nil && !isDeviation(err) {
				return "", err
			} else if problem == nil {
				problem = err
			}
			t.tasks[c.Name] = id
		}
		if len(t.tasks) == before {
			return "", errors.New("the job's tasks wait for each other")
		}
	}
	t.ended = true
	return fmt.Sprintf("%d tasks SUCCESS", len(t.tasks)), problem
}

// awaitTask polls a task until it has succeeded.
func (s *session) awaitTask(ctx context.Context, name, id string) (problem error) {
	state := bfia.TaskState("")
	err := s.await(ctx, "task "+name, func() (bool, error) {
		now, err := s.poll(ctx, id, "")
		if err != nil && !isDeviation(err) {
			if state == "" { // the task may appear a moment after it was accepted
				return false, nil
			}
			return false, err
		}
		problem = worst(problem, err)
		if state != "" && state.Next(now) != now {
			return false, fmt.Errorf("task %s was %s and is %s", name, state, now)
		}
		state = now
		if state == bfia.TaskFailed {
			return false, fmt.Errorf("task %s FAILED; the job must succeed at the tested party", name)
		}
		return state == bfia.TaskSuccess, nil
	})
	return worst(err, problem)
}

// poll returns the state of a task.
func (s *session) poll(ctx context.Context, id, role string) (bfia.TaskState, error) {
	a, err := s.ask(ctx, http.MethodPost, bfia.PathTaskPoll, bfia.TaskPoll{TaskID: id, Role: role})
	if err != nil {
		return "", err
	}
	formErr := a.checkSuccess()
	if formErr != nil && !isDeviation(formErr) {
		return "", formErr
	}
	text, err := a.stringField("status")
	if err != nil && !isDeviation(err) {
		return "", err
	}
	state, stateErr := bfia.ParseTaskState(text)
	return state, worst(stateErr, formErr, err)
}

// finishedTask returns a task of the participant's job that has succeeded.
func (s *session) finishedTask() (t *testJob, name, id string, err error) {
	if s.participant == nil || !s.participant.ended {
		return nil, "", "", &skipError{"no task has run"}
	}
	for _, c := range s.participant.doc.DAG.Components {
		return s.participant, c.Name, s.participant.tasks[c.Name], nil
	}
	return nil, "", "", &skipError{"the job has no task"}
}

// role returns a role of the tested party.
func (s *session) role() string { return s.participant.doc.Config.Initiator.Role }
