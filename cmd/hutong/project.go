package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	durationflag "hutong/internal/duration"
	"hutong/internal/identity"
)

func newProjectCommand(c *client) *cobra.Command {
	return group("project", "Create, list and change projects, the departments of this party",
		newProjectCreate(c), newProjectList(c), newProjectShow(c), newProjectSet(c), newProjectRemove(c))
}

// projectFlag adds the flag --project of a command that makes something.
func projectFlag(cmd *cobra.Command, project *string) {
	cmd.Flags().StringVar(project, "project", "",
		"the project to which it belongs (default: your only project, or default)")
}

// withProjects adds the column PROJECT at an index of a table, if a row has another project than default.
// Parties leave that out.
func withProjects(rows [][]string, at int, projects []string) [][]string {
	if !slices.ContainsFunc(projects, func(p string) bool { return p != "" }) {
		return rows
	}
	for i, row := range rows {
		value := "PROJECT"
		if i > 0 {
			value = valueOr(projects[i-1], identity.DefaultProject)
		}
		rows[i] = slices.Insert(row, at, value)
	}
	return rows
}

// projectQuery returns the query of a request that names a project, with its question mark, or "".
func projectQuery(project string) string {
	if project == "" {
		return ""
	}
	return "?" + url.Values{"project": {project}}.Encode()
}

// projectSettings holds the flags of the settings of a project.
type projectSettings struct {
	description            string
	maxJobs, maxContainers int
	maxCPU, maxMemory      float64
	maxStorage             float64
	retention              time.Duration
	partnerJobs            []string
}

// The flags that set the quota of a project.
var quotaFlags = []string{"max-jobs", "max-containers", "max-cpu", "max-memory", "max-storage"}

func (p *projectSettings) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.description, "description", "", "what it is for")
	f.IntVar(&p.maxJobs, "max-jobs", 0, "how many of its jobs may hold resources here at once (0: no limit)")
	f.IntVar(&p.maxContainers, "max-containers", 0, "how many containers they may have at once (0: no limit)")
	f.Float64Var(&p.maxCPU, "max-cpu", 0, "how many CPU cores they may hold (0: no limit)")
	f.Float64Var(&p.maxMemory, "max-memory", 0, "how many GiB of memory they may hold (0: no limit)")
	f.Float64Var(&p.maxStorage, "max-storage", 0,
		"how many GiB its datasets, models and outputs may take (0: no limit)")
	durationflag.Flag(f, &p.retention, "retention", 0,
		"how long results are kept after a job's end, in whole hours (0: as the party keeps them)")
	f.StringSliceVar(&p.partnerJobs, "partner-jobs", nil, "jobs of partners that belong to it although they "+
		"read nothing here: NODE, or NODE/FLOW")
}

// change returns what the flags change of a project.
func (p *projectSettings) change(cmd *cobra.Command, name string) (bfia.SetProject, error) {
	change, quota := bfia.SetProject{Name: name}, bfia.QuotaChange{}
	changed := cmd.Flags().Changed
	if changed("description") {
		change.Description = &p.description
	}
	if changed("max-jobs") {
		quota.Jobs = &p.maxJobs
	}
	if changed("max-containers") {
		quota.Containers = &p.maxContainers
	}
	for _, f := range []struct {
		flag  string
		value float64
		unit  float64
		into  **int64
	}{{"max-cpu", p.maxCPU, 1000, &quota.CPUMilli}, {"max-memory", p.maxMemory, 1 << 30, &quota.Memory},
		{"max-storage", p.maxStorage, 1 << 30, &quota.Storage}} {
		if !changed(f.flag) {
			continue
		}
		if !(f.value >= 0 && f.value <= 1e6) {
			return change, usagef("--%s: %v is not from 0 to 1000000", f.flag, f.value)
		}
		n := int64(math.Round(f.value * f.unit))
		if n == 0 && f.value > 0 {
			return change, usagef("--%s: %v is too small", f.flag, f.value)
		}
		*f.into = &n
	}
	if slices.ContainsFunc(quotaFlags, changed) {
		change.Quota = &quota
	}
	if changed("retention") {
		if p.retention < 0 || p.retention%time.Hour != 0 {
			return change, usagef("--retention: %s is no number of whole hours",
				durationflag.Format(p.retention))
		}
		hours := int(p.retention / time.Hour)
		change.RetentionHours = &hours
	}
	if changed("partner-jobs") {
		jobs := []bfia.PartnerJobs{}
		for _, text := range p.partnerJobs {
			if node, flow, _ := strings.Cut(text, "/"); node != "" { // "" alone: none
				jobs = append(jobs, bfia.PartnerJobs{NodeID: node, FlowID: flow})
			}
		}
		change.PartnerJobs = &jobs
	}
	return change, nil
}

func newProjectCreate(c *client) *cobra.Command {
	var settings projectSettings
	cmd := &cobra.Command{
		Use: "create PROJECT", Short: "Create a project", Args: exactly("PROJECT"),
		Long: "Creates a project: a department of this party with its own datasets, models and jobs.\n" +
			"Partners don't see it. Give clients roles in it with 'hutong token create --roles\n" +
			"viewer@PROJECT,operator@PROJECT'. Its name is not used again once it is removed.",
		Example: "  hutong project create risk --description 'Credit risk'\n" +
			"  hutong project create research --max-jobs 4 --max-cpu 16 --max-memory 64 --retention 7d",
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := settings.change(cmd, args[0])
			if err != nil {
				return err
			}
			var made bfia.Project
			if _, err := c.post(cmd.Context(), bfia.PathProjectCreate, request, &made); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "project %s is created\n", plain(made.Name))
			return err
		},
	}
	settings.register(cmd)
	return cmd
}

func newProjectList(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the projects that you may see, with what they have", Args: noArguments,
		Example: "  hutong project list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathProjectQuery, nil, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var projects []bfia.Project
			if err := json.Unmarshal(data, &projects); err != nil {
				return fmt.Errorf("failed to decode the list of projects: %w", err)
			}
			rows := [][]string{{"PROJECT", "DATASETS", "MODELS", "JOBS", "QUOTA", "RETENTION", "DESCRIPTION"}}
			for _, p := range projects {
				retention := "-"
				if p.RetentionHours > 0 {
					retention = durationflag.Format(time.Duration(p.RetentionHours) * time.Hour)
				}
				rows = append(rows, []string{p.Name, strconv.Itoa(p.Datasets), strconv.Itoa(p.Models),
					strconv.Itoa(p.Jobs), quotaText(p.Quota), retention, p.Description})
			}
			return printList(cmd, "projects", rows)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// quotaText returns a quota for a list: its limits, or a hyphen.
func quotaText(q bfia.ProjectQuota) string {
	var limits []string
	add := func(n float64, unit string) {
		if n > 0 {
			limits = append(limits, strconv.FormatFloat(math.Round(n*1000)/1000, 'f', -1, 64)+" "+unit)
		}
	}
	add(float64(q.Jobs), "jobs")
	add(float64(q.Containers), "containers")
	add(float64(q.CPUMilli)/1000, "cores")
	add(float64(q.Memory)/(1<<30), "GiB")
	add(float64(q.Storage)/(1<<30), "GiB stored")
	return valueOr(strings.Join(limits, ", "), "-")
}

func newProjectShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show PROJECT", Short: "Show a project with its settings and what it has",
		Example: "  hutong project show risk",
		Args:    exactly("PROJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var projects []json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathProjectQuery, nil, &projects); err != nil {
				return err
			}
			return showNamed(cmd, asJSON, "project", "name", args[0], projects)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newProjectSet(c *client) *cobra.Command {
	var settings projectSettings
	cmd := &cobra.Command{
		Use: "set PROJECT", Short: "Change the settings of a project", Args: exactly("PROJECT"),
		Long: "Changes the settings that its flags name. --partner-jobs replaces the whole list;\n" +
			"--partner-jobs '' empties it. A lower quota takes nothing from jobs that hold more.",
		Example: "  hutong project set risk --description 'Credit risk of companies'\n" +
			"  hutong project set risk --max-jobs 8 --partner-jobs JG0100001100000010/credit",
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := settings.change(cmd, args[0])
			if err != nil {
				return err
			}
			if _, err := c.post(cmd.Context(), bfia.PathProjectSet, change, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "project %s is changed\n", plain(args[0]))
			return err
		},
	}
	settings.register(cmd)
	cmd.MarkFlagsOneRequired(append([]string{"description", "retention", "partner-jobs"}, quotaFlags...)...)
	return cmd
}

func newProjectRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "remove PROJECT", Short: "Remove a project without datasets, models, jobs and periodic jobs",
		Args:    exactly("PROJECT"),
		Example: "  hutong project remove risk",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := c.post(cmd.Context(), bfia.PathProjectRemove, bfia.ProjectRef{Name: args[0]},
				nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "project %s is removed\n", plain(args[0]))
			return err
		},
	}
}
