package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newGrantRequest(c *client) *cobra.Command {
	var ask bfia.GrantAsk
	var until string
	cmd := &cobra.Command{
		Use: "request", Short: "Ask a partner for a grant of a dataset", Args: noArguments,
		Long: "Asks a partner to let this party's jobs use a dataset of it. Once its administrator has\n" +
			"approved, this party holds a permit and sends it with its jobs. 'hutong grant requests'\n" +
			"shows the answer.\n\n" +
			"--component is Component, provider/Component or provider:version/Component, and may be\n" +
			"given several times; without it the request is for all components. --until takes a time\n" +
			"as 2027-01-31 or 2027-01-31T12:00:00Z, or a duration from now.",
		Example: "  hutong grant request --partner JG0100001100000011 --dataset 'bank#train'\n" +
			"  hutong grant request --partner JG0100001100000011 --dataset 'bank#train' " +
			"--component unionpay/HeteroLR --until 30d --times 10",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range []struct{ name, value string }{{"partner", ask.Partner}, {"dataset",
				ask.Dataset}} {
				if f.value == "" {
					return usagef("--%s is missing", f.name)
				}
			}
			if err := readUntil(until, &ask.Until); err != nil {
				return err
			}
			var sent bfia.DatasetRequestRef
			if _, err := c.post(cmd.Context(), bfia.PathGrantRequest, ask, &sent); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(),
				"%s has the request %s; to see the answer: hutong grant "+
					"requests\n", plain(ask.Partner), plain(sent.AuditID))
			return err
		},
	}
	cmd.Flags().StringVar(&ask.Partner, "partner", "", "the node id of the partner")
	cmd.Flags().StringVar(&ask.Dataset, "dataset", "", "the partner's dataset, namespace#name")
	cmd.Flags().StringArrayVar(&ask.Components, "component", nil, "a component's name")
	cmd.Flags().StringVar(&until, "until", "", "the end of the grant, a time or a duration from now")
	cmd.Flags().IntVar(&ask.Times, "times", 0, "how many jobs may use it; 0 for any number")
	return cmd
}

// readUntil reads the flag --until, if it is given.
func readUntil(text string, into **time.Time) error {
	if text == "" {
		return nil
	}
	end, err := parseUntil(text, time.Now())
	*into = &end
	return err
}

func newGrantRequests(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "requests", Short: "List the requests of partners and of this party for grants",
		Args: noArguments,
		Long: "Lists the requests for grants, and asks the partners about those of this\n" +
			"party. PERMIT is yes if the asker has the permit of an approved request.",
		Example: "  hutong grant requests\n  hutong grant requests -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathGrantRequests, nil, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var requests []bfia.GrantRequestView
			if err := json.Unmarshal(data, &requests); err != nil {
				return fmt.Errorf("failed to decode the list of requests: %w", err)
			}
			return printList(cmd, "requests", grantRequestTable(requests))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func grantRequestTable(requests []bfia.GrantRequestView) [][]string {
	rows := [][]string{{"REQUEST", "DIRECTION", "PARTNER", "DATASET", "COMPONENTS", "STATE", "PERMIT",
		"UNTIL",
		"TIMES", "DECIDED BY"}}
	for _, r := range requests {
		direction, permit, times := "from", "-", "any"
		if r.Sent {
			direction = "to"
		}
		if r.State == bfia.RequestApproved {
			permit = "no"
			if r.Permit {
				permit = "yes"
			}
		}
		if r.Times > 0 {
			times = strconv.Itoa(r.Times)
		}
		rows = append(rows, []string{r.AuditID, direction, r.Partner, r.Dataset,
			strings.Join(r.Components, ","), string(r.State), permit, clock(r.Until), times, r.DecidedBy})
	}
	return rows
}

func newGrantApprove(c *client) *cobra.Command {
	var decision bfia.GrantDecision
	var until string
	var times int
	cmd := &cobra.Command{
		Use: "approve REQUEST", Short: "Approve a partner's request for a grant", Args: exactly("REQUEST"),
		Long: "Grants what a partner has requested, and sends it the permit. --component, --until and\n" +
			"--times replace what it has requested. An approved request gets new grants and a new\n" +
			"permit in place of the earlier ones.",
		Example: "  hutong grant approve 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11\n" +
			"  hutong grant approve 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11 --times 1",
		RunE: func(cmd *cobra.Command, args []string) error {
			decision.AuditID = args[0]
			if err := readUntil(until, &decision.Until); err != nil {
				return err
			}
			if cmd.Flags().Changed("times") {
				decision.Times = &times
			}
			var view bfia.GrantRequestView
			if _, err := c.post(cmd.Context(), bfia.PathGrantApprove, decision, &view); err != nil {
				return err
			}
			received := "which has its permit"
			if !view.Permit {
				received = "which gets its permit when it asks: it could not be reached"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(),
				"granted to %s, %s; to end it: hutong grant terminate %s\n",
				plain(view.Partner), received, plain(args[0]))
			return err
		},
	}
	partnerOfRequest(cmd, &decision)
	cmd.Flags().StringArrayVar(&decision.Components, "component", nil, "the pattern of a component's name")
	cmd.Flags().StringVar(&until, "until", "", "the end of the grant, a time or a duration from now")
	cmd.Flags().IntVar(&times, "times", 0, "how many jobs may use it; 0 for any number")
	return cmd
}

func newGrantDeny(c *client) *cobra.Command {
	return endGrantRequest(c, bfia.PathGrantDeny, &cobra.Command{
		Use: "deny REQUEST", Short: "Reject a partner's request for a grant",
		Long:    "Rejects a request that is not decided yet. The partner may send another one.",
		Example: "  hutong grant deny 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11",
	})
}

func newGrantTerminate(c *client) *cobra.Command {
	return endGrantRequest(c, bfia.PathGrantTerminate, &cobra.Command{
		Use: "terminate REQUEST", Short: "End what was granted on a request",
		Long: "Ends the grants and the permit of a request, of a partner or of this party, or withdraws a\n" +
			"request. Jobs that are accepted keep it: 'hutong job stop' stops them.",
		Example: "  hutong grant terminate 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11",
	})
}

func endGrantRequest(c *client, path string, cmd *cobra.Command) *cobra.Command {
	var decision bfia.GrantDecision
	cmd.Args = exactly("REQUEST")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		decision.AuditID = args[0]
		var view bfia.GrantRequestView
		if _, err := c.post(cmd.Context(), path, decision, &view); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), plain(args[0]), "is", view.State)
		return err
	}
	partnerOfRequest(cmd, &decision)
	return cmd
}

func partnerOfRequest(cmd *cobra.Command, decision *bfia.GrantDecision) {
	cmd.Flags().StringVar(&decision.Partner, "partner", "",
		"the partner, if several have sent requests with "+
			"this id")
}
