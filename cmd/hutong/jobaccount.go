package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobAccount(c *client) *cobra.Command {
	var asJSON bool
	var other string
	cmd := &cobra.Command{
		Use: "account ID", Short: "Show what a job has used and exchanged at this party",
		Long: "Shows what the containers of a job have used at this party, by task and attempt: CPU time, the\n" +
			"peak of their memory and their time; and the bytes of messages that they have exchanged with\n" +
			"partners. 'unknown' is what no one has measured, and '>=' marks lower bounds. The traffic is\n" +
			"recorded after the job's end. The account stays when the job is deleted.\n\n" +
			"--compare holds this party's account against that of a partner, which it has written with\n" +
			"-o json: the bytes that one has sent against those that the other has received. The exit status\n" +
			"is 0 only if all agrees.",
		Example: "  hutong job account 202601021200000000001\n" +
			"  hutong job account 202601021200000000001 -o json > bank-a.json\n" +
			"  hutong job account 202601021200000000001 --compare bank-a.json",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathJobAccount, url.Values{"job_id": {args[0]}},
				&data); err != nil {
				return err
			}
			var account bfia.JobAccount
			if err := json.Unmarshal(data, &account); err != nil {
				return fmt.Errorf("failed to decode the account: %w", err)
			}
			out := cmd.OutOrStdout()
			switch {
			case other != "":
				return compareAccounts(out, &account, other)
			case asJSON:
				return printJSON(out, data)
			}
			return printAccount(out, &account)
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().StringVar(&other, "compare", "", "a partner's account of the job, as JSON")
	return cmd
}

// accountLine returns the totals of a job in one line, or nothing if the party has none of it.
func (c *client) accountLine(ctx context.Context, jobID string) []string {
	var account bfia.JobAccount
	if err := c.get(ctx, bfia.PathJobAccount, url.Values{"job_id": {jobID}}, &account); err != nil ||
		account.Totals.Attempts == 0 {
		return nil // an earlier version of the party; the status does not depend on it
	}
	t := account.Totals
	text := fmt.Sprintf("used at %s: CPU %s, peak memory %s, containers %s", plain(account.NodeID),
		seconds(t.CPUSeconds, t.AtLeast), memory(t.PeakMemory, t.AtLeast),
		seconds(t.ContainerSeconds, t.AtLeast))
	if account.TrafficComplete {
		text += fmt.Sprintf("; sent %s, received %s", size(t.Sent), size(t.Received))
	}
	return []string{text}
}

// seconds formats a number of seconds, which nil leaves unknown.
func seconds(n *float64, atLeast bool) string {
	if n == nil {
		return "unknown"
	}
	return bound(atLeast) + strconv.FormatFloat(*n, 'f', 2, 64) + " s"
}

// memory formats a number of bytes, which nil leaves unknown.
func memory(n *int64, atLeast bool) string {
	if n == nil {
		return "unknown"
	}
	return bound(atLeast) + size(*n)
}

func bound(atLeast bool) string {
	if atLeast {
		return ">= "
	}
	return ""
}

func printAccount(w io.Writer, a *bfia.JobAccount) error {
	rows := [][]string{{"TASK", "ROLE", "ATTEMPT", "DEVICE", "RUNNER", "STARTED", "CONTAINER", "CPU",
		"MEMORY"}}
	for i := range a.Parts {
		p := &a.Parts[i]
		rows = append(rows, []string{p.Task, p.Role, strconv.Itoa(p.Attempt), p.Device, p.RunnerID,
			clock(p.StartedAt), seconds(p.ContainerSeconds, false), seconds(p.CPUSeconds, p.AtLeast),
			memory(p.PeakMemory, p.AtLeast)})
	}
	t := a.Totals
	rows = append(rows, []string{"total", "", "", "", "", "", seconds(t.ContainerSeconds, t.AtLeast),
		seconds(t.CPUSeconds, t.AtLeast), memory(t.PeakMemory, t.AtLeast)})
	if err := printTable(w, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if !a.TrafficComplete {
		_, err := fmt.Fprintln(w, "The bytes exchanged with partners are recorded after the job's end.")
		return err
	}
	rows = [][]string{{"TASK", "ATTEMPT", "PARTNER", "SENT", "MESSAGES", "RECEIVED", "MESSAGES",
		"UNCONFIRMED"}}
	bytes := func(n int64, atLeast bool) string { return bound(atLeast) + strconv.FormatInt(n, 10) }
	for i := range a.Traffic {
		x := &a.Traffic[i]
		task, attempt := x.Task, strconv.Itoa(x.Attempt)
		if task == "" {
			task, attempt = "unknown", "-"
		}
		rows = append(rows, []string{task, attempt, x.NodeID, bytes(x.Sent, x.AtLeast),
			bytes(x.SentMessages, x.AtLeast), bytes(x.Received, x.AtLeast),
			bytes(x.ReceivedMessages, x.AtLeast), bytes(x.Unconfirmed, x.AtLeast)})
	}
	rows = append(rows, []string{"total", "", "", bytes(t.Sent, false), "", bytes(t.Received, false)})
	return printTable(w, rows)
}

// compareAccounts holds this party's account against that in a file.
func compareAccounts(w io.Writer, own *bfia.JobAccount, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("--compare: %w", err)
	}
	var other bfia.JobAccount
	if err := json.Unmarshal(text, &other); err != nil || other.JobID == "" || other.NodeID == "" {
		return usagef("--compare: %s is no account of a job, as 'hutong job account ID -o json' writes it",
			name)
	}
	findings, err := bfia.CompareAccounts(own, &other)
	if err != nil {
		return fmt.Errorf("--compare: %s: %w", name, err)
	}
	differ := 0
	for _, f := range findings {
		mark := "agree "
		if !f.Agrees {
			mark = "DIFFER"
			differ++
		}
		if _, err := fmt.Fprintln(w, mark, plain(f.Text)); err != nil {
			return err
		}
	}
	if differ > 0 {
		return fmt.Errorf("the accounts differ at %d of %d points", differ, len(findings))
	}
	return nil
}
