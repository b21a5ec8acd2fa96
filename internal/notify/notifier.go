package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"hutong/bfia"
)

// Notifier sends the messages of a party.
type Notifier struct {
	NodeID string
	// ConsoleURL is the public address of the console, or empty: messages have no link then.
	ConsoleURL string
	Receivers  []Receiver
	// Mailer sends e-mail. It is nil without a mail server.
	Mailer *Mailer
}

// Receiver returns a receiver by its name.
func (n *Notifier) Receiver(name string) (*Receiver, bool) {
	if n == nil {
		return nil, false
	}
	for i := range n.Receivers {
		if n.Receivers[i].Name == name {
			return &n.Receivers[i], true
		}
	}
	return nil, false
}

// Wanting returns the names of the receivers that get a message of an event.
func (n *Notifier) Wanting(e Event) (names []string) {
	for i := range n.Receivers {
		if n.Receivers[i].Wants(e) {
			names = append(names, n.Receivers[i].Name)
		}
	}
	return names
}

// View returns the receivers as clients see them.
func (n *Notifier) View() []bfia.NotificationReceiver {
	views := []bfia.NotificationReceiver{}
	if n == nil {
		return views
	}
	for _, r := range n.Receivers {
		v := bfia.NotificationReceiver{Name: r.Name, Channel: "email", Target: strings.Join(r.Email, ", ")}
		if r.Webhook != nil {
			v.Channel, v.Target = "webhook", r.Webhook.Host()
		}
		for _, k := range r.Events {
			v.Events = append(v.Events, string(k))
		}
		views = append(views, v)
	}
	return views
}

// Body is what a webhook gets.
type Body struct {
	Type      Kind      `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it happened
	Data      Data      `json:"data"`
	Message
}

// Data is the event of a [Body], with the link to the console.
type Data struct {
	Event
	Link string `json:"link,omitempty"`
}

// Send sends a message of an event to a receiver once, and returns the answer. The id names the notification:
// it is the same in each try.
func (n *Notifier) Send(ctx context.Context, r *Receiver, id string, e Event) (string, error) {
	link := n.link(e)
	text := Write(r.Language, e, link)
	if r.Webhook == nil {
		if n.Mailer == nil {
			return "", fmt.Errorf("failed to send an e-mail to %s: no mail server is configured", r.Name)
		}
		return n.Mailer.send(ctx, r.Email, id, time.Now(), text)
	}
	body, err := json.Marshal(Body{Type: e.Kind, Timestamp: e.Time.UTC(), Data: Data{Event: e, Link: link},
		Message: text})
	if err != nil {
		return "", fmt.Errorf("failed to encode the message: %w", err)
	}
	return r.Webhook.send(ctx, id, time.Now(), body)
}

// link returns the address of the page of the console on which a person sees more, or "".
func (n *Notifier) link(e Event) string {
	if n.ConsoleURL == "" {
		return ""
	}
	console := strings.TrimRight(n.ConsoleURL, "/") + "/console/"
	switch {
	case e.JobID != "":
		return console + "jobs/" + url.PathEscape(e.JobID)
	case e.Kind == GrantRequest:
		return console + "operation?tab=grants"
	case e.Kind == RunnerSilent:
		return console + "operation?tab=runners"
	}
	return console
}
