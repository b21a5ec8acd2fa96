package api

import (
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/store"
)

// jobPage is the default number of jobs in a page of the list.
const jobPage = 100

// listJobs lists jobs, newest first (part 2, 5.6): of a flow, or all. Further filters are Hutong's addition;
// prefix is the beginning of the ids. limit and before select a page.
func (s *Server) listJobs(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	filter, err := jobFilter(get)
	if err != nil {
		return err
	}
	ctx, err := s.listContext(c.UserContext(), get)
	if err != nil {
		return err
	}
	page, err := s.store.Jobs(ctx, filter)
	if err != nil {
		return err
	}
	jobs := page.Jobs
	waits, err := s.jobWaits(c.UserContext(), jobs)
	if err != nil {
		return err
	}
	if err := s.addPartWaits(c.UserContext(), jobs, waits); err != nil {
		return err
	}

	list := bfia.JobList{JobList: map[string]bfia.JobState{}, Jobs: []bfia.JobSummary{}}
	for _, j := range jobs {
		list.JobList[j.JobID] = j.State
		summary := bfia.JobSummary{JobID: j.JobID, FlowID: j.FlowID, Project: viewProject(j.Project),
			State: j.State, Outcome: j.Outcome,
			Failure: j.Failure.WithHint(s.Node, j.JobID), Waiting: waits[j.JobID],
			Roles: j.Roles, Parties: j.PartyNodes, Initiator: j.InitiatorNode, Scheduler: j.SchedulerNode,
			CreatedAt: &j.CreatedAt, StartedAt: j.StartedAt, EndedAt: j.EndedAt}
		if j.Outcome != bfia.OutcomeSuccess {
			summary.Reason = j.Reason
		}
		list.Jobs = append(list.Jobs, summary)
	}
	if page.Next != nil {
		list.Next, list.SearchedTo = page.Next.String(), &page.Next.CreatedAt
	}
	return answer(c, "success", list, map[string]any{"job_list": list.JobList})
}

// jobFilter reads the filters of a list of jobs. job_status and outcome may list several values, separated by
// commas.
func jobFilter(get func(string) string) (store.JobFilter, error) {
	filter := store.JobFilter{Partner: get("partner"), Prefix: get("prefix"), Role: get("role"),
		Text: get("text")}
	if flow := get("flow_id"); flow != "" {
		filter.FlowID = &flow
	}
	var err error
	if filter.States, err = parseList(get("job_status"), bfia.ParseJobState); err != nil {
		return filter, err
	}
	if filter.Outcomes, err = parseList(get("outcome"), bfia.ParseOutcome); err != nil {
		return filter, err
	}
	if filter.Since, err = parseTime(get, "since"); err != nil {
		return filter, err
	}
	if filter.Until, err = parseTime(get, "until"); err != nil {
		return filter, err
	}
	if filter.Limit, err = number(get, "limit", jobPage, 1, store.MaxJobs); err != nil {
		return filter, err
	}
	if before := get("before"); before != "" {
		cursor, err := store.ParseJobCursor(before)
		if err != nil {
			return filter, bfia.Wrap(bfia.CodeBadRequest, err, "before: %q is not the field next of a page",
				before)
		}
		filter.Before = &cursor
	}
	return filter, nil
}

func parseList[T ~string](text string, parse func(string) (T, error)) ([]T, error) {
	var values []T
	for value := range strings.SplitSeq(text, ",") {
		if value = strings.TrimSpace(value); value == "" {
			continue
		}
		parsed, err := parse(strings.ToUpper(value))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(values, parsed) {
			values = append(values, parsed)
		}
	}
	return values, nil
}

// parseTime reads a time in the form of RFC 3339, such as 2026-01-02T15:04:05Z.
func parseTime(get func(string) string, name string) (time.Time, error) {
	text := get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, bfia.Wrap(bfia.CodeBadRequest, err,
			"%s: %q is not a time in the form 2026-01-02T15:04:05Z (RFC 3339)", name, text)
	}
	return at, nil
}
