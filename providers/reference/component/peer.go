package component

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Peer is the connection to another party of the task. Messages of one step arrive complete and in the order
// in which they were sent. One Send and one Receive may run at the same time, but no more than one of each.
type Peer interface {
	// Send transmits a message: a head that is marshalled to JSON, and a body of bytes.
	Send(ctx context.Context, step string, head any, body []byte) error
	// Receive waits for the next message of a step, decodes its head and returns its body.
	Receive(ctx context.Context, step string, head any) ([]byte, error)
}

// Peers holds the connections to all other parties of a task, by role and number, such as "host.0".
type Peers map[string]Peer

// PartiesOf returns the parties of a role, ordered by number.
func (t Task) PartiesOf(role string) []Party {
	var found []Party
	for _, p := range t.Parties {
		if p.Role == role {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Party) int { return cmp.Compare(a.Index, b.Index) })
	return found
}

// OnlyParty returns the single party of a role. It fails if the job has none or several.
func (t Task) OnlyParty(role string) (Party, error) {
	found := t.PartiesOf(role)
	switch {
	case len(found) == 0:
		return Party{}, fmt.Errorf(
			"variable config.node_id.%s.0 is missing: %s needs one %s", role, t.Component, role,
		)
	case len(found) > 1:
		return Party{}, fmt.Errorf(
			"the job has %d parties of role %s: %s runs with exactly one %s", len(found), role, t.Component,
			role,
		)
	}
	return found[0], nil
}

// RequireParties returns the parties of a role. It fails if the job has none.
func (t Task) RequireParties(role string) ([]Party, error) {
	found := t.PartiesOf(role)
	if len(found) == 0 {
		return nil, fmt.Errorf(
			"variable config.node_id.%s.0 is missing: %s needs a %s", role, t.Component, role,
		)
	}
	return found, nil
}
