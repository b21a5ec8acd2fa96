package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hutong/internal/party"
	"hutong/internal/restore"
)

func newRestoreCommand() *cobra.Command {
	return group("restore", "Check and finish the restore of a party's services from a backup",
		newRestoreCheck(), newRestoreFinish())
}

func newRestoreCheck() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check", Short: "Compare the database, Temporal and the storage, and list what 'finish' would do",
		Args: noArguments,
		Long: "Reports whether the database, Temporal or the storage was restored from a backup, lists the jobs\n" +
			"that have not ended, which 'finish' would end, and the outputs, models and datasets whose content\n" +
			"the storage has lost. It changes nothing. The exit status is 1 if a service was restored or\n" +
			"something is lost.",
		Example: "  hutong restore check -c party.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := withServices(cmd, file, func(s *restore.Services) (restore.Plan, error) {
				return s.Plan(cmd.Context())
			})
			if err != nil {
				return err
			}
			if err := printPlan(cmd, plan, asJSON, "would end"); err != nil {
				return err
			}
			if len(plan.Problems)+len(plan.Lost) > 0 {
				return errSaid
			}
			return nil
		},
	}
	restoreFlags(cmd, &file, &asJSON)
	return cmd
}

func newRestoreFinish() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "finish", Short: "End the jobs that can't continue after a restore, and let the party start again",
		Args: noArguments,
		Long: "Run it after every restore, while all processes of the party are stopped. It ends all jobs that\n" +
			"have not ended, in the database and in Temporal, and has their partners notified once a control\n" +
			"worker runs. It notes on jobs which of their outputs are lost, and refuses ids of jobs from before\n" +
			"the restore from then on. It can be repeated.",
		Example: "  hutong restore finish -c party.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := withServices(cmd, file, func(s *restore.Services) (restore.Plan, error) {
				return s.Finish(cmd.Context())
			})
			if err != nil {
				return err
			}
			return printPlan(cmd, plan, asJSON, "ended")
		},
	}
	restoreFlags(cmd, &file, &asJSON)
	return cmd
}

func restoreFlags(cmd *cobra.Command, file *string, asJSON *bool) {
	configFlag(cmd, file)
	cmd.Flags().BoolVar(asJSON, "json", false, "print the result as JSON")
}

func withServices(cmd *cobra.Command, file string,
	do func(*restore.Services) (restore.Plan, error)) (restore.Plan, error) {
	cfg, err := party.Load(file, os.Environ())
	if err != nil {
		return restore.Plan{}, err
	}
	services, closeAll, err := party.OpenServices(cmd.Context(), cfg, partyLogger(cfg, cmd.ErrOrStderr()))
	if err != nil {
		return restore.Plan{}, err
	}
	defer closeAll()
	return do(services)
}

// printPlan prints the plan of a restore. done says what becomes of the jobs.
func printPlan(cmd *cobra.Command, plan restore.Plan, asJSON bool, done string) error {
	if asJSON {
		data, err := json.Marshal(plan)
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), data)
	}
	var rows [][]string
	for _, problem := range plan.Problems {
		rows = append(rows, []string{"restored", problem})
	}
	for _, j := range plan.Jobs {
		side := "participant"
		if j.Scheduled {
			side = "scheduler"
		}
		where := "in the database and in Temporal"
		switch {
		case !j.InTemporal && j.Outcome != "":
			where = "unfinished in the database, ended in Temporal with " + j.Outcome
		case !j.InTemporal:
			where = "in the database only"
		case !j.InDatabase:
			where = "in Temporal only"
		}
		rows = append(rows, []string{done, fmt.Sprintf("job %s as %s: %s", j.JobID, side, where)})
	}
	for _, l := range plan.Lost {
		rows = append(rows, []string{"lost", strings.TrimSpace(fmt.Sprintf("%s %s: %s",
			strings.TrimSpace(l.Kind+" "+l.Name), ofJob(l.JobID), l.Why))})
	}
	if len(plan.Problems) == 0 {
		rows = append(rows, []string{"ok", "database, Temporal and storage have the same restore mark"})
	}
	return printTable(cmd.OutOrStdout(), rows)
}

func ofJob(jobID string) string {
	if jobID == "" {
		return "of this party"
	}
	return "of job " + jobID
}
