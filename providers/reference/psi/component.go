package psi

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"hutong-reference/channel"
	"hutong-reference/component"
)

// Parameters lists the parameters that the component reads.
var Parameters = []string{"id", "intersect_method", "sync_intersect_ids", "only_output_key", "rsa_params"}

// Inputs and Outputs list the names of the data that the component reads and writes.
var (
	Inputs  = []string{"train_data"}
	Outputs = []string{"train_data", "train-intersection"}
)

// report is the content of the output train-intersection.
type report struct {
	Component    string  `json:"component"`
	Role         string  `json:"role"`
	OwnCount     int     `json:"own_count"`
	PartnerCount int     `json:"partner_count"`      // ids of the partner; with several hosts, the smallest number
	Known        bool    `json:"intersection_known"` // false at a host without sync_intersect_ids
	Count        int     `json:"intersect_count"`
	Rate         float64 `json:"intersect_rate"` // relative to own_count
}

// Run computes the intersection with the partners and writes the own rows of it. It sorts them by id, so that
// the rows of all parties match. A host without sync_intersect_ids writes a dataset without rows.
func Run(ctx context.Context, task component.Task, store component.Store, peers component.Peers) error {
	p, err := readParams(task.Parameters)
	if err != nil {
		return err
	}
	address, err := task.Input("train_data")
	if err != nil {
		return err
	}
	table, err := component.ReadTable(ctx, store, address)
	if err != nil {
		return err
	}
	ids, err := table.IDs(p.idColumn)
	if err != nil {
		return fmt.Errorf("input train_data: %w", err)
	}
	slog.Info("input read", "rows", len(ids), "columns", len(table.Columns))

	var positions []int
	var partnerCount int
	if task.Self.Role == "guest" {
		positions, partnerCount, err = runGuest(ctx, task, peers, ids, p.Options)
	} else {
		positions, partnerCount, err = runHost(ctx, task, peers, ids, p.Options)
	}
	if err != nil {
		return err
	}
	known := p.Sync || task.Self.Role == "guest"
	slog.Info("intersection found", "rows", len(positions), "known", known)

	if address, ok := task.Outputs["train_data"]; ok {
		slices.SortFunc(positions, func(a, b int) int { return strings.Compare(ids[a], ids[b]) })
		out := table.SelectRows(positions)
		if p.onlyKey {
			if out, err = out.OnlyColumn(p.idColumn); err != nil {
				return err
			}
		}
		if err := component.WriteTable(ctx, store, address, out, "intersection"); err != nil {
			return err
		}
	}

	if address, ok := task.Outputs["train-intersection"]; ok {
		rep := report{"Intersection", task.Self.String(), len(ids), partnerCount, known, len(positions), 0}
		if len(ids) > 0 {
			rep.Rate = float64(len(positions)) / float64(len(ids))
		}
		return component.WriteJSON(ctx, store, address, "report", "intersection counts", rep)
	}
	return nil
}

// params holds the parameters of the component.
type params struct {
	Options
	idColumn string
	onlyKey  bool
}

// readParams reads and checks the parameters of the task. Its errors may be sent to the partners.
func readParams(values map[string]string) (params, error) {
	r := component.NewReader(values)
	p := params{idColumn: r.String("id", "id")}
	r.OneOf("intersect_method", "rsa", "rsa")
	p.onlyKey = r.Bool("only_output_key", false)
	p.Sync = r.Bool("sync_intersect_ids", true)

	rsa := r.Object("rsa_params")
	p.Hash = rsa.OneOf("hash_method", "sha256", "sha256", "sha512")
	p.FinalHash = rsa.OneOf("final_hash_method", "sha256", "sha256", "sha512")
	p.KeyBits = rsa.Int("key_length", 2048, 0, 1<<20)
	if !slices.Contains([]int{2048, 3072, 4096}, p.KeyBits) {
		rsa.Fail("key_length", "%d is not supported; supported: 2048, 3072, 4096", p.KeyBits)
	}
	if err := r.Err(); err != nil {
		return p, channel.Errorf("%v", err)
	}
	return p, nil
}

// runHost returns the positions of the common ids, and the number of ids of the guest.
func runHost(
	ctx context.Context, task component.Task, peers component.Peers, ids []string, o Options,
) (positions []int, guestIDs int, err error) {
	guest, err := task.OnlyParty("guest")
	if err != nil {
		return nil, 0, err
	}
	return Host(ctx, peers[guest.String()], ids, o)
}

// runGuest returns the positions of the common ids, and the smallest number of ids that a host has.
func runGuest(
	ctx context.Context, task component.Task, peers component.Peers, ids []string, o Options,
) (positions []int, fewest int, err error) {
	hosts, err := task.RequireParties("host")
	if err != nil {
		return nil, 0, err
	}
	var links []Peer
	for _, h := range hosts {
		links = append(links, peers[h.String()])
	}
	positions, counts, err := Guest(ctx, links, ids, o)
	if err != nil {
		return nil, 0, err
	}
	return positions, slices.Min(counts), nil
}
