package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"hutong/bfia"
	durationflag "hutong/internal/duration"
)

func newPeriodicCommand(c *client) *cobra.Command {
	return group("periodic", "Submit jobs by a calendar, and pause, resume and delete that",
		newPeriodicAdd(c), newPeriodicChange(c), newPeriodicList(c), newPeriodicShow(c),
		newPeriodicPause(c), newPeriodicResume(c), newPeriodicRun(c), newPeriodicDelete(c))
}

// periodicFlags are the flags of a recurrence.
type periodicFlags struct {
	recurrence    bfia.Recurrence
	overlap, ends string
	catchup       time.Duration
}

func (p *periodicFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.recurrence.Cron, "cron", "",
		"minute, hour, day of month, month and day of week, or @daily, or @every 6h")
	cmd.Flags().StringVar(&p.recurrence.Timezone, "timezone", "",
		"the time zone of --cron, such as Asia/Shanghai (default UTC)")
	choiceFlag(cmd, &p.overlap, "overlap", "", "",
		"what to do while the last job has not ended (default skip)",
		string(bfia.OverlapSkip), string(bfia.OverlapBuffer), string(bfia.OverlapAllowAll))
	durationflag.Flag(cmd.Flags(), &p.catchup, "catchup", 0,
		"how late a run may start if the party was not running (default 1h)")
	cmd.Flags().IntVar(&p.recurrence.PauseOnFailure, "pause-on-failure", 0,
		"pause after this many failures in a row; 0 means never")
	cmd.Flags().IntVar(&p.recurrence.Count, "count", 0, "end after this many jobs; 0 means no limit")
	cmd.Flags().StringVar(&p.ends, "until", "", "the end, a time or a duration from now")
}

// read completes the recurrence from the flags. Those that are not given stay as they are.
func (p *periodicFlags) read(cmd *cobra.Command, into *bfia.Recurrence) error {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	if given("cron") {
		into.Cron = p.recurrence.Cron
	}
	if given("timezone") {
		into.Timezone = p.recurrence.Timezone
	}
	if given("overlap") {
		into.Overlap = bfia.Overlap(p.overlap)
	}
	if given("catchup") {
		into.CatchupSeconds = int(p.catchup.Seconds())
	}
	if given("pause-on-failure") {
		into.PauseOnFailure = p.recurrence.PauseOnFailure
	}
	if given("count") {
		into.Count = p.recurrence.Count
	}
	if given("until") {
		into.EndsAt = nil
		return readUntil(p.ends, &into.EndsAt)
	}
	return nil
}

func newPeriodicAdd(c *client) *cobra.Command {
	var p periodicFlags
	var s submission
	var name, project string
	cmd := &cobra.Command{
		Use: "add [FILE]", Short: "Add a periodic job", Args: atMostOne,
		Long: "Submits a job with this document at each time of a calendar, in your name. The document is\n" +
			"checked as if you submitted it now. Each run is an ordinary job with an id of its own, and\n" +
			"reads the datasets as they are then. --name is optional: the document's flow_id.\n\n" +
			"{{date}} in a text of the document becomes the day of the run in the time zone, {{ymd-1d}} the\n" +
			"day before as 20270130. There are date, ymd, week, month, ym, year, hour, minute and\n" +
			"time; h, d and m are hours, days and months.",
		Example: "  hutong periodic add psi.json --name daily-psi --cron '0 2 * * *' " +
			"--timezone Asia/Shanghai\n" +
			"  hutong periodic add psi.json --cron '@every 6h' --overlap buffer_one --pause-on-failure 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			document, file, err := s.read(cmd, args)
			if err != nil {
				return err
			}
			if name == "" {
				if json.Unmarshal(document["flow_id"], &name) != nil || name == "" {
					return usagef("--name is missing, and %s has no flow_id", file)
				}
			}
			return c.putPeriodic(cmd, bfia.PathPeriodicAdd, name, project, document, &p, bfia.Recurrence{})
		},
	}
	cmd.Flags().StringVarP(&s.file, "file", "f", "", "the job (JSON); - reads standard input")
	cmd.Flags().StringVar(&name, "name", "", "the name of the periodic job")
	cmd.Flags().StringVar(&project, "project", "", "the project of the jobs")
	p.flags(cmd)
	_ = cmd.MarkFlagRequired("cron") // fails only for an unknown flag
	return cmd
}

// putPeriodic adds or changes a periodic job, and prints when it runs.
func (c *client) putPeriodic(cmd *cobra.Command, path, name, project string,
	document map[string]json.RawMessage, p *periodicFlags, recurrence bfia.Recurrence) error {
	request := bfia.AddPeriodic{Name: name, Project: project, Recurrence: recurrence}
	if err := p.read(cmd, &request.Recurrence); err != nil {
		return err
	}
	if document != nil {
		var err error
		if request.Document, err = json.Marshal(document); err != nil {
			return fmt.Errorf("failed to encode the document: %w", err)
		}
	}
	var put bfia.PeriodicAdded
	if _, err := c.post(cmd.Context(), path, request, &put); err != nil {
		return err
	}
	if err := printWarnings(cmd, put.Warnings); err != nil {
		return err
	}
	if len(put.Upcoming) == 0 {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s runs no more\n", plain(name))
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s runs next at %s\n", plain(name), clock(&put.Upcoming[0]))
	return err
}

func newPeriodicChange(c *client) *cobra.Command {
	var p periodicFlags
	var file string
	cmd := &cobra.Command{
		Use: "change PERIODIC", Short: "Change when a periodic job runs, or what it submits",
		Args: exactly("PERIODIC"),
		Long: "Changes what the flags name, from now on. The jobs are then submitted in your name. -f\n" +
			"replaces the document.",
		Example: "  hutong periodic change daily-psi --cron '30 3 * * *'\n" +
			"  hutong periodic change daily-psi -f psi.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			now, _, err := c.periodic(cmd, args[0])
			if err != nil {
				return err
			}
			var document map[string]json.RawMessage
			if file != "" {
				if document, err = readFile(file, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			return c.putPeriodic(cmd, bfia.PathPeriodicChange, args[0], "", document, &p, now.Recurrence)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the new document (JSON); - reads standard input")
	p.flags(cmd)
	return cmd
}

// periodic returns a periodic job, also as JSON.
func (c *client) periodic(cmd *cobra.Command, name string) (bfia.Periodic, json.RawMessage, error) {
	var list []json.RawMessage
	var found bfia.Periodic
	if err := c.get(cmd.Context(), bfia.PathPeriodicQuery, url.Values{"name": {name}}, &list); err != nil {
		return found, nil, err
	}
	if len(list) != 1 {
		return found, nil, errors.New("failed to decode the periodic job: the party returned another number")
	}
	if err := json.Unmarshal(list[0], &found); err != nil {
		return found, nil, fmt.Errorf("failed to decode the periodic job: %w", err)
	}
	return found, list[0], nil
}

func newPeriodicList(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List periodic jobs with their next run and the last outcome", Args: noArguments,
		Example: "  hutong periodic list\n  hutong periodic list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathPeriodicQuery, nil, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var list []bfia.Periodic
			if err := json.Unmarshal(data, &list); err != nil {
				return fmt.Errorf("failed to decode the list of periodic jobs: %w", err)
			}
			return printList(cmd, "periodic jobs", periodicTable(list))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func periodicTable(list []bfia.Periodic) [][]string {
	rows := [][]string{{"PERIODIC", "CRON", "TIME ZONE", "STATE", "NEXT RUN", "LAST RUN", "OUTCOME", "OWNER"}}
	var projects []string
	for _, p := range list {
		projects = append(projects, p.Project)
		last, outcome := "-", "-"
		if len(p.LastRuns) > 0 {
			last, outcome = clock(&p.LastRuns[0].ScheduledAt), string(p.LastRuns[0].Outcome)
		}
		rows = append(rows, []string{p.Name, p.Cron, valueOr(p.Timezone, "UTC"), string(p.State),
			clock(p.NextAt), last, outcome, valueOr(p.Owner, "-")})
	}
	return withProjects(rows, 1, projects)
}

func newPeriodicShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show PERIODIC", Short: "Show a periodic job with its last runs", Args: exactly("PERIODIC"),
		Example: "  hutong periodic show daily-psi\n  hutong periodic show daily-psi -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, document, err := c.periodic(cmd, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), document)
			}
			return showPeriodic(cmd.OutOrStdout(), p)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// showPeriodic prints a periodic job for people.
func showPeriodic(w io.Writer, p bfia.Periodic) error {
	policy := string(p.Overlap)
	if p.Overlap == "" {
		policy = string(bfia.OverlapSkip)
	}
	lines := []string{"name:      " + plain(p.Name),
		"calendar:  " + plain(p.Cron) + ", " + valueOr(p.Timezone, "UTC"),
		"overlap:   " + policy,
		"owner:     " + plain(valueOr(p.Owner, "-")), "state:     " + string(p.State)}
	if p.Reason != "" {
		lines = append(lines, "reason:    "+plain(p.Reason))
	}
	for i, at := range p.Upcoming {
		lines = append(lines, map[bool]string{true: "next runs: ", false: "           "}[i == 0]+clock(&at))
	}
	if _, err := fmt.Fprintln(w, strings.Join(lines, "\n")); err != nil {
		return err
	}
	if len(p.LastRuns) == 0 {
		_, err := fmt.Fprintln(w, "\nIt has not run yet.")
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows := [][]string{{"RUN AT", "JOB", "OUTCOME", "REASON"}}
	for _, r := range p.LastRuns {
		at := clock(&r.ScheduledAt)
		if r.Manual {
			at += " by hand"
		}
		rows = append(rows, []string{at, valueOr(r.JobID, "-"), string(r.Outcome), valueOr(r.Reason, "-")})
	}
	return printTable(w, rows)
}

func newPeriodicPause(c *client) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "pause PERIODIC", Short: "Pause a periodic job", Args: exactly("PERIODIC"),
		Long:    "Submits nothing until it is resumed. Its job that runs continues.",
		Example: "  hutong periodic pause daily-psi --reason 'the partner moves its data center'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onPeriodic(cmd, bfia.PathPeriodicPause, args[0], "paused",
				bfia.PausePeriodic{Name: args[0], Reason: reason})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who see it in the list")
	return cmd
}

// onPeriodic sends a command about a periodic job and prints what was done.
func (c *client) onPeriodic(cmd *cobra.Command, path, name, done string, request any) error {
	if _, err := c.post(cmd.Context(), path, request, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "periodic job %s %s\n", plain(name), done)
	return err
}

func newPeriodicResume(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "resume PERIODIC", Short: "Resume a paused periodic job", Args: exactly("PERIODIC"),
		Long: "Submits jobs again from the next time of the calendar. What passed during the pause is not\n" +
			"made up for; 'hutong periodic run' submits a job at once.",
		Example: "  hutong periodic resume daily-psi",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onPeriodic(cmd, bfia.PathPeriodicResume, args[0], "resumed",
				bfia.PeriodicRef{Name: args[0]})
		},
	}
}

func newPeriodicRun(c *client) *cobra.Command {
	request := bfia.RunPeriodic{RequestID: uuid.NewString()}
	cmd := &cobra.Command{
		Use: "run PERIODIC", Short: "Submit a job of a periodic job now, and print its id",
		Args: exactly("PERIODIC"),
		Long: "Submits a job now, in the name of the owner, also while the periodic job is paused. The\n" +
			"calendar does not change.\n\n" +
			"--request-id names the request. Repeated with the same id, it prints the id of the first job\n" +
			"and submits no second one, so that a script can repeat it after a lost answer.",
		Example: "  hutong periodic run daily-psi\n" +
			"  hutong periodic run daily-psi --request-id reload-20270131",
		RunE: func(cmd *cobra.Command, args []string) error {
			var started bfia.PeriodicStarted
			request.Name = args[0]
			if _, err := c.post(cmd.Context(), bfia.PathPeriodicRun, request, &started); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), plain(started.JobID))
			return err
		},
	}
	cmd.Flags().StringVar(&request.RequestID, "request-id", request.RequestID,
		"the id of the request, a new one by default")
	cmd.Flags().Lookup("request-id").DefValue = ""
	return cmd
}

func newPeriodicDelete(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "delete PERIODIC", Short: "Delete a periodic job with its history",
		Args:    exactly("PERIODIC"),
		Long:    "Deletes it with its history. Its jobs stay, also one that runs.",
		Example: "  hutong periodic delete daily-psi",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onPeriodic(cmd, bfia.PathPeriodicDelete, args[0], "deleted",
				bfia.PeriodicRef{Name: args[0]})
		},
	}
}
