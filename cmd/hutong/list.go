package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	durationflag "hutong/internal/duration"
)

// jobFilters are the filters of a list of jobs, as flags and as parameters of the request.
var jobFilters = []struct{ flag, parameter, usage string }{
	{"flow", "flow_id", "only the jobs of this flow"},
	{"state", "job_status", "only jobs in these states: PENDING, READY, RUNNING, FINISHED, REJECTED"},
	{"outcome", "outcome", "only jobs with these outcomes: SUCCESS, FAILED, STOPPED, REJECTED"},
	{"partner", "partner", "only jobs with this party"},
	{"project", "project", "only jobs of this project"},
}

// The values of --state and --outcome.
var (
	stateNames = []string{string(bfia.JobPending), string(bfia.JobReady), string(bfia.JobRunning),
		string(bfia.JobFinished), string(bfia.JobRejected)}
	outcomeNames = []string{string(bfia.OutcomeSuccess), string(bfia.OutcomeFailed),
		string(bfia.OutcomeStopped), string(bfia.OutcomeRejected)}
)

// checkFilter checks the values of --state and --outcome, which people confuse, because a list shows the
// outcome of an ended job in the place of its state. It returns them as the party expects them.
func checkFilter(flag, text string) (string, error) {
	names, others, other := stateNames, outcomeNames, "outcome"
	switch {
	case text == "" || (flag != "state" && flag != "outcome"):
		return text, nil
	case flag == "outcome":
		names, others, other = outcomeNames, stateNames, "state"
	}
	var values []string
	for value := range strings.SplitSeq(text, ",") {
		value = strings.ToUpper(strings.TrimSpace(value))
		switch {
		case slices.Contains(names, value):
			values = append(values, value)
		case slices.Contains(others, value):
			return "", usagef("--%s: %s is no %s of a job, it is its %s: use --%s %s", flag, value, flag,
				other,
				other, value)
		default:
			return "", usagef("--%s: %q is none of %s%s", flag, value, strings.Join(names, ", "),
				bfia.DidYouMean(value, names))
		}
	}
	return strings.Join(values, ","), nil
}

func newJobList(c *client) *cobra.Command {
	values := map[string]*string{}
	var since, until string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List jobs, newest first", Args: noArguments,
		Long: "Lists the jobs of this party, newest first, with their outcomes and the reason why they\n" +
			"failed or wait. --state and --outcome take several values, separated by commas. --since\n" +
			"and --until take a time (2026-01-02T15:04:05Z), a day (2026-01-02), or an age (90m, 24h).",
		Example: "  hutong job list --limit 20\n  hutong job list --outcome FAILED,STOPPED --since 24h\n" +
			"  hutong job list --state PENDING --partner JG0110017800000000 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for _, f := range jobFilters {
				value, err := checkFilter(f.flag, *values[f.flag])
				if err != nil {
					return err
				}
				if value != "" {
					query.Set(f.parameter, value)
				}
			}
			for name, text := range map[string]string{"since": since, "until": until} {
				at, err := parseWhen(text, time.Now())
				if err != nil {
					return usagef("--%s: %w", name, err)
				}
				if !at.IsZero() {
					query.Set(name, at.UTC().Format(time.RFC3339))
				}
			}
			if limit > 0 {
				query.Set("limit", strconv.Itoa(limit))
			}
			data, err := c.searchJobs(cmd.Context(), query, cmp.Or(limit, listedJobs))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			return c.printJobs(cmd, data, *values["partner"])
		},
	}
	for _, f := range jobFilters {
		values[f.flag] = cmd.Flags().String(f.flag, "", f.usage)
	}
	cmd.Flags().StringVar(&since, "since", "", "only jobs created at this time or later")
	cmd.Flags().StringVar(&until, "until", "", "only jobs created before this time")
	numberFlag(cmd.Flags(), &limit, "limit", 0, 0, "maximum number of jobs (default: chosen by the party)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// listedJobs is how many jobs a party lists if no limit is given.
const listedJobs = 100

// searchJobs returns a list of up to limit jobs. A party may search only some of its jobs for one page, so
// that several may be needed.
func (c *client) searchJobs(ctx context.Context, query url.Values, limit int) (json.RawMessage, error) {
	var data json.RawMessage
	if err := c.get(ctx, bfia.PathPlatformJobList, query, &data); err != nil {
		return nil, err
	}
	var all bfia.JobList
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("failed to decode the list of jobs: %w", err)
	}
	if all.SearchedTo == nil || all.JobList == nil || len(all.Jobs) >= limit {
		return data, nil
	}

	for all.Next != "" && len(all.Jobs) < limit {
		query.Set("before", all.Next)
		query.Set("limit", strconv.Itoa(limit-len(all.Jobs)))
		var page bfia.JobList
		if err := c.get(ctx, bfia.PathPlatformJobList, query, &page); err != nil {
			return nil, err
		}
		all.Jobs = append(all.Jobs, page.Jobs...)
		maps.Copy(all.JobList, page.JobList)
		all.Next, all.SearchedTo = page.Next, page.SearchedTo
	}
	data, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("failed to encode the list of jobs: %w", err)
	}
	return data, nil
}

// parseWhen reads a time, a day in the machine's time zone, or an age. An empty text is the zero time.
func parseWhen(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if at, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return at, nil
	}
	if age, err := durationflag.Parse(text); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time (2026-01-02T15:04:05Z), nor a day (2026-01-02), "+
		"nor an age (90m, 24h)", text)
}

// printJobs prints a list of jobs. If it is empty because no job has the partner, it says so.
func (c *client) printJobs(cmd *cobra.Command, data json.RawMessage, partner string) error {
	var list bfia.JobList
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("failed to decode the list of jobs: %w", err)
	}
	now := time.Now()
	rows := [][]string{{"JOB", "STATE", "FLOW", "CREATED", "TOOK", "REASON"}}
	if c.wide {
		rows[0] = append(rows[0], "ROLES", "INITIATOR", "PARTIES")
	}
	var projects []string
	for _, j := range summaries(list) {
		projects = append(projects, j.Project)
		state := string(j.State)
		if j.Outcome != "" {
			state = string(j.Outcome)
		}
		row := []string{j.JobID, state, j.FlowID, clock(j.CreatedAt),
			took(j.StartedAt, j.EndedAt, now), listReason(j, now)}
		if c.wide {
			row = append(row, strings.Join(j.Roles, ", "), j.Initiator, strings.Join(j.Parties, ", "))
		}
		rows = append(rows, row)
	}
	if err := printList(cmd, "jobs", withProjects(rows, 2, projects)); err != nil {
		return err
	}
	if len(rows) == 1 && partner != "" {
		parties := completer{c}.parties(cmd.Context(), nil)
		if len(parties) > 0 && !slices.Contains(parties, partner) {
			_, err := fmt.Fprintf(cmd.ErrOrStderr(),
				"No recent job has the party %s; their parties are %s%s\n",
				plain(partner), plain(strings.Join(parties, ", ")), bfia.DidYouMean(partner, parties))
			return err
		}
	}
	if list.Next == "" {
		return nil
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), "There are more jobs: list them with --limit.")
	return err
}

// listReason returns why a job failed or waits, for the last column of the list.
func listReason(j bfia.JobSummary, now time.Time) string {
	if j.Reason != "" {
		return j.Reason
	}
	var waits []string
	for _, w := range j.Waiting {
		waits = append(waits, waitText(w, now))
	}
	return strings.Join(waits, "; ")
}

// summaries returns the rows of a list. A party that implements only the specification sends ids and states;
// sorting by id sorts by time, because ids begin with it.
func summaries(list bfia.JobList) []bfia.JobSummary {
	if list.Jobs != nil {
		return list.Jobs
	}
	var rows []bfia.JobSummary
	for id, state := range list.JobList {
		rows = append(rows, bfia.JobSummary{JobID: id, State: state})
	}
	slices.SortFunc(rows, func(a, b bfia.JobSummary) int { return strings.Compare(b.JobID, a.JobID) })
	return rows
}
