package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/internal/audit"
)

func newAuditCommand(c *client) *cobra.Command {
	return group("audit", "Read, verify, export and archive the audit trail of a party",
		newAuditList(c), newAuditVerify(c), newAuditExport(c), newAuditArchive(c))
}

// trailPage is one answer of the endpoint of the audit trail.
type trailPage struct {
	Entries []audit.Entry `json:"entries"`
	Head    audit.Head    `json:"head"`
	Base    *audit.Base   `json:"base"` // nil: no entries are archived
}

// trailPageSize is the number of entries of one request of export and verify.
const trailPageSize = 5000

// trailFilter holds the filters of the audit trail.
type trailFilter struct {
	since, until, principal, act, object, outcome string
}

func (f *trailFilter) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(
		&f.since,
		"since",
		"",
		"only entries at this time or later: a time, or an age such as 24h",
	)
	flags.StringVar(&f.until, "until", "", "only entries before this time")
	flags.StringVar(
		&f.principal,
		"principal",
		"",
		"only entries of a client, by name, or of a partner, by node id",
	)
	flags.StringVar(&f.act, "act", "", "only an act, such as job.stop, or all acts of a kind, such as job")
	flags.StringVar(
		&f.object,
		"object",
		"",
		"only entries about an object, such as job:42, or a kind of objects",
	)
	choiceFlag(
		cmd,
		&f.outcome,
		"outcome",
		"",
		"",
		"only entries with an outcome",
		"allowed",
		"refused",
		"failed",
	)
}

// query returns the parameters of a request. A relative time counts from now.
func (f *trailFilter) query(now time.Time) (url.Values, error) {
	query := url.Values{}
	for name, value := range map[string]string{"principal": f.principal, "act": f.act, "object": f.object,
		"outcome": f.outcome} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, text := range map[string]string{"since": f.since, "until": f.until} {
		at, err := parseWhen(text, now)
		if err != nil {
			return nil, usagef("--%s: %w", name, err)
		}
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	return query, nil
}

func newAuditList(c *client) *cobra.Command {
	var filter trailFilter
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the latest entries of the audit trail", Args: noArguments,
		Long: "Lists who did what at this party, the latest first: acts of clients and partners, and what was\n" +
			"refused. An act that was allowed and failed later has two entries. Requires the role auditor.",
		Example: "  hutong audit list --since 24h --outcome refused\n  hutong audit list --object job:42 -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := filter.query(time.Now())
			if err != nil {
				return err
			}
			query.Set("limit", strconv.Itoa(limit))
			var page trailPage
			if err := c.get(cmd.Context(), bfia.PathAuditQuery, query, &page); err != nil {
				return err
			}
			if len(page.Entries) < limit {
				if err := noteArchived(cmd, page.Base, query); err != nil {
					return err
				}
			}
			if asJSON {
				if page.Entries == nil {
					page.Entries = []audit.Entry{}
				}
				data, err := json.Marshal(page.Entries)
				if err != nil {
					return fmt.Errorf("failed to encode the audit trail: %w", err)
				}
				return printJSON(cmd.OutOrStdout(), data)
			}
			return printList(cmd, "entries", trailTable(page.Entries, c.wide))
		},
	}
	filter.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "the most entries, up to 5000")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// noteArchived says that entries which a query could have had are archived.
func noteArchived(cmd *cobra.Command, base *audit.Base, query url.Values) error {
	if base == nil {
		return nil
	}
	if since, err := time.Parse(time.RFC3339, query.Get("since")); err == nil && since.After(base.Time) {
		return nil
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "The entries up to %d (%s) are archived.\n", base.Seq,
		clock(&base.Time))
	return err
}

func trailTable(entries []audit.Entry, wide bool) [][]string {
	header := []string{"SEQ", "TIME", "PRINCIPAL", "ADDRESS", "ACT", "OBJECT", "OUTCOME", "REASON"}
	if wide {
		header = append(header, "PROOF", "CREDENTIAL", "DIGEST", "HASH")
	}
	rows := [][]string{header}
	for i := range entries {
		e := &entries[i]
		act := e.Act
		if e.Count > 1 {
			act = fmt.Sprintf("%s ×%d", act, e.Count)
		}
		row := []string{strconv.FormatInt(e.Seq, 10), clock(&e.Time), plain(e.Principal()), plain(e.Address),
			plain(act), plain(e.Object.String()), string(e.Outcome), plain(e.Reason)}
		if wide {
			row = append(row, string(e.Proof), plain(e.Credential), e.Digest, e.Hash)
		}
		rows = append(rows, row)
	}
	return rows
}

// eachPage calls f with all entries that match a query, in their order, in pages. The head of a page is that
// of the trail before the page was read.
func (c *client) eachPage(ctx context.Context, query url.Values, f func(trailPage) error) error {
	query.Set("order", "asc")
	query.Set("limit", strconv.Itoa(trailPageSize))
	var last int64
	for first := true; ; first = false {
		var page trailPage
		if err := c.get(ctx, bfia.PathAuditQuery, query, &page); err != nil {
			return err
		}
		if !first && page.Base != nil && page.Base.Seq > last {
			return fmt.Errorf("the entries up to %d were archived while the trail was read: run the command again",
				page.Base.Seq)
		}
		if err := f(page); err != nil {
			return err
		}
		if len(page.Entries) < trailPageSize {
			return nil
		}
		last = page.Entries[len(page.Entries)-1].Seq
		query.Set("after", strconv.FormatInt(last, 10))
	}
}

// newTrailEncoder returns an encoder of entries, each a document in a line.
func newTrailEncoder(w io.Writer) *json.Encoder {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder
}

func newAuditExport(c *client) *cobra.Command {
	var filter trailFilter
	var out string
	cmd := &cobra.Command{
		Use: "export", Short: "Write the audit trail, one JSON document in a line", Args: noArguments,
		Long: "Writes entries of the audit trail from the first one on, each as a JSON document in a line.\n" +
			"'hutong audit verify FILE' checks an export of all entries. Requires the role auditor.",
		Example: "  hutong audit export --out trail.jsonl\n  hutong audit export --since 2026-01-01 | jq .act",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := filter.query(time.Now())
			if err != nil {
				return err
			}
			write := func(w io.Writer) error {
				encoder, first := newTrailEncoder(w), true
				return c.eachPage(cmd.Context(), query, func(page trailPage) error {
					if first {
						if err := noteArchived(cmd, page.Base, query); err != nil {
							return err
						}
					}
					first = false
					for _, e := range page.Entries {
						if err := encoder.Encode(e); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if out == "" || out == "-" {
				return write(cmd.OutOrStdout())
			}
			from, to := io.Pipe()
			go func() { to.CloseWithError(write(to)) }()
			return errors.Join(writeAtomically(out, from), from.Close())
		},
	}
	filter.flags(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "the file to write; standard output by default")
	return cmd
}
