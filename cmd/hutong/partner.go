package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/internal/certs"
)

func newPartnerCommand(c *client) *cobra.Command {
	return group("partner", "Become partners with other institutions, and end that", newPartnerInvite(c),
		newPartnerAccept(c), newPartnerList(c), newPartnerShow(c), newPartnerUpdate(c), newPartnerRemove(c))
}

func newPartnerInvite(c *client) *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use: "invite NODE", Short: "Invite another institution to become a partner", Args: exactly("NODE"),
		Long: "Makes an invitation for the party with a node id. Send it to the institution, whose\n" +
			"administrator accepts it with 'hutong partner accept INVITATION'. Read this party's\n" +
			"fingerprint to him by telephone: it must be the one that he sees. Then accept his\n" +
			"application with 'hutong partner accept NODE'. An invitation is for one application.",
		Example: "  hutong partner invite JG0100001100000011",
		RunE: func(cmd *cobra.Command, args []string) error {
			var invited bfia.PartnerInvited
			if _, err := c.post(cmd.Context(), bfia.PathPartnerInvite,
				bfia.PartnerInvite{NodeID: args[0], Days: days}, &invited); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "Send this invitation to the institution of %s. "+
				"It is valid until %s:\n\n%s\n\nRead this party's fingerprint by telephone:\n\n  %s\n\n"+
				"After the institution has accepted, accept its application with: hutong partner accept %s\n",
				args[0], clock(&invited.Until), invited.Invitation, invited.Fingerprint, args[0])
			return err
		},
	}
	cmd.Flags().IntVar(&days, "days", 7, "how long the invitation is valid")
	return cmd
}

func newPartnerAccept(c *client) *cobra.Command {
	var fingerprint string
	cmd := &cobra.Command{
		Use: "accept INVITATION|NODE", Short: "Accept an invitation, or the application of a node",
		Args: exactly("INVITATION|NODE"),
		Long: "Accepts the invitation of another institution, or the application of a node that this\n" +
			"party has invited. It shows the other party's fingerprint and asks whether the\n" +
			"institution reads the same one by telephone. --fingerprint gives the one that was read,\n" +
			"and asks nothing.",
		Example: "  hutong partner accept hutong-invitation-eyJub2Rl...\n" +
			"  hutong partner accept JG0100001100000011",
		RunE: func(cmd *cobra.Command, args []string) error {
			accept, path := bfia.PartnerAccept{}, bfia.PathPartnerApply
			var node, shown string
			if bfia.IsInvitation(args[0]) {
				invitation, err := bfia.ParseInvitation(args[0])
				if err != nil {
					return err
				}
				pin, err := certs.ParsePin(invitation.Fingerprint)
				if err != nil {
					return fmt.Errorf("failed to read the invitation: %w", err)
				}
				node, shown = invitation.Node, pin.String()
				accept.Invitation = args[0]
			} else {
				view, err := c.partner(cmd, args[0])
				if err != nil {
					return err
				}
				if view.State != bfia.ContractApplied || view.Applied != "partner" {
					return notApplied(view)
				}
				node, shown = view.NodeID, view.Fingerprint
				accept.NodeID, path = args[0], bfia.PathPartnerAccept
			}
			if fingerprint == "" {
				if err := confirmFingerprint(cmd, node, shown); err != nil {
					return err
				}
				fingerprint = shown
			}
			accept.Fingerprint = fingerprint
			var applied bfia.PartnerApplied
			if _, err := c.post(cmd.Context(), path, accept, &applied); err != nil {
				return err
			}
			if accept.Invitation == "" {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is a partner now\n", plain(node))
				return err
			}
			if applied.Fingerprint == "" { // the party's API is of an older version
				applied.Fingerprint = "(run hutong cert show FILE, with the party's certificate)"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s has the application of this party. Read this "+
				"party's fingerprint to it by telephone:\n\n  %s\n\nIt accepts next, with: hutong partner "+
				"accept NODE, where NODE is the node id of this party.\n", plain(node),
				plain(applied.Fingerprint))
			return err
		},
	}
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "",
		"the fingerprint that the institution has read by telephone")
	return cmd
}

// notApplied explains that there is no application to accept.
func notApplied(view *bfia.PartnerView) error {
	next := ""
	if view.State == bfia.ContractInvited {
		next = fmt.Sprintf("; an administrator of %s accepts your invitation first, with "+
			"'hutong partner accept INVITATION'", view.NodeID)
	}
	return fmt.Errorf("%s has not applied: its state is %s%s", view.NodeID, view.State, next)
}

// confirmFingerprint shows a fingerprint and asks whether the other institution reads the same one. Without a
// terminal nobody could answer, so it requires --fingerprint.
func confirmFingerprint(cmd *cobra.Command, node, shown string) error {
	out := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(out, "The fingerprint of %s is:\n\n  %s\n\n", plain(node),
		plain(shown)); err != nil {
		return err
	}
	stdin, ok := cmd.InOrStdin().(*os.File)
	if !ok || terminal(stdin) == nil || terminal(out) == nil {
		return usagef(
			"nobody was asked, since this is no terminal: add --fingerprint with the one that the "+
				"institution of %s has read by telephone",
			node,
		)
	}
	if _, err := fmt.Fprint(out, "Does the institution read the same one by telephone? [y/N] "); err != nil {
		return err
	}
	answer, _ := bufio.NewReader(stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return fmt.Errorf("%s is not accepted", node)
	}
	return nil
}

func newPartnerList(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List partners with their state", Args: noArguments,
		Long: "Lists the partners of the configuration and all contracts. APPLIED by partner waits for\n" +
			"'hutong partner accept'; APPLIED by self waits for the other institution.",
		Example: "  hutong partner list\n  hutong partner list -o yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var data json.RawMessage
			if err := c.get(cmd.Context(), bfia.PathPartnerQuery, nil, &data); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			var views []bfia.PartnerView
			if err := json.Unmarshal(data, &views); err != nil {
				return fmt.Errorf("failed to decode the list of partners: %w", err)
			}
			rows := [][]string{{"NODE", "STATE", "APPLIED BY", "SOURCE", "AUTH", "INSTITUTION", "ADDRESS",
				"CERTIFICATE UNTIL"}}
			for _, v := range views {
				rows = append(
					rows,
					[]string{v.NodeID, string(v.State), v.Applied, v.Source, v.Auth, v.Institution,
						v.Address, clock(v.CertificateEnd)},
				)
			}
			return printList(cmd, "partners", rows)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newPartnerShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show NODE", Short: "Show a partner with its fingerprint", Args: exactly("NODE"),
		Example: "  hutong partner show JG0100001100000011",
		RunE: func(cmd *cobra.Command, args []string) error {
			view, err := c.partner(cmd, args[0])
			if err != nil {
				return err
			}
			shown := *view
			if !asJSON {
				shown.Fingerprint = "" // YAML would break its line
			}
			data, err := json.Marshal(shown)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), data)
			}
			if err := printFields(cmd.OutOrStdout(), data); err != nil || view.Fingerprint == "" {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "fingerprint: %s\n", plain(view.Fingerprint))
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// partner returns a partner, or an error that names those that exist.
func (c *client) partner(cmd *cobra.Command, node string) (*bfia.PartnerView, error) {
	var views []bfia.PartnerView
	if err := c.get(cmd.Context(), bfia.PathPartnerQuery, nil, &views); err != nil {
		return nil, err
	}
	var nodes []string
	for _, v := range views {
		if v.NodeID == node {
			return &v, nil
		}
		nodes = append(nodes, v.NodeID)
	}
	return nil, fmt.Errorf("this party has no partner %q%s; 'hutong partner list' lists them", node,
		bfia.DidYouMean(node, nodes))
}

func newPartnerUpdate(c *client) *cobra.Command {
	var next string
	cmd := &cobra.Command{
		Use: "update [NODE]", Short: "Report this party's addresses and certificate to its partners",
		Args: cobra.MaximumNArgs(1),
		Long: "Sends partners.url, partners.transport_url, the institution and the certificate of this\n" +
			"party to one partner by contract, or to all. With --next-certificate the partners also\n" +
			"accept the key that this party will use next. When it is in use, an update without\n" +
			"the flag ends the key of before. Partners in routes change their configuration.",
		Example: "  hutong partner update\n" +
			"  hutong partner update --next-certificate /etc/hutong/next.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var update bfia.PartnerUpdate
			if len(args) == 1 {
				update.NodeID = args[0]
			}
			if next != "" {
				text, err := os.ReadFile(next)
				if err != nil {
					return usagef("--next-certificate: %w", err)
				}
				found, err := certs.ParseCertificates(text)
				if err != nil {
					return usagef("--next-certificate: %s: %w", next, err)
				}
				update.NextCertificate = string(certs.EncodeCertificate(found[0])) // without the key
			}
			var results []bfia.PartnerUpdated
			if _, err := c.post(cmd.Context(), bfia.PathPartnerUpdate, update, &results); err != nil {
				return err
			}
			rows, failed := [][]string{{"NODE", "RESULT"}}, 0
			for _, r := range results {
				if r.Failure != "" {
					failed++
				}
				rows = append(rows, []string{r.NodeID, valueOr(r.Failure, "updated")})
			}
			if err := printTable(cmd.OutOrStdout(), rows); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("failed to update %d of %d partners: repeat the command for them", failed,
					len(results))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&next, "next-certificate", "",
		"the file of the certificate that this party will use next")
	return cmd
}

func newPartnerRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE", Short: "End the contract with a partner, or reject its application",
		Args: exactly("NODE"),
		Long: "Ends the contract with a node, rejects its application, or withdraws an invitation. Its\n" +
			"open connections are closed at once. Partners of the configuration are removed there.",
		Example: "  hutong partner remove JG0100001100000011",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := c.post(cmd.Context(), bfia.PathPartnerRemove, bfia.PartnerRef{NodeID: args[0]},
				nil); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), args[0], "is no partner any more")
			return err
		},
	}
}
