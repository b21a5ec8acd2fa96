package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"hutong/bfia"
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

// projectQuery returns the query of a request that names a project, with its question mark, or "".
func projectQuery(project string) string {
	if project == "" {
		return ""
	}
	return "?" + url.Values{"project": {project}}.Encode()
}

func newProjectCreate(c *client) *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create PROJECT", Short: "Create a project", Args: exactly("PROJECT"),
		Long: "Creates a project: a department of this party with its own datasets, models and jobs.\n" +
			"Partners don't see it. Give clients roles in it with 'hutong token create --roles\n" +
			"viewer@PROJECT,operator@PROJECT'. Its name is not used again once it is removed.",
		Example: "  hutong project create risk --description 'Credit risk'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var made bfia.Project
			if _, err := c.post(cmd.Context(), bfia.PathProjectCreate,
				bfia.SetProject{Name: args[0], Description: &description}, &made); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "project %s is created\n", plain(made.Name))
			return err
		},
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
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
			rows := [][]string{{"PROJECT", "DATASETS", "MODELS", "JOBS", "DESCRIPTION"}}
			for _, p := range projects {
				rows = append(rows, []string{p.Name, strconv.Itoa(p.Datasets), strconv.Itoa(p.Models),
					strconv.Itoa(p.Jobs), p.Description})
			}
			return printList(cmd, "projects", rows)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
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
	var description string
	cmd := &cobra.Command{
		Use: "set PROJECT", Short: "Change the settings of a project", Args: exactly("PROJECT"),
		Example: "  hutong project set risk --description 'Credit risk of companies'",
		RunE: func(cmd *cobra.Command, args []string) error {
			change := bfia.SetProject{Name: args[0]}
			if cmd.Flags().Changed("description") {
				change.Description = &description
			}
			if _, err := c.post(cmd.Context(), bfia.PathProjectSet, change, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "project %s is changed\n", plain(args[0]))
			return err
		},
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.MarkFlagsOneRequired("description")
	return cmd
}

func newProjectRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "remove PROJECT", Short: "Remove a project without datasets, models and jobs",
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
