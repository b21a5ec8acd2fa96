package notify

import (
	"slices"
	"strings"
)

// Language is the language of a message.
type Language string

// The languages.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// Receiver is a person or a service that gets messages: by a webhook or by e-mail.
type Receiver struct {
	Name     string
	Language Language
	Events   []Kind
	// Flows, Initiators, Roles, Clients and Projects restrict the jobs of which it gets messages: to those
	// of a flow, submitted by a party, in which this party has a role, which a client of this party
	// submitted, or of a project of this party. An empty list restricts nothing.
	Flows, Initiators, Roles, Clients, Projects []string
	// Webhook is nil for a receiver of e-mail.
	Webhook *Webhook
	// Email holds the addresses.
	Email []string
}

// Wants reports whether the receiver gets a message of an event.
func (r *Receiver) Wants(e Event) bool {
	if !slices.Contains(r.Events, e.Kind) &&
		!(e.Kind == JobFailed && slices.Contains(r.Events, JobEnded)) {
		return false
	}
	if e.JobID == "" {
		return true
	}
	return (len(r.Projects) == 0 || slices.Contains(r.Projects, e.Project)) &&
		(len(r.Flows) == 0 || slices.Contains(r.Flows, e.FlowID)) &&
		(len(r.Initiators) == 0 || slices.Contains(r.Initiators, e.Initiator)) &&
		(len(r.Clients) == 0 || slices.ContainsFunc(e.SubmittedBy,
			func(name string) bool { return slices.Contains(r.Clients, name) })) &&
		(len(r.Roles) == 0 || slices.ContainsFunc(e.Roles, r.hasRole))
}

// hasRole reports whether the receiver lists a role such as guest.0, with its number or without.
func (r *Receiver) hasRole(role string) bool {
	plain, _, _ := strings.Cut(role, ".")
	return slices.Contains(r.Roles, role) || slices.Contains(r.Roles, plain)
}
