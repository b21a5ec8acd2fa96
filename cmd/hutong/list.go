package main

import (
	"encoding/json"
	"fmt"
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
}

func newJobList(c *client) *cobra.Command {
	values := map[string]*string{}
	var since, until string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List jobs, newest first", Args: cobra.NoArgs,
		Long: "Lists the jobs of this party, newest first, with their outcomes and the reason why they\n" +
			"failed or wait. --state and --outcome take several values, separated by commas. --since\n" +
			"and --until take a time (2026-01-02T15:04:05Z), a day (2026-01-02), or an age (90m, 24h).",
		Example: "  hutong job list --limit 20\n  hutong job list --outcome FAILED,STOPPED --since 24h\n" +
			"  hutong job list --state PENDING --partner JG0110017800000000 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for _, f := range jobFilters {
				if value := *values[f.flag]; value != "" {
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
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathPlatformJobList, query, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			return printJobs(cmd, data)
		},
	}
	for _, f := range jobFilters {
		values[f.flag] = cmd.Flags().String(f.flag, "", f.usage)
	}
	cmd.Flags().StringVar(&since, "since", "", "only jobs created at this time or later")
	cmd.Flags().StringVar(&until, "until", "", "only jobs created before this time")
	cmd.Flags().IntVar(&limit, "limit", 0, "maximum number of jobs (default: chosen by the party)")
	jsonFlag(cmd, &asJSON)
	return cmd
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

func printJobs(cmd *cobra.Command, data json.RawMessage) error {
	var list bfia.JobList
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("failed to decode the list of jobs: %w", err)
	}
	now := time.Now()
	rows := [][]string{{"JOB", "STATE", "FLOW", "CREATED", "TOOK", "REASON"}}
	for _, j := range summaries(list) {
		state := string(j.State)
		if j.Outcome != "" {
			state = string(j.Outcome)
		}
		rows = append(rows, []string{j.JobID, state, j.FlowID, clock(j.CreatedAt),
			took(j.StartedAt, j.EndedAt, now), listReason(j, now)})
	}
	if err := printTable(cmd.OutOrStdout(), rows); err != nil || list.Next == "" {
		return err
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
