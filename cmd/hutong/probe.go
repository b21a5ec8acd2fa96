package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	durationflag "hutong/internal/duration"
)

// probeReport holds the fields of a probe's report that this command shows. The report's format is the
// contract with the reference provider, which documents it in its package probe.
type probeReport struct {
	Checks []probeCheck `json:"checks"`
}

// probeCheck is the result of one check.
type probeCheck struct {
	Name         string   `json:"name"`
	Peer         string   `json:"peer"`
	PeerNodeID   string   `json:"peer_node_id"`
	OK           bool     `json:"ok"`
	Why          string   `json:"why"`  // why the check failed
	Note         string   `json:"note"` // a remark about a check that passed
	Milliseconds *float64 `json:"milliseconds"`
	Offset       *float64 `json:"offset_milliseconds"`
}

// probeTask is the one task of a probe's job, and the key of its output.
const probeTask = "probe"

func newJobProbe(c *client) *cobra.Command {
	var provider, version string
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "probe NODE_ID...",
		Short: "Test the connections between this party and partners with a small job",
		Long: "Runs a job with one task, Probe, at this party and the given partners. Creating the job\n" +
			"tests the routes. Its containers test their start, the storage, the callback, the\n" +
			"transport in both directions and the clocks. Every party needs the reference provider\n" +
			"(providers/reference). The exit status is 0 if all checks pass.",
		Example: "  hutong job probe JG0110017800000000",
		Args:    atLeastOne("NODE_ID"),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			var own struct {
				NodeID string `json:"node_id"`
			}
			if err := c.get(cmd.Context(), bfia.PathHealth, nil, &own); err != nil {
				return fmt.Errorf("failed to read this party's node id: %w", err)
			}
			document, err := probeJob(own.NodeID, nodes, provider, version, timeout)
			if err != nil {
				return err
			}
			jobID := bfia.NewJobID(time.Now(), rand.IntN(10))
			document["job_id"] = inJSON(jobID)
			if _, _, err := c.submit(cmd.Context(), document, jobID, ""); err != nil {
				return fmt.Errorf("failed to create the probe's job: %w", err)
			}
			watched := c.watch(cmd, jobID) // prints failures at other parties too
			if err := c.showProbe(cmd.Context(), cmd.OutOrStdout(), own.NodeID, jobID, asJSON); err != nil {
				return errors.Join(watched, err)
			}
			return watched
		},
	}
	cmd.Flags().StringVar(&provider, "provider", "hutong", "the provider of the component Probe")
	cmd.Flags().StringVar(&version, "version", "1.0.0", "its version")
	durationflag.Flag(cmd.Flags(), &timeout, "timeout", time.Minute,
		"how long a party waits for another party")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// probeJob returns the probe's job, with this party as guest and the others as hosts.
func probeJob(own string, nodes []string, provider, version string,
	timeout time.Duration) (map[string]json.RawMessage, error) {
	seen := []string{own}
	for _, node := range nodes {
		switch {
		case node == own:
			return nil, fmt.Errorf("NODE_ID: %s is this party; give partners only", node)
		case slices.Contains(seen, node):
			return nil, fmt.Errorf("NODE_ID: %s is given twice", node)
		}
		seen = append(seen, node)
	}
	if timeout < time.Second {
		return nil, errors.New("--timeout: must be at least 1s, because a container needs that long to start")
	}
	return map[string]json.RawMessage{
		"flow_id": inJSON("probe"),
		"dag": inJSON(map[string]any{"version": "2.0.0", "components": []any{map[string]any{
			"name": probeTask, "componentName": "Probe", "provider": provider, "version": version,
			"input": []any{}, "output": []any{map[string]string{"type": "report", "key": probeTask}},
		}}}),
		"config": inJSON(map[string]any{
			"version":    "2.0.0",
			"initiator":  map[string]string{"role": "guest", "node_id": own},
			"role":       map[string][]string{"guest": {own}, "host": nodes},
			"job_params": map[string]any{"common": map[string]any{"sync_type": "callback"}},
			"task_params": map[string]any{
				"common": map[string]any{probeTask: map[string]any{"timeout": timeout.Seconds()}},
			},
		}),
	}, nil
}

// showProbe prints the report of this party's container.
func (c *client) showProbe(ctx context.Context, w io.Writer, own, jobID string, asJSON bool) error {
	status, err := c.status(ctx, jobID)
	if err != nil {
		return err
	}
	for _, task := range status.Tasks {
		if task.Name != probeTask {
			continue
		}
		// The report of a failed task is not listed as an output of the job, but is stored under an output's
		// name.
		body, _, err := c.download(ctx, "guest-"+own+"-report-"+probeTask, task.TaskID)
		if err != nil {
			_, err = fmt.Fprintln(w, "This party's container wrote no report.")
			return err
		}
		defer func() { _ = body.Close() }()
		text, err := io.ReadAll(io.LimitReader(body, maxReport))
		if err != nil {
			return fmt.Errorf("failed to read the report: %w", err)
		}
		if asJSON {
			return printJSON(w, text)
		}
		var report probeReport
		if err := json.Unmarshal(text, &report); err != nil {
			return fmt.Errorf("failed to decode the report: %w", err)
		}
		return printTable(w, probeTable(&report))
	}
	return nil
}

func probeTable(r *probeReport) [][]string {
	rows := [][]string{{"CHECK", "WITH", "RESULT", ""}}
	for _, check := range r.Checks {
		result, remark := "ok", check.Note
		if !check.OK {
			result, remark = "FAILED", check.Why
		}
		if check.OK && check.Offset != nil {
			remark = fmt.Sprintf("%+.1f ms", *check.Offset)
		} else if check.OK && check.Milliseconds != nil && remark == "" {
			remark = fmt.Sprintf("%.1f ms", *check.Milliseconds)
		}
		with := "this party"
		if check.Peer != "" {
			with = check.Peer + " " + check.PeerNodeID
		}
		rows = append(rows, []string{check.Name, with, result, remark})
	}
	return rows
}

// inJSON encodes a value that encoding/json always accepts: strings, numbers, lists and maps of them.
func inJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}
