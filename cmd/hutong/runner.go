package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newRunnerCommand(c *client) *cobra.Command {
	return group("runner", "List and drain the machines that run this party's tasks",
		newRunnerList(c), newRunnerShow(c), newRunnerDrain(c, true), newRunnerDrain(c, false))
}

func newRunnerList(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List runners with their state, reserved resources and labels",
		Long: "Lists the runners of this party. SLOTS, CPU (cores), MEMORY and DISK (GiB) show what\n" +
			"jobs have reserved of the total. RUNNING counts containers. Only a runner in state online\n" +
			"gets new tasks.",
		Example: "  hutong runner list\n  hutong runner list -o yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathRunnerQuery, nil, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var runners []bfia.Runner
			if err := json.Unmarshal(data, &runners); err != nil {
				return fmt.Errorf("failed to decode the list of runners: %w", err)
			}
			return printList(cmd, "runners", runnerTable(runners))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func runnerTable(runners []bfia.Runner) [][]string {
	rows := [][]string{
		{"RUNNER", "STATE", "DEVICES", "SLOTS", "CPU", "MEMORY", "DISK", "GPU", "RUNNING", "LABELS",
			"HEARTBEAT"},
	}
	for _, r := range runners {
		var labels []string
		for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
			labels = append(labels, name+"="+r.Labels[name])
		}
		rows = append(rows, []string{r.RunnerID, string(r.State), strings.Join(r.Devices, ", "),
			fmt.Sprintf("%d/%d", r.Used.Slots, r.Total.Slots), ofTotal(r.Used.CPUMilli, r.Total.CPUMilli,
				1000),
			ofTotal(r.Used.Memory, r.Total.Memory, 1<<30), ofTotal(r.Used.Disk, r.Total.Disk, 1<<30),
			fmt.Sprintf("%d/%d", r.Used.GPU, r.Total.GPU),
			strconv.Itoa(r.Running), strings.Join(labels, ", "), clock(&r.HeartbeatAt)})
	}
	return rows
}

func newRunnerShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show RUNNER", Short: "Show all that the party knows of a runner",
		Example: "  hutong runner show worker-3",
		Args:    exactly("RUNNER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var runners []json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathRunnerQuery, nil, &runners); err != nil {
				return err
			}
			return showNamed(cmd, asJSON, "runner", "runner_id", args[0], runners)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// ofTotal formats an amount in use and the total, in units: 1.5/8. A total of 0 is unknown.
func ofTotal(used, total, unit int64) string {
	figure := func(n int64) string {
		text := strconv.FormatFloat(float64(n)/float64(unit), 'f', 2, 64)
		return strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if total == 0 {
		return figure(used) + "/?"
	}
	return figure(used) + "/" + figure(total)
}

func newRunnerDrain(c *client, draining bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain RUNNER", Short: "Give a runner no new tasks; running containers continue",
		Long: "Gives a runner no new tasks until 'hutong runner undrain', also after a restart of its\n" +
			"worker or machine. Running containers continue to their end. When 'hutong runner list'\n" +
			"shows drained, the machine can be switched off.",
		Example: "  hutong runner drain worker-3",
		Args:    exactly("RUNNER"),
	}
	if !draining {
		cmd.Use, cmd.Short, cmd.Long = "undrain RUNNER", "Give a drained runner new tasks again", ""
		cmd.Example = "  hutong runner undrain worker-3"
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body := bfia.DrainRunner{RunnerID: args[0], Draining: &draining}
		if _, err := c.post(cmd.Context(), bfia.PathRunnerDrain, body, nil); err != nil {
			return err
		}

		text := "runner %s is draining; see 'hutong runner list' for when it is drained\n"
		if !draining {
			text = "runner %s gets new tasks again\n"
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), text, args[0])
		return err
	}
	return cmd
}
