package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

// outputFilter selects outputs of a job.
type outputFilter struct{ task, role, output string }

// matches reports whether the filter selects an output. An output has the name of its port; a key of the
// document works too.
func (f outputFilter) matches(o bfia.Output) bool {
	return (f.task == "" || f.task == o.TaskName) &&
		(f.role == "" || f.role == o.Role || strings.HasPrefix(o.Role, f.role+".")) &&
		(f.output == "" || f.output == o.Output || f.output == o.Key)
}

// outputName returns the name by which people find an output.
func outputName(o bfia.Output) string { return valueOr(o.Output, o.Key) }

func newJobOutputs(c *client) *cobra.Command {
	var asJSON, show bool
	var filter outputFilter
	var out string
	cmd := &cobra.Command{
		Use:   "outputs ID",
		Short: "List or download the outputs of a job at this party, or draw its reports",
		Long: "Lists the outputs of a job's tasks at this party. With --output it downloads one: a\n" +
			"dataset as CSV, another output as its JSON document. --show draws the reports.",
		Example: "  hutong job outputs 202601021200000000001 --show\n" +
			"  hutong job outputs 202601021200000000001 --task boosting --output predictions -o predictions.csv",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out != "" && filter.output == "" {
				return usagef("-o: needs --output, the name of the output to download")
			}
			var data struct {
				Outputs []bfia.Output `json:"outputs"`
			}
			query := url.Values{"job_id": {args[0]}}
			if err := c.get(cmd.Context(), bfia.PathJobOutputs, query, &data); err != nil {
				return err
			}
			selected := slices.DeleteFunc(slices.Clone(data.Outputs),
				func(o bfia.Output) bool { return !filter.matches(o) })
			if len(selected) == 0 && filter != (outputFilter{}) {
				return c.noOutput(cmd, args[0], filter, data.Outputs)
			}
			switch {
			case asJSON:
				text, err := json.Marshal(map[string]any{"outputs": selected})
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), text)
			case show:
				return c.showReports(cmd.Context(), cmd.OutOrStdout(), selected)
			case filter.output == "":
				return printTable(cmd.OutOrStdout(), outputTable(selected))
			case len(selected) > 1:
				return fmt.Errorf("several outputs match; choose one with --task and --role: %s",
					describeOutputs(selected))
			}
			return c.downloadTo(cmd, selected[0].Namespace, selected[0].Name, out)
		},
	}
	cmd.Flags().StringVar(&filter.task, "task", "", "only the outputs of this task")
	cmd.Flags().StringVar(&filter.role, "role", "", "only the outputs of this role, such as guest.0")
	cmd.Flags().StringVar(&filter.output, "output", "", "download the output of this name")
	cmd.Flags().StringVarP(&out, "out", "o", "", "the file to write (default: standard output)")
	cmd.Flags().BoolVar(&show, "show", false, "draw the reports instead of listing outputs")
	jsonFlag(cmd, &asJSON)
	cmd.MarkFlagsMutuallyExclusive("show", "json", "output")
	return cmd
}

func outputTable(outputs []bfia.Output) [][]string {
	rows := [][]string{{"TASK", "ROLE", "TYPE", "OUTPUT", "SIZE", "NAMESPACE", "NAME"}}
	for _, o := range outputs {
		rows = append(rows, []string{o.TaskName, o.Role, o.Type, outputName(o), size(o.Bytes), o.Namespace,
			o.Name})
	}
	return rows
}

func describeOutputs(outputs []bfia.Output) string {
	var names []string
	for _, o := range outputs {
		names = append(names, fmt.Sprintf("%s of task %s at %s", outputName(o), o.TaskName, o.Role))
	}
	return strings.Join(names, ", ")
}

// noOutput explains that no output matches a filter.
func (c *client) noOutput(cmd *cobra.Command, jobID string, filter outputFilter, all []bfia.Output) error {
	if status, err := c.status(cmd.Context(), jobID); err == nil && filter.task != "" {
		if names := taskNames(status); len(names) > 0 && !slices.Contains(names, filter.task) {
			return unknownTask(jobID, filter.task, names)
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("job %s has no outputs at this party", jobID)
	}
	return fmt.Errorf("no output of job %s at this party matches; it has %s", jobID, describeOutputs(all))
}
