package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"hutong/bfia"
)

func newNotificationCommand(c *client) *cobra.Command {
	return group("notification", "List messages to people and services, and test who gets them",
		newNotificationList(c), newNotificationShow(c), newNotificationTest(c), newNotificationResend(c))
}

func newNotificationList(c *client) *cobra.Command {
	var asJSON bool
	var state, receiver, job string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List the last notifications with what became of them", Args: noArguments,
		Long: "Lists the last notifications, newest first. STATE is NEW, SENDING (also while it is tried\n" +
			"again), DELIVERED or FAILED. REASON is why the last try failed.",
		Example: "  hutong notification list\n  hutong notification list --state failed -o yaml\n" +
			"  hutong notification list --receiver duty --limit 10",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for name, value := range map[string]string{"state": state, "receiver": receiver, "job_id": job} {
				if value != "" {
					query.Set(name, value)
				}
			}
			query.Set("limit", strconv.Itoa(limit))
			var list struct {
				Notifications json.RawMessage `json:"notifications"`
			}
			if err := c.get(cmd.Context(), bfia.PathNotificationQuery, query, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list.Notifications)
			}
			var notifications []bfia.NotificationView
			if err := json.Unmarshal(list.Notifications, &notifications); err != nil {
				return fmt.Errorf("failed to decode the list of notifications: %w", err)
			}
			return printList(cmd, "notifications", notificationTable(notifications))
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only notifications in this state")
	cmd.Flags().StringVar(&receiver, "receiver", "", "only those to this receiver")
	cmd.Flags().StringVar(&job, "job", "", "only those of this job")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	jsonFlag(cmd, &asJSON)
	_ = cmd.RegisterFlagCompletionFunc("state", severalOf(notificationStates()))
	_ = cmd.RegisterFlagCompletionFunc("receiver", completer{c}.anywhere(completer{c}.receivers))
	_ = cmd.RegisterFlagCompletionFunc("job", completer{c}.anywhere(completer{c}.jobs))
	return cmd
}

func newNotificationShow(c *client) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show NOTIFICATION", Short: "Show all that the party knows of a notification",
		Example: "  hutong notification show ntf_3kq7vzx2aidmpr4c6whoey5lbn",
		Args:    exactly("NOTIFICATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var list struct {
				Notifications []json.RawMessage `json:"notifications"`
			}
			query := url.Values{"notification_id": {args[0]}}
			if err := c.get(cmd.Context(), bfia.PathNotificationQuery, query, &list); err != nil {
				return err
			}
			return showNamed(cmd, asJSON, "notification", "notification_id", args[0], list.Notifications)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func notificationStates() (names []string) {
	for _, s := range bfia.NotificationStates() {
		names = append(names, string(s))
	}
	return names
}

func notificationTable(notifications []bfia.NotificationView) [][]string {
	rows := [][]string{{"NOTIFICATION", "TIME", "EVENT", "OBJECT", "RECEIVER", "STATE", "ATTEMPTS",
		"DELIVERED", "REASON"}}
	for _, n := range notifications {
		rows = append(rows, []string{n.NotificationID, clock(&n.OccurredAt), n.Event, n.ObjectID, n.Receiver,
			string(n.State), strconv.Itoa(n.Attempts), clock(n.DeliveredAt), n.LastError})
	}
	return rows
}

func newNotificationTest(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "test RECEIVER", Short: "Send a test message to a receiver now and print its answer",
		Args: exactly("RECEIVER"),
		Long: "Sends a test message to a receiver of the configuration (notifications.receivers), once.\n" +
			"It fails if the receiver does not take it.",
		Example: "  hutong notification test duty",
		RunE: func(cmd *cobra.Command, args []string) error {
			var result bfia.NotificationTestResult
			if _, err := c.post(cmd.Context(), bfia.PathNotificationTest,
				bfia.NotificationTest{Receiver: args[0]}, &result); err != nil {
				return err
			}
			if !result.Delivered {
				return fmt.Errorf("failed to deliver the test message to %s: %s", plain(args[0]),
					plain(result.Answer))
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s has taken the test message: %s\n", plain(args[0]),
				plain(result.Answer))
			return err
		},
	}
}

func newNotificationResend(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "resend NOTIFICATION", Short: "Send a notification again that was delivered or given up",
		Args: exactly("NOTIFICATION"),
		Long: "Sends a notification again, with the same id, by which a receiver recognises one that it\n" +
			"has. 'hutong notification list' shows the ids.",
		Example: "  hutong notification resend ntf_3kq7vzx2aidmpr4c6whoey5lbn",
		RunE: func(cmd *cobra.Command, args []string) error {
			ref := bfia.NotificationRef{NotificationID: args[0]}
			if _, err := c.post(cmd.Context(), bfia.PathNotificationResend, ref, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(),
				"%s is sent again; to see what becomes of it: hutong notification list\n", plain(args[0]))
			return err
		},
	}
}
