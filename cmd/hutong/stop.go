package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobStop(c *client) *cobra.Command {
	var task string
	cmd := &cobra.Command{
		Use: "stop ID", Short: "Stop a job, or a task and the tasks that depend on it",
		Long: "Stops a job, or a task and the tasks that depend on it. It changes nothing about what\n" +
			"has ended already, and says so.",
		Example: "  hutong job stop 202601021200000000001\n" +
			"  hutong job stop 202601021200000000001 --task boosting",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := c.status(cmd.Context(), args[0])
			if err != nil {
				status = &bfia.JobStatus{} // the job can be stopped all the same
			}
			if names := taskNames(status); task != "" && len(names) > 0 && !slices.Contains(names, task) {
				return unknownTask(args[0], task, names)
			}
			path, ref, what := bfia.PathPlatformStopAll, bfia.JobRef{JobID: args[0]}, "job "+args[0]
			if task != "" {
				path, ref.TaskName, what = bfia.PathPlatformStopTask, task, "task "+task+" of "+what
			}
			// Also for a job that has ended: it may have left something at a party that was not reachable.
			if _, err := c.post(cmd.Context(), path, ref, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), valueOr(alreadyEnded(status, task), what+" is stopping"))
			return err
		},
	}
	cmd.Flags().StringVar(&task, "task", "", "stop only this task and the tasks that depend on it")
	return cmd
}

// alreadyEnded says how a job, or a task of it, has ended, or "" if it has not.
func alreadyEnded(status *bfia.JobStatus, task string) string {
	if ended(status) {
		outcome := "a task failed or did not run"
		if succeeded(status) {
			outcome = "all tasks succeeded"
		}
		if status.Outcome == bfia.OutcomeStopped && status.Reason != "" {
			outcome = plain(status.Reason)
		}
		at := ""
		if status.EndedAt != nil {
			at = " at " + clock(status.EndedAt)
		}
		return fmt.Sprintf("job %s has already ended%s: it is %s (%s)", status.JobID, at,
			valueOr(string(status.Outcome), string(status.State)), outcome)
	}
	if task == "" {
		return ""
	}
	stopped := map[string]bool{task: true}
	state := ""
	for _, t := range status.Tasks { // dependencies come first
		if !slices.ContainsFunc(append(t.DependsOn, t.Name),
			func(name string) bool { return stopped[name] }) {
			continue
		}
		if !t.State.Terminal() {
			return ""
		}
		stopped[t.Name] = true
		if t.Name == task {
			state = string(t.State)
		}
	}
	if state == "" {
		return ""
	}
	return fmt.Sprintf("task %s of job %s has already ended: it is %s", task, status.JobID, state)
}

// unknownTask returns the error of --task for a task that a job does not have.
func unknownTask(jobID, task string, names []string) error {
	return fmt.Errorf("--task: job %s has no task %q; it has %s%s", jobID, task, strings.Join(names, ", "),
		bfia.DidYouMean(task, names))
}
