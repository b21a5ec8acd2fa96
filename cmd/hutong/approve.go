package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newJobShow(c *client) *cobra.Command {
	var asJSON, approval bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show what a job does, before it is approved", Args: exactly("ID"),
		Long: "Shows what an approver decides on: the components with the images that this party runs and\n" +
			"their ids, the models of earlier jobs that it uses, the datasets with the columns of this party's\n" +
			"own, the parameters, and which party gets which output. --json also has the document as it was submitted.\n" +
			"--approval describes in sentences what this party's data is used for, who learns what, and what differs\n" +
			"from the job of the flow that this party approved last.",
		Example: "  hutong job show 202601021200000000001\n  hutong job show 202601021200000000001 --json\n" +
			"  hutong job show 202601021200000000001 --approval",
		RunE: func(cmd *cobra.Command, args []string) error {
			if approval && !asJSON {
				return c.printApproval(cmd, args[0])
			}
			path := bfia.PathJobShow
			if approval {
				path = bfia.PathJobApproval
			}
			var data json.RawMessage
			if err := c.get(cmd.Context(), path, url.Values{"job_id": {args[0]}},
				&data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var view bfia.JobView
			if err := json.Unmarshal(data, &view); err != nil {
				return fmt.Errorf("failed to decode the job: %w", err)
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), showJob(&view, time.Now()))
			return err
		},
	}
	cmd.Flags().BoolVar(&approval, "approval", false, "describe in sentences what an approver decides on")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// printApproval prints sentences on what an approver decides on.
func (c *client) printApproval(cmd *cobra.Command, jobID string) error {
	var approval bfia.Approval
	if err := c.get(cmd.Context(), bfia.PathJobApproval, url.Values{"job_id": {jobID}},
		&approval); err != nil {
		return err
	}
	for _, text := range approval.Text {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), plainSentence(text)); err != nil {
			return err
		}
	}
	return nil
}

// showJob describes a job to its approver.
func showJob(view *bfia.JobView, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("job %s  %s  flow %s", plain(view.JobID), view.State, plain(view.FlowID))
	submitter := plain(view.Initiator.NodeID)
	if len(view.SubmittedBy) > 0 {
		submitter = plain(strings.Join(view.SubmittedBy, ", ")) + " of " + submitter
	}
	line("submitted by %s, scheduled by %s", submitter, plain(view.Scheduler))
	var parts []string
	for _, p := range view.Parts {
		parts = append(parts, fmt.Sprintf("%s %s", p.Self(), plain(p.NodeID)))
	}
	line("parties: %s (this party is %s)", strings.Join(parts, ", "), plain(view.Self))
	for _, w := range view.Waiting {
		line("%s", waitText(w, now))
	}
	for _, t := range view.Tasks {
		line("\ntask %s: %s of %s", plain(t.Name), plain(t.Component), plain(t.Provider))
		if len(t.DependsOn) > 0 {
			line("  after    %s", plain(strings.Join(t.DependsOn, ", ")))
		}
		for _, i := range t.Images {
			line("  runs     %s: %s%s", plain(i.Device),
				plain(valueOr(i.Image, strings.Join(i.Command, " "))), imageIDsText(i))
		}
		for _, text := range modelTexts(t.Parts) {
			line("  model    %s", text)
		}
		for _, p := range t.Parts {
			line("  %-8s %s%s", p.Role, plain(p.NodeID), datasetText(p.Dataset, p.NodeID == view.Self))
			for _, name := range slices.Sorted(maps.Keys(p.Parameters)) {
				line("    %s = %s", plain(name), plain(string(p.Parameters[name])))
			}
		}
		for _, o := range t.Outputs {
			line("  output   %s %s: to %s", plain(o.Type), plain(o.Key), plain(strings.Join(o.Parties, ", ")))
		}
	}
	return b.String()
}

// modelTexts describes the models of earlier jobs that the parts of a task use, each once. It names the parts
// if they use different ones, or not all use one.
func modelTexts(parts []bfia.PartView) []string {
	var models []bfia.InputModelView
	users := map[bfia.InputModelView][]string{}
	for _, p := range parts {
		if p.Model == nil {
			continue
		}
		if users[*p.Model] == nil {
			models = append(models, *p.Model)
		}
		users[*p.Model] = append(users[*p.Model], p.Role)
	}
	var texts []string
	for _, m := range models {
		text := fmt.Sprintf("%s, which job %s trained", plain(m.Model), plain(m.JobID))
		if m.Component != "" {
			text += fmt.Sprintf(" with %s of %s", plain(m.Component), plain(m.Provider))
		}
		if len(users[m]) < len(parts) {
			text += ", for " + plain(strings.Join(users[m], ", "))
		}
		texts = append(texts, text)
	}
	return texts
}

// imageIDsText returns the ids of an image that runs by id.
func imageIDsText(i bfia.ImageView) string {
	switch {
	case i.ImageIDs == nil:
		return ""
	case len(i.ImageIDs) == 0:
		return " (not resolved yet: the first container of the job resolves it to an id)"
	}
	return " (" + plain(strings.Join(i.ImageIDs, " or ")) + ")"
}

// datasetText describes the dataset of a part. The columns are known of this party's own.
func datasetText(d *bfia.DatasetView, own bool) string {
	if d == nil {
		return ""
	}
	text := fmt.Sprintf(" reads %s#%s", plain(d.Namespace), plain(d.Name))
	if !own || len(d.Columns) == 0 {
		return text
	}
	var columns []string
	for _, c := range d.Columns {
		columns = append(columns, plain(c.Name)+" "+c.Type)
	}
	return fmt.Sprintf("%s: %d rows of %s", text, d.Rows, strings.Join(columns, ", "))
}

// newJobAudit returns the command that approves or rejects a job for this party.
func newJobAudit(c *client, verb string, status bfia.JobState) *cobra.Command {
	audit := bfia.Audit{Status: status}
	var yes bool
	short, done := "Approve a job that needs this party's approval", "approved"
	if status == bfia.JobRejected {
		short, done = "Reject a job that needs this party's approval, which ends it at every party",
			"rejected"
	}
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short, Args: exactly("ID"),
		Example: "  hutong job " + verb + " 202601021200000000001 --reason 'contract 17'",
		RunE: func(cmd *cobra.Command, args []string) error {
			audit.JobID = args[0]
			if status == bfia.JobReady && !yes {
				if err := c.confirmApproval(cmd, args[0]); err != nil {
					return err
				}
			}
			if _, err := c.post(cmd.Context(), bfia.PathPlatformAudit, audit, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "job", args[0], "is", done)
			return err
		},
	}
	cmd.Flags().StringVar(&audit.Reason, "reason", "", "the reason, which the other parties can read")
	if status == bfia.JobReady {
		cmd.Long = "Approves a job that waits for this party's approval. It first shows what the job does, as\n" +
			"'hutong job show' does, and asks. --yes approves without a question."
		cmd.Example += "\n  hutong job approve 202601021200000000001 --yes"
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "approve without showing the job and asking")
	}
	return cmd
}

// confirmApproval shows a job and asks whether to approve it. Without a terminal nobody could answer, so it
// requires --yes.
func (c *client) confirmApproval(cmd *cobra.Command, jobID string) error {
	view, err := c.view(cmd.Context(), jobID)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if _, err := fmt.Fprint(out, showJob(view, time.Now())); err != nil {
		return err
	}
	if view.State == bfia.JobFinished || view.State == bfia.JobRejected {
		return fmt.Errorf("job %s has ended: it is %s, and needs no approval", jobID, view.State)
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	if err := c.printApproval(cmd, jobID); err != nil {
		return err
	}
	stdin, ok := cmd.InOrStdin().(*os.File)
	if !ok || terminal(stdin) == nil || terminal(out) == nil {
		return usagef("nobody was asked, since this is no terminal: add --yes to approve job %s", jobID)
	}
	if _, err := fmt.Fprint(out, "\nApprove this job? [y/N] "); err != nil {
		return err
	}
	answer, _ := bufio.NewReader(stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return fmt.Errorf("job %s is not approved", jobID)
	}
	return nil
}

func (c *client) view(ctx context.Context, jobID string) (*bfia.JobView, error) {
	var view bfia.JobView
	if err := c.get(ctx, bfia.PathJobShow, url.Values{"job_id": {jobID}}, &view); err != nil {
		return nil, err
	}
	return &view, nil
}
