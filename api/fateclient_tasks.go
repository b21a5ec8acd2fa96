package api

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/store"
)

// fateTasks returns a row for each of this party's parts of tasks: of a job, of one task id, or of the newest
// jobs.
func (s *Server) fateTasks(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	taskID, taskName := get("task_id"), get("task_name")
	if name, is := strings.CutPrefix(taskID, get("job_id")+"_"); is && get("job_id") != "" {
		// The ids of FATE-Flow's own tasks, by which FATE-Board asks.
		taskID, taskName = "", name
	}
	rows, err := s.taskRows(c.UserContext(), get("job_id"), taskID)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(t fateclient.Task) bool {
		for _, f := range []struct{ name, value string }{
			{"role", t.Role}, {"party_id", t.PartyID}, {"status", t.Status},
			{"task_version", strconv.Itoa(t.TaskVersion)},
		} {
			if want := get(f.name); want != "" && want != f.value {
				return true
			}
		}
		return taskName != "" && taskName != t.TaskName
	})
	if len(rows) == 0 {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: %s has no such task%s", s.Node, withRole(get("job_id"),
			taskName, get("role"), get("party_id"), get("status")))
	}
	return okFATE(c, rows, nil)
}

// fateTaskList returns a page of the rows of this party's parts of tasks.
func (s *Server) fateTaskList(c *fiber.Ctx) error {
	query, err := s.fatePage(c)
	if err != nil {
		return err
	}
	get := query.get
	rows, err := s.taskRows(c.UserContext(), get("job_id"), "")
	if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
		return err
	}
	rows = slices.DeleteFunc(rows, func(t fateclient.Task) bool {
		return !query.has("role", t.Role) || !query.has("status", t.Status) ||
			!strings.Contains(t.PartyID, get("party_id")) || !strings.Contains(t.TaskName, get("task_name"))
	})
	if err := sortRows(query, rows, taskOrders); err != nil {
		return err
	}
	return okFATE(c, map[string]any{"count": len(rows), "data": pageOf(query, rows)}, nil)
}

// taskOrders are the fields by which tasks are sorted.
var taskOrders = addOrder("task_name", func(t fateclient.Task) string { return t.TaskName },
	ordersOf(func(t fateclient.Task) sortedFields {
		return sortedFields{created: t.CreateTime, updated: t.UpdateTime, elapsed: t.Elapsed,
			started: t.StartTime, ended: t.EndTime, jobID: t.JobID, status: t.Status, role: t.Role,
			party: t.PartyID}
	}))

// taskRows returns the rows of the tasks of one id, of a job, or of the newest jobs.
func (s *Server) taskRows(ctx context.Context, jobID, taskID string) ([]fateclient.Task, error) {
	var jobs []store.Job
	switch {
	case taskID != "":
		tasks, err := s.store.TasksByID(ctx, taskID)
		if err != nil {
			return nil, err
		}
		if len(tasks) == 0 || jobID != "" && jobID != tasks[0].JobID {
			return nil, bfia.Errorf(bfia.CodeNotFound, "task_id: %s has no task %q", s.Node, taskID)
		}
		jobID = tasks[0].JobID
		fallthrough
	case jobID != "":
		if err := bfia.CheckID("job_id", jobID); err != nil {
			return nil, err
		}
		job, err := s.store.Job(ctx, jobID)
		if err != nil {
			return nil, unknownJob(err, jobID, s.Node)
		}
		jobs = []store.Job{job}
	default:
		page, err := s.store.Jobs(ctx, store.JobFilter{Limit: recentJobs})
		if err != nil {
			return nil, err
		}
		jobs = page.Jobs
	}

	rows := []fateclient.Task{}
	for _, job := range jobs {
		tasks, err := s.store.Tasks(ctx, job.JobID)
		if err != nil {
			return nil, err
		}
		record, err := s.store.JobRecord(ctx, job.JobID)
		if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
			return nil, err
		}
		for _, t := range tasks {
			if taskID == "" || t.TaskID == taskID {
				rows = append(rows, s.taskRow(job, t, record, time.Now()))
			}
		}
	}
	return rows, nil
}

// taskRow returns the row of a part of a task. record is nil if housekeeping removes the job.
func (s *Server) taskRow(job store.Job, t store.Task, record *store.JobRecord, now time.Time,
) fateclient.Task {
	status := fateclient.StatusOfTask(t.State, job.Outcome == bfia.OutcomeStopped)
	row := fateclient.NewTask(job.JobID, cmp.Or(t.TaskID, bfia.TaskID(job.JobID, t.Name)), t.Name,
		max(0, t.Attempt-1), t.Role, s.Node, status,
		fateclient.Times{Created: job.CreatedAt, Started: t.StartedAt, Ended: t.EndedAt, Now: now})
	row.Component, row.SchedulerPartyID, row.KillStatus = t.Component, job.SchedulerNode, t.StopRequested
	row.ProviderName = t.Provider + ":" + t.Version
	row.ProgressText = t.Progress
	switch f := failureOf(t); {
	case f != nil:
		row.ErrorReport = f.WithHint(s.Node, job.JobID).String()
	case t.State == bfia.TaskFailed:
		row.ErrorReport = t.Reason
	}
	if record == nil {
		return row
	}
	row.SyncType = record.Document.Config.SyncType()
	for _, p := range record.Registry.Entries(t.Provider, t.Version, t.Component) {
		row.ProviderName += "@" + p.Device
		break
	}
	part := bfia.Part{Role: t.Role, Index: t.RoleIndex, NodeID: s.Node}
	if parameters, err := record.Document.Config.TaskParameters(t.Name, part); err == nil {
		row.ComponentParameters = parameters // NewPlan refuses a job in which they are malformed
	}
	return row
}
