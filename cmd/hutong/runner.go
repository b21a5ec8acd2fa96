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
		newRunnerList(c), newRunnerDrain(c, true), newRunnerDrain(c, false))
}

func newRunnerList(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List hosts: what they have, what jobs hold of it, and how they stand",
		Long: "Lists the machines that run this party's tasks. SLOTS, CPU (cores), MEMORY and DISK (GiB) are what jobs hold of what\n" +
			"there is; RUNNING are containers that are there now. Nothing new is placed on a host that is not ready.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathRunnerQuery, nil, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var hosts []bfia.Runner
			if err := json.Unmarshal(data, &hosts); err != nil {
				return fmt.Errorf("the list of hosts is not as documented: %w", err)
			}
			return printTable(cmd.OutOrStdout(), runnerTable(hosts))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func runnerTable(hosts []bfia.Runner) [][]string {
	rows := [][]string{{"HOST", "STATE", "DEVICES", "SLOTS", "CPU", "MEMORY", "DISK", "RUNNING", "LABELS", "SEEN"}}
	for _, h := range hosts {
		var labels []string
		for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
			labels = append(labels, name+"="+h.Labels[name])
		}
		rows = append(rows, []string{h.RunnerID, string(h.State), strings.Join(h.Devices, ", "),
			fmt.Sprintf("%d/%d", h.Used.Slots, h.Total.Slots), ofTotal(h.Used.CPU, h.Total.CPU), ofTotal(h.Used.Memory, h.Total.Memory),
			ofTotal(h.Used.Disk, h.Total.Disk), strconv.Itoa(h.Running), strings.Join(labels, ", "), clock(&h.HeartbeatAt)})
	}
	return rows
}

// ofTotal is what is used of what there is.
func ofTotal(used, total float64) string {
	figure := func(n float64) string {
		text := strconv.FormatFloat(n, 'f', 2, 64)
		return strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if total == 0 {
		return figure(used) + "/?"
	}
	return figure(used) + "/" + figure(total)
}

func newRunnerDrain(c *client, draining bool) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain HOST", Short: "Place nothing new on a host; what runs there goes on",
		Long: "Places nothing new on a host, also after its worker or machine was started again, until it is undrained. Containers\n" +
			"that run there go on to their end; when hutong runner list says drained, the machine can be switched off.",
		Args: cobra.ExactArgs(1),
	}
	if !draining {
		cmd.Use, cmd.Short, cmd.Long = "undrain HOST", "Place runs on a host again that was drained", ""
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := c.post(cmd.Context(), bfia.PathRunnerDrain, bfia.DrainRunner{RunnerID: args[0], Draining: &draining}, nil); err != nil {
			return err
		}
		text := "host %s gets nothing new; hutong runner list tells when it is drained\n"
		if !draining {
			text = "host %s takes runs again\n"
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), text, args[0])
		return err
	}
	return cmd
}
