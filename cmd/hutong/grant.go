package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	durationflag "hutong/internal/duration"
)

func newGrantCommand(c *client) *cobra.Command {
	return group("grant", "Grant partners components and datasets, and ask for theirs", newGrantAdd(c),
		newGrantList(c), newGrantShow(c), newGrantRevoke(c), newGrantRequest(c), newGrantRequests(c),
		newGrantApprove(c), newGrantDeny(c), newGrantTerminate(c))
}

func newGrantAdd(c *client) *cobra.Command {
	var grant bfia.DataGrant
	var until string
	cmd := &cobra.Command{
		Use: "add", Short: "Grant a partner's jobs a component on a dataset", Args: noArguments,
		Long: "Lets the jobs that a partner initiates run a component of this party, on a dataset and on\n" +
			"what other tasks make of it. Each component that a job runs here needs a grant. It counts\n" +
			"where the configuration says grants: required.\n\n" +
			"--component is Component, provider/Component or provider:version/Component, --dataset is\n" +
			"namespace#name; * in them matches any text. Without --dataset the component may run on\n" +
			"no dataset of this party. --until takes a time as 2027-01-31 or 2027-01-31T12:00:00Z, or a\n" +
			"duration from now.",
		Example: "  hutong grant add --partner JG0100001100000011 --component unionpay/HeteroLR " +
			"--dataset 'bank#train'\n" +
			"  hutong grant add --partner JG0100001100000011 --component '*' --dataset 'bank#*' " +
			"--until 30d --times 10",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range []struct{ name, value string }{{"partner", grant.Partner},
				{"component", grant.Component}} {
				if f.value == "" {
					return usagef("--%s is missing", f.name)
				}
			}
			if err := readUntil(until, &grant.Until); err != nil {
				return err
			}
			var added bfia.DataGrant
			if _, err := c.post(cmd.Context(), bfia.PathGrantAdd, map[string]any{"partner": grant.Partner,
				"component": grant.Component, "dataset": grant.Dataset, "until": grant.Until,
				"times": grant.Times}, &added); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "granted; to end it: hutong grant revoke %s\n",
				plain(added.ID))
			return err
		},
	}
	cmd.Flags().StringVar(&grant.Partner, "partner", "", "the node id of the partner")
	cmd.Flags().StringVar(&grant.Component, "component", "", "the pattern of the component's name")
	cmd.Flags().StringVar(&grant.Dataset, "dataset", "", "the pattern of the dataset, namespace#name")
	cmd.Flags().StringVar(&until, "until", "", "the end of the grant, a time or a duration from now")
	cmd.Flags().IntVar(&grant.Times, "times", 0, "how many jobs may use it; 0 for any number")
	return cmd
}

// parseUntil reads a day, a time, or a duration from now. A day is its beginning on this machine's clock.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return t, nil
	}
	d, err := durationflag.Parse(text)
	if err != nil {
		return time.Time{}, usagef("--until: %q is neither a time such as 2027-01-31 or "+
			"2027-01-31T12:00:00Z nor a duration such as 30d", text)
	}
	return now.Add(d), nil
}

func newGrantList(c *client) *cobra.Command {
	var asJSON bool
	var partner string
	cmd := &cobra.Command{
		Use: "list", Short: "List grants with their state and how many jobs have used them", Args: noArguments,
		Example: "  hutong grant list\n  hutong grant list --partner JG0100001100000011 -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var query url.Values
			if partner != "" {
				query = url.Values{"partner": {partner}}
			}
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathGrantQuery, query, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var grants []bfia.DataGrant
			if err := json.Unmarshal(data, &grants); err != nil {
				return fmt.Errorf("failed to decode the list of grants: %w", err)
			}
			return printList(cmd, "grants", grantTable(grants, time.Now()))
		},
	}
	cmd.Flags().StringVar(&partner, "partner", "", "only the grants of this partner")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newGrantShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show GRANT", Short: "Show a grant with its limits and how many jobs have used it",
		Example: "  hutong grant show 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11",
		Args:    exactly("GRANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var grants []json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathGrantQuery, nil, &grants); err != nil {
				return err
			}
			return showNamed(cmd, asJSON, "grant", "grant_id", args[0], grants)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func grantTable(grants []bfia.DataGrant, now time.Time) [][]string {
	rows := [][]string{{"GRANT", "PARTNER", "COMPONENT", "DATASET", "STATE", "UNTIL", "USED"}}
	for _, g := range grants {
		dataset, used := g.Dataset, strconv.Itoa(g.Used)
		if dataset == "" {
			dataset = "-"
		}
		if g.Times > 0 {
			used += "/" + strconv.Itoa(g.Times)
		}
		rows = append(rows, []string{g.ID, g.Partner, g.Component, dataset, g.State(now), clock(g.Until),
			used})
	}
	return rows
}

func newGrantRevoke(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "revoke GRANT", Short: "End a grant", Args: exactly("GRANT"),
		Long: "Ends a grant for jobs that are not accepted yet. Jobs that run keep it: 'hutong job stop'\n" +
			"stops them.",
		Example: "  hutong grant revoke 2f1c6a52-9f0e-4c5e-9d5c-7e6f6a1f8b11",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := c.post(cmd.Context(), bfia.PathGrantRevoke, bfia.GrantRef{ID: args[0]},
				nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), args[0], "is revoked")
			return err
		},
	}
}
