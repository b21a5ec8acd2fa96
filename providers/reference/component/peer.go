package component

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Peer is the connection to another party of the task. Messages of one step arrive whole and in the order in which they
// were sent. Sending and receiving may go on at the same time, but only one of each.
type Peer interface {
	// Send hands a message over: a head that is marshalled to JSON, and bytes.
	Send(ctx context.Context, step string, head any, body []byte) error
	// Receive waits for the next message of a step, decodes its head and returns its bytes.
	Receive(ctx context.Context, step string, head any) ([]byte, error)
}

// Peers are the connections to all other parties of a task, by role and number: "host.0".
type Peers map[string]Peer

// Of is the parties of a role, by their numbers.
func (t Task) Of(role string) []Party {
	var found []Party
	for _, p := range t.Parties {
		if p.Role == role {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Party) int { return cmp.Compare(a.Index, b.Index) })
	return found
}

// Only is the party of a role of which the component needs exactly one.
func (t Task) Only(role string) (Party, error) {
	found := t.Of(role)
	switch {
	case len(found) == 0:
		return Party{}, fmt.Errorf("variable config.node_id.%s.0 is missing: %s needs one %s", role, t.Component, role)
	case len(found) > 1:
		return Party{}, fmt.Errorf("the job has %d parties of role %s: %s runs with one %s only", len(found), role, t.Component, role)
	}
	return found[0], nil
}

// Some is the parties of a role of which the component needs one at least.
func (t Task) Some(role string) ([]Party, error) {
	found := t.Of(role)
	if len(found) == 0 {
		return nil, fmt.Errorf("variable config.node_id.%s.0 is missing: %s needs a %s", role, t.Component, role)
	}
	return found, nil
}
