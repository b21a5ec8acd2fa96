package api

import (
	"context"
	"slices"

	"hutong/bfia"
	"hutong/store"
)

// taskAttempts returns this party's parts of one attempt of a task, of one role or all. taskID names the task
// by the id of any of its attempts. number is the attempt's; 0: the one that taskID names.
func (s *Server) taskAttempts(ctx context.Context, taskID, role string, number int) ([]store.Task, error) {
	parts, err := s.tasksByID(ctx, taskID, role)
	var name [2]string // the job and the task
	switch {
	case bfia.CodeOf(err) == bfia.CodeNotFound:
		earlier, earlierErr := s.store.EarlierAttemptByTaskID(ctx, taskID)
		if earlierErr != nil {
			return nil, earlierErr
		}
		if len(earlier) == 0 {
			return nil, err
		}
		name = [2]string{earlier[0].JobID, earlier[0].Name}
		if number == 0 {
			number = earlier[0].Attempt
		}
	case err != nil:
		return nil, err
	case number == 0 || parts[0].Attempt == number:
		return parts, nil
	default:
		name = [2]string{parts[0].JobID, parts[0].Name}
	}
	return s.attempt(ctx, name[0], name[1], role, number)
}

// attempt returns this party's parts of an attempt of a task.
func (s *Server) attempt(ctx context.Context, jobID, name, role string, number int) ([]store.Task, error) {
	latest, err := s.store.TasksNamed(ctx, jobID, name)
	if err != nil {
		return nil, err
	}
	earlier, err := s.store.EarlierAttempts(ctx, jobID, name)
	if err != nil {
		return nil, err
	}
	most := 0
	var parts []store.Task
	for _, t := range latest {
		if most = max(most, t.Attempt); t.Attempt == number {
			parts = append(parts, t)
		}
	}
	for _, e := range earlier {
		if e.Attempt == number {
			// It has ended, or is being stopped, since another one has followed.
			parts = append(parts, store.Task{JobID: e.JobID, Name: e.Name, Role: e.Role,
				RoleIndex: e.RoleIndex,
				Attempt:   e.Attempt, TaskID: e.TaskID, ContainerName: e.ContainerName,
				State:    bfia.TaskFailed,
				ExitCode: new(int)})
		}
	}
	if len(parts) == 0 {
		return nil, bfia.Errorf(bfia.CodeNotFound,
			"attempt: task %s of job %s has no attempt %d at %s; its latest is %d",
			name, jobID, number, s.Node, most)
	}
	parts = slices.DeleteFunc(parts, func(t store.Task) bool {
		return role != "" && role != t.Role && role != bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self()
	})
	if len(parts) == 0 {
		return nil, bfia.Errorf(bfia.CodeNotFound, "role: %s has no part %q of attempt %d of task %s", s.Node,
			role,
			number, name)
	}
	return parts, nil
}
