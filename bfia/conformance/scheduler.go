package conformance

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"hutong/bfia"
)

// scheduler returns the checks of the endpoints of a scheduler for other parties.
func scheduler() []Check {
	status := func(method, query string, body any) func(context.Context, *session) (string, error) {
		return func(ctx context.Context, s *session) (string, error) {
			t := s.scheduled
			if t == nil {
				return "", &skipError{"no job was created"}
			}
			a, err := s.ask(ctx, method, bfia.PathStatusAll+strings.ReplaceAll(query, "ID", t.id),
				bodyOf(body, t))
			if err != nil {
				return "", err
			}
			if a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound && a.code == nil {
				return "", deviates("is not served this way: HTTP %d", a.status)
			}
			if a.code != nil && *a.code != 0 && method == http.MethodGet && body == nil || a.code == nil {
				return "", deviates("is not read this way: %s", a)
			}
			jobState, err := a.stringField("job_status")
			if err == nil && !slices.Contains(jobStates, jobState) {
				err = fmt.Errorf("data.job_status is %q", jobState)
			}
			tasks, tasksErr := a.mapField("status")
			for name, state := range tasks {
				if _, wrong := bfia.ParseTaskState(state); wrong != nil {
					tasksErr = fmt.Errorf("data.status.%s is %q", name, state)
				}
			}
			return fmt.Sprintf("%s, %d tasks", jobState, len(tasks)), worst(a.checkSuccess(), err, tasksErr)
		}
	}
	emptyJob := map[string]any{"job_id": unknownID, "dag": map[string]any{}, "config": map[string]any{}}

	return []Check{
		missingField(bfia.PathCreateAll, "job_id", "2/3.1", constantBody(emptyJob)),
		missingField(bfia.PathCreateAll, "dag", "2/3.1", constantBody(emptyJob)),
		{
			"POST " + bfia.PathCreateAll,
			"a job is created on every party",
			"2/3.1",
			func(ctx context.Context, s *session) (string, error) {
				t, err := s.newTestJob()
				if err != nil {
					return "", err
				}
				a, err := s.ask(ctx, http.MethodPost, bfia.PathCreateAll, t.doc.Bytes())
				if err != nil {
					return "", err
				}
				if err := a.checkSuccess(); err != nil && !isDeviation(err) {
					return "", err
				}
				s.scheduled = t
				return a.String(), a.checkSuccess()
			},
		},
		{"POST " + bfia.PathStatusAll, "a scheduled job's status, job_id in the query", "2/3.7",
			status(http.MethodPost, "?job_id=ID", nil)},
		{"POST " + bfia.PathStatusAll, "a scheduled job's status, job_id in the body", "2/3.7",
			status(http.MethodPost, "", jobRef)},
		{"GET " + bfia.PathStatusAll, "a scheduled job's status, as FATE-Flow and Kuscia ask", "2/3.7",
			status(http.MethodGet, "", jobRef)},
		{"GET " + bfia.PathStatusAll, "a scheduled job's status, job_id in the query of a GET", "2/2.1",
			status(http.MethodGet, "?job_id=ID", nil)},
		{
			"POST " + bfia.PathCreateAll,
			"the scheduler runs the job to FINISHED, all tasks SUCCESS",
			"2/3.1",
			func(ctx context.Context, s *session) (string, error) {
				return s.awaitSuccess(ctx, s.scheduled)
			},
		},
		{
			"POST " + bfia.PathTaskCallback,
			"a late callback of a party changes nothing",
			"2/3.9",
			func(ctx context.Context, s *session) (string, error) {
				t := s.scheduled
				if t == nil || !t.ended {
					return "", &skipError{"no scheduled job has run"}
				}
				for _, id := range t.tasks {
					a, err := s.ask(ctx, http.MethodPost, bfia.PathTaskCallback, bfia.TaskReport{
						TaskID: id, Status: bfia.TaskFailed, Role: t.doc.Config.Initiator.Role})
					if err != nil {
						return "", err
					}
					if a.code == nil {
						return "", fmt.Errorf("is no envelope: %s", a)
					}
				}
				return s.awaitSuccess(ctx, t)
			},
		},
		missingField(bfia.PathTaskCallback, "status", "2/3.9",
			constantBody(map[string]any{"task_id": unknownID, "status": "SUCCESS", "role": "guest"})),
		missingField(bfia.PathTaskCallback, "task_id", "2/3.9",
			constantBody(map[string]any{"task_id": unknownID, "status": "SUCCESS", "role": "guest"})),
		{
			"POST " + bfia.PathStopAll,
			"a job is stopped, and is FINISHED",
			"2/3.5",
			func(ctx context.Context, s *session) (string, error) {
				t, err := s.newTestJob()
				if err != nil {
					return "", err
				}
				if a, err := s.ask(ctx, http.MethodPost, bfia.PathCreateAll, t.doc.Bytes()); err != nil {
					return "", err
				} else if err := a.checkSuccess(); err != nil && !isDeviation(err) {
					return "", err
				}
				a, err := s.ask(ctx, http.MethodPost, bfia.PathStopAll, jobRef(t))
				if err != nil {
					return "", err
				}
				if err := a.checkSuccess(); err != nil && !isDeviation(err) {
					return "", err
				}
				state, err := s.awaitJob(ctx, t, "FINISHED")
				return state, worst(err, a.checkSuccess())
			},
		},
		missingField(bfia.PathStopAll, "job_id", "2/3.5", constantBody(map[string]any{"job_id": unknownID})),
		{
			"POST " + pathAuditConfirm,
			"an approval of an unknown job is refused",
			"FATE-Flow",
			func(ctx context.Context, s *session) (string, error) {
				a, err := s.ask(ctx, http.MethodPost, pathAuditConfirm,
					map[string]string{"job_id": unknownID, "status": "READY"})
				if err != nil {
					return "", err
				}
				if a.code == nil {
					return "", deviates("is not served: %s", a)
				}
				return a.String(), a.checkRefusal()
			},
		},
	}
}

func bodyOf(body any, t *testJob) any {
	if build, ok := body.(func(*testJob) any); ok {
		return build(t)
	}
	return body
}

// pathAuditConfirm is the path for approvals of FATE-Flow and of earlier versions of the specification.
const pathAuditConfirm = "/v1/interconn/schedule/job/audit_confirm"
