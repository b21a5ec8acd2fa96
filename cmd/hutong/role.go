package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hutong/bfia"
)

// checkRole refuses a role of which this party has no part in a job, because its logs and outputs are at
// another party.
func (c *client) checkRole(ctx context.Context, status *bfia.JobStatus, role string) error {
	if role == "" {
		return nil
	}
	var known, elsewhere []string
	var own struct {
		NodeID string `json:"node_id"`
	}
	for _, t := range status.Tasks {
		for _, p := range t.Parties {
			name := partName(p)
			known = append(known, name)
			if name != role && p.Role != role {
				continue
			}
			if own.NodeID == "" && c.get(ctx, bfia.PathHealth, nil, &own) != nil {
				return nil // the party's answer to the request itself says more
			}
			if p.NodeID == own.NodeID {
				return nil
			}
			elsewhere = append(elsewhere, p.NodeID)
		}
	}
	switch known = distinct(known); {
	case len(known) == 0:
		return nil // the job has just been created
	case len(elsewhere) > 0:
		return fmt.Errorf("--role: this party (%s) has no part %s in job %s; it runs at %s, which keeps its logs and outputs",
			own.NodeID, role, status.JobID, strings.Join(distinct(elsewhere), ", "))
	}
	candidates := slices.Clone(known)
	for _, name := range known {
		candidates = append(candidates, strings.TrimRight(name, ".0123456789"))
	}
	return fmt.Errorf("--role: job %s has no part %q; it has %s%s", status.JobID, role,
		strings.Join(known, ", "),
		bfia.DidYouMean(role, candidates))
}
