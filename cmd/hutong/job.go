package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobCommand(c *client) *cobra.Command {
	return group("job", "Submit, watch and stop jobs; read their logs and outputs",
		newJobSubmit(c), newJobStatus(c), newJobWatch(c), newJobList(c), newJobStop(c),
		newJobAudit(c, "approve", bfia.JobReady), newJobAudit(c, "reject", bfia.JobRejected), newJobPriority(c), newJobLogs(c), newJobOutputs(c), newJobProbe(c))
}

// submitTries is how often a job is sent while the answer gets lost. All of them carry the same job id, so it runs once.
const submitTries = 4

func newJobSubmit(c *client) *cobra.Command {
	var file string
	var follow bool
	cmd := &cobra.Command{
		Use:   "submit -f FILE",
		Short: "Submit a job and print its id",
		Long: "Submits a job, a JSON document with dag and config, and prints its id. The client makes the id, unless the\n" +
			"document has one, so that submitting again after a lost answer starts nothing twice. With --watch it then does\n" +
			"what 'job watch' does.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			document, err := readFile(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			jobID, err := giveJobID(document)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			var warnings []bfia.Warning
			if jobID, warnings, err = c.submit(cmd.Context(), document, jobID); err != nil {
				return err
			}
			for _, w := range warnings {
				if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "warning:", plain(w.String())); err != nil {
					return err
				}
			}
			if follow {
				return c.watch(cmd, jobID)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), jobID)
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the job, JSON; - reads standard input")
	cmd.Flags().BoolVar(&follow, "watch", false, "watch it until it has ended")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

// giveJobID is the job's id: the document's, or one that is put into it.
func giveJobID(document map[string]json.RawMessage) (string, error) {
	if raw := document["job_id"]; raw != nil {
		var id string
		if err := json.Unmarshal(raw, &id); err != nil {
			return "", errors.New("job_id is not a string")
		}
		if id != "" {
			return id, nil
		}
	}
	id := bfia.NewJobID(time.Now(), rand.IntN(10))
	document["job_id"], _ = json.Marshal(id) // a string always marshals
	return id, nil
}

// submit sends a job until there is an answer, and gives its id and what the party warns of. What was never delivered is
// not sent again: that is the user's choice.
func (c *client) submit(ctx context.Context, document map[string]json.RawMessage, jobID string) (string, []bfia.Warning, error) {
	var created bfia.JobCreated
	for try := 1; ; try++ {
		_, err := c.post(ctx, bfia.PathPlatformCreateAll, document, &created)
		var lost *unanswered
		if err == nil {
			return valueOr(created.JobID, jobID), created.Warnings, nil
		}
		if !errors.As(err, &lost) || errors.Is(err, syscall.ECONNREFUSED) {
			return "", nil, err
		}
		if try == submitTries || ctx.Err() != nil {
			return "", nil, fmt.Errorf("%w; job %s may have been taken: ask with 'hutong job status %s'", err, jobID, jobID)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(try) * 200 * time.Millisecond):
		}
	}
}

func (c *client) status(ctx context.Context, jobID string) (*bfia.JobStatus, error) {
	var status bfia.JobStatus
	if err := c.get(ctx, bfia.PathPlatformStatusAll, url.Values{"job_id": {jobID}}, &status); err != nil {
		return nil, err
	}
	if status.State == "" {
		return nil, errors.New("the job's status is not as documented: it has no job_status")
	}
	return &status, nil
}

func newJobStatus(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status ID",
		Short: "Show how a job stands",
		Long:  "Shows how a job stands. The exit status is 1 if it has ended and not every task is SUCCESS.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathPlatformStatusAll, url.Values{"job_id": {args[0]}}, &data); err != nil {
				return err
			}
			var status bfia.JobStatus
			if err := json.Unmarshal(data, &status); err != nil {
				return fmt.Errorf("the job's status is not as documented: %w", err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				if err := printJSON(out, data); err != nil {
					return err
				}
			} else {
				view := view{width: noLimit}
				if screen := terminal(out); screen != nil {
					view.width, _ = screenSize(screen)
					view.colour = c.stdoutColour
				}
				lines := draw(&status, time.Now(), view)
				if ended(&status) {
					lines = append(lines, summary(&status, view)...)
				}
				if _, err := fmt.Fprintln(out, strings.Join(lines, "\n")); err != nil {
					return err
				}
			}
			if ended(&status) && !succeeded(&status) {
				return errSaid
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newJobWatch(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "watch ID",
		Short: "Watch a job until it has ended",
		Long: "Watches a job until it has ended: on a terminal as a picture, otherwise a line for each change. Ctrl-C leaves the\n" +
			"job running. The exit status is 0 only if the job finished and every task is SUCCESS.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.watch(cmd, args[0]) },
	}
}

func newJobList(c *client) *cobra.Command {
	var flow string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List jobs, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if flow != "" {
				query.Set("flow_id", flow)
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
			var list bfia.JobList
			if err := json.Unmarshal(data, &list); err != nil {
				return fmt.Errorf("the list of jobs is not as documented: %w", err)
			}
			rows := [][]string{{"JOB", "STATE", "FLOW", "CREATED", "TOOK"}}
			for _, j := range summaries(list) {
				rows = append(rows, []string{j.JobID, string(j.State), j.FlowID, clock(j.CreatedAt), took(j.StartedAt, j.EndedAt, time.Now())})
			}
			if err := printTable(cmd.OutOrStdout(), rows); err != nil || list.Next == "" {
				return err
			}
			_, err := fmt.Fprintln(cmd.ErrOrStderr(), "There are more: give --limit.")
			return err
		},
	}
	cmd.Flags().StringVar(&flow, "flow", "", "only the jobs of this flow")
	cmd.Flags().IntVar(&limit, "limit", 0, "how many (default: the party's choice)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// summaries are the rows of a list. A party that only speaks the specification gives ids and states; ids begin with the time.
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

func newJobStop(c *client) *cobra.Command {
	var task string
	cmd := &cobra.Command{
		Use: "stop ID", Short: "Stop a job, or one of its tasks and what follows it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, ref, what := bfia.PathPlatformStopAll, bfia.JobRef{JobID: args[0]}, "job "+args[0]
			if task != "" {
				path, ref.TaskName, what = bfia.PathPlatformStopTask, task, "task "+task+" of "+what
			}
			if _, err := c.post(cmd.Context(), path, ref, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), what, "is being stopped")
			return err
		},
	}
	cmd.Flags().StringVar(&task, "task", "", "stop this task only, and what depends on it")
	return cmd
}

// newJobPriority moves a job that waits for its start.
func newJobPriority(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "priority ID PRIORITY", Short: "Change the priority of a job that waits for its start, from 0 to 9",
		Long: "Changes the priority of a job that waits for its start, from 0, which is usual, to 9. Waiting raises it by one every\n" +
			"ten minutes. A job is submitted with a priority by config.job_params.common.priority.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			priority, err := strconv.Atoi(args[1])
			if err != nil {
				return fmt.Errorf("priority: %q is not a number", args[1])
			}
			if err := bfia.CheckPriority(priority); err != nil {
				return err
			}
			if _, err := c.post(cmd.Context(), bfia.PathPlatformPriority, bfia.SetPriority{JobID: args[0], Priority: priority}, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "job %s has priority %d\n", args[0], priority)
			return err
		},
	}
}

// newJobAudit approves or rejects a job for this party.
func newJobAudit(c *client, verb string, status bfia.JobState) *cobra.Command {
	audit := bfia.Audit{Status: status}
	short, done := "Approve a job that waits for this party's approval", "approved"
	if status == bfia.JobRejected {
		short, done = "Reject a job that waits for this party's approval: it ends at every party", "rejected"
	}
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			audit.JobID = args[0]
			if _, err := c.post(cmd.Context(), bfia.PathPlatformAudit, audit, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "job", args[0], "is", done)
			return err
		},
	}
	cmd.Flags().StringVar(&audit.Reason, "reason", "", "why, for the other parties to read")
	return cmd
}

func newJobOutputs(c *client) *cobra.Command {
	var asJSON, show bool
	cmd := &cobra.Command{
		Use:   "outputs ID",
		Short: "List what a job's tasks left at this party, or draw its reports",
		Long: "Lists what a job's tasks left at this party. 'hutong data download NAMESPACE NAME' fetches one. With --show the\n" +
			"reports are drawn.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathJobOutputs, url.Values{"job_id": {args[0]}}, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var list struct {
				Outputs []bfia.Output `json:"outputs"`
			}
			if err := json.Unmarshal(data, &list); err != nil {
				return fmt.Errorf("the list of outputs is not as documented: %w", err)
			}
			if show {
				return c.showReports(cmd.Context(), cmd.OutOrStdout(), list.Outputs)
			}
			rows := [][]string{{"TASK", "ROLE", "TYPE", "OUTPUT", "SIZE", "NAMESPACE", "NAME"}}
			for _, o := range list.Outputs {
				rows = append(rows, []string{o.TaskName, o.Role, o.Type, valueOr(o.Output, o.Key), size(o.Bytes), o.Namespace, o.Name})
			}
			return printTable(cmd.OutOrStdout(), rows)
		},
	}
	cmd.Flags().BoolVar(&show, "show", false, "draw the reports instead")
	jsonFlag(cmd, &asJSON)
	cmd.MarkFlagsMutuallyExclusive("show", "json")
	return cmd
}
