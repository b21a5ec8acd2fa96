package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobCommand(c *client) *cobra.Command {
	return group(
		"job",
		"Submit, watch and stop jobs; read their logs and outputs",
		newJobSubmit(
			c,
		),
		newJobStatus(c),
		newJobShow(c),
		newJobEvidence(c),
		newJobAccount(c),
		newJobWatch(c),
		newJobList(c),
		newJobStop(c),
		newJobAudit(c, "approve", bfia.JobReady),
		newJobAudit(c, "reject", bfia.JobRejected),
		newJobPriority(c),
		newJobRerun(c),
		newJobPredict(c),
		newJobRehearse(c),
		newJobDelete(c),
		newJobLogs(c),
		newJobOutputs(c),
		newJobProbe(c),
	)
}

func (c *client) status(ctx context.Context, jobID string) (*bfia.JobStatus, error) {
	var status bfia.JobStatus
	if err := c.get(ctx, bfia.PathPlatformStatusAll, url.Values{"job_id": {jobID}}, &status); err != nil {
		return nil, err
	}
	if status.State == "" {
		return nil, errors.New("failed to decode the job's status: job_status is missing")
	}
	return &status, nil
}

func newJobStatus(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status ID",
		Short:   "Show a job's status",
		Example: "  hutong job status 202601021200000000001\n  hutong job status 20260102 -o yaml",
		Long: "Shows a job's status. The exit status is 1 if the job has ended and a task is not\n" +
			"SUCCESS.",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathPlatformStatusAll, url.Values{"job_id": {args[0]}},
				&data); err != nil {
				return err
			}
			var status bfia.JobStatus
			if err := json.Unmarshal(data, &status); err != nil {
				return fmt.Errorf("failed to decode the job's status: %w", err)
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
				lines := append(draw(&status, time.Now(), view), attemptLines(&status, view)...)
				if ended(&status) {
					lines = append(lines, summary(&status, view)...)
				}
				lines = append(lines, c.accountLine(cmd.Context(), args[0])...)
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
		Use:     "watch ID",
		Short:   "Watch a job until it has ended",
		Example: "  hutong job watch 202601021200000000001",
		Long: "Watches a job until it has ended. On a terminal it draws the DAG with the state of each\n" +
			"part; otherwise it prints a line for each change. Ctrl-C stops watching, not the job.\n" +
			"The exit status is 0 if the job finished and every task is SUCCESS.",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.watch(cmd, args[0]) },
	}
}

func newJobPriority(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "priority ID PRIORITY", Short: "Change the priority of a queued job, from 0 to 9",
		Long: "Changes the priority of a queued job, from 0 (default) to 9. Every ten minutes in the\n" +
			"queue raise it by one (priority aging). Set it in the job's document with\n" +
			"config.job_params.common.priority.",
		Example: "  hutong job priority 202601021200000000001 5",
		Args:    exactly("ID", "PRIORITY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			priority, err := strconv.Atoi(args[1])
			if err != nil {
				return usagef("priority: %q is not a number from 0 to 9", args[1])
			}
			if err := bfia.CheckPriority(priority); err != nil {
				return err
			}
			body := bfia.SetPriority{JobID: args[0], Priority: priority}
			if _, err := c.post(cmd.Context(), bfia.PathPlatformPriority, body, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "job %s has priority %d\n", args[0], priority)
			return err
		},
	}
}
