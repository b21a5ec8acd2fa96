package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/store"
)

// recentJobs is how many jobs a query without a job_id returns.
const recentJobs = 50

// uploadRole and uploadParty are the role and the party under which FATE's clients find an upload.
const (
	uploadRole  = "local"
	uploadParty = "0"
)

// fateJobs returns a row for each role of this party in a job, or in its newest jobs. It also returns an
// upload, by the id that the upload's answer gave it.
func (s *Server) fateJobs(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	ctx := c.UserContext()
	jobID := get("job_id")
	var jobs []store.Job
	if jobID == "" {
		page, err := s.store.Jobs(ctx, store.JobFilter{Limit: recentJobs})
		if err != nil {
			return err
		}
		jobs = page.Jobs
	} else {
		if err := bfia.CheckID("job_id", jobID); err != nil {
			return err
		}
		job, err := s.anyJob(ctx, jobID)
		if bfia.CodeOf(err) == bfia.CodeNotFound {
			return s.fateUpload(c, jobID)
		}
		if err != nil {
			return err
		}
		jobs = []store.Job{job}
	}

	rows := s.fateRows(jobs, time.Now())
	rows = slices.DeleteFunc(rows, func(j fateclient.Job) bool {
		role, party, status := get("role"), get("party_id"), get("status")
		return role != "" && role != j.Role || party != "" && party != j.PartyID ||
			status != "" && status != j.Status
	})
	if len(rows) == 0 {
		return bfia.Errorf(bfia.CodeNotFound, "job_id: %s knows no such job%s", s.Node,
			withRole(jobID, get("role"), get("party_id"), get("status")))
	}
	if err := s.describeRows(ctx, rows); err != nil {
		return err
	}
	return okFATE(c, rows, nil)
}

// withRole describes what a client asked for, for a message that nothing fits.
func withRole(values ...string) string {
	values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
	if len(values) == 0 {
		return ""
	}
	return " (" + strings.Join(values, ", ") + ")"
}

// anyJob returns a job in which this party takes part, or which it only schedules.
func (s *Server) anyJob(ctx context.Context, jobID string) (store.Job, error) {
	job, err := s.store.Job(ctx, jobID)
	if bfia.CodeOf(err) != bfia.CodeNotFound {
		return job, err
	}
	scheduled, err := s.store.ScheduleJob(ctx, jobID)
	if err != nil {
		return job, err
	}
	return store.Job{JobID: jobID, FlowID: scheduled.FlowID, State: scheduled.State,
		Roles: []string{scheduled.InitiatorRole}, InitiatorNode: scheduled.InitiatorNode,
		SchedulerNode: s.Node,
		PartyNodes:    scheduled.ParticipantNodes, Reason: scheduled.Reason, Outcome: scheduled.Outcome,
		Failure: scheduled.Failure, Waiting: scheduled.Waiting, CreatedAt: scheduled.CreatedAt,
		StartedAt: scheduled.StartedAt, EndedAt: scheduled.EndedAt}, nil
}

// fateRows returns the rows of jobs, one for each role of this party, without what their documents say.
func (s *Server) fateRows(jobs []store.Job, now time.Time) []fateclient.Job {
	var rows []fateclient.Job
	for _, j := range jobs {
		seen := map[string]bool{}
		for _, self := range j.Roles {
			role, _, _ := strings.Cut(self, ".")
			if seen[role] {
				continue
			}
			seen[role] = true
			row := fateclient.NewJob(j.JobID, role, s.Node, fateclient.StatusOfJob(j.State, j.Outcome),
				fateclient.Times{Created: j.CreatedAt, Started: j.StartedAt, Ended: j.EndedAt, Now: now})
			row.FlowID, row.InitiatorPartyID, row.SchedulerPartyID = j.FlowID, j.InitiatorNode,
				j.SchedulerNode
			row.Description = j.Reason
			if j.Failure != nil {
				row.Description = j.Failure.WithHint(s.Node, j.JobID).String()
			}
			row.Partners = slices.DeleteFunc(slices.Clone(j.PartyNodes),
				func(node string) bool { return node == s.Node })
			rows = append(rows, row)
		}
	}
	return rows
}

// describeRows adds what the documents of jobs say, what the jobs wait for, and their progress.
func (s *Server) describeRows(ctx context.Context, rows []fateclient.Job) error {
	for i := range rows {
		row := &rows[i]
		doc, err := s.document(ctx, row.JobID)
		if bfia.CodeOf(err) == bfia.CodeNotFound {
			continue // housekeeping removes the job
		}
		if err != nil {
			return err
		}
		row.Describe(doc)
		tasks, err := s.store.Tasks(ctx, row.JobID)
		if err != nil {
			return err
		}
		ended, own := 0, 0
		for _, t := range tasks {
			if t.Role != row.Role {
				continue
			}
			if own++; t.State.Terminal() {
				ended++
			}
		}
		if own > 0 && row.Status != fateclient.Success {
			row.Progress = 100 * ended / own
		}
	}

	var waiting []store.Job
	for _, row := range rows {
		if row.EndTime != nil || row.Description != "" {
			continue
		}
		if job, err := s.store.Job(ctx, row.JobID); err == nil {
			waiting = append(waiting, job)
		}
	}
	waits, err := s.jobWaits(ctx, waiting)
	if err != nil {
		return err
	}
	ids := []string{}
	for _, row := range rows {
		ids = append(ids, row.JobID)
	}
	notes, err := s.store.JobNotes(ctx, ids)
	if err != nil {
		return err
	}
	for i := range rows {
		if note := notes[rows[i].JobID]; note != "" {
			rows[i].Description = strings.TrimSuffix(note+"; "+rows[i].Description, "; ")
		}
		if w := waits[rows[i].JobID]; rows[i].Description == "" && len(w) > 0 {
			rows[i].Description = w[0].String()
		}
	}
	return nil
}

// fateJobList returns a page of the rows of this party's jobs.
func (s *Server) fateJobList(c *fiber.Ctx) error {
	ctx := c.UserContext()
	query, err := s.fatePage(c)
	if err != nil {
		return err
	}
	jobs, err := s.allJobs(ctx)
	if err != nil {
		return err
	}
	get := query.get
	rows := s.fateRows(jobs, time.Now())
	rows = slices.DeleteFunc(rows, func(j fateclient.Job) bool {
		return !query.has("role", j.Role) || !query.has("status", j.Status) ||
			!strings.Contains(j.JobID, get("job_id")) || !strings.Contains(j.PartyID, get("party_id")) ||
			!strings.Contains(j.Description, get("description")) ||
			!containsPart(j.Partners, get("partner"))
	})
	if err := sortRows(query, rows, jobOrders); err != nil {
		return err
	}
	page := pageOf(query, rows)
	if err := s.describeRows(ctx, page); err != nil {
		return err
	}
	return okFATE(c, map[string]any{"count": len(rows), "data": page}, nil)
}

// allJobs returns all jobs in which this party takes part.
func (s *Server) allJobs(ctx context.Context) ([]store.Job, error) {
	var all []store.Job
	filter := store.JobFilter{}
	for {
		page, err := s.store.Jobs(ctx, filter)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Jobs...)
		if page.Next == nil {
			return all, nil
		}
		filter.Before = page.Next
	}
}

// containsPart reports whether one of the texts contains a part, or there is no part.
func containsPart(texts []string, part string) bool {
	return part == "" || slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, part) })
}

// jobOrders are the fields by which jobs are sorted.
var jobOrders = ordersOf(func(j fateclient.Job) sortedFields {
	return sortedFields{created: j.CreateTime, updated: j.UpdateTime, elapsed: j.Elapsed,
		started: j.StartTime, ended: j.EndTime, jobID: j.JobID, status: j.Status, role: j.Role,
		party: j.PartyID}
})
