package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"hutong/internal/audit"
)

func newAuditVerify(c *client) *cobra.Command {
	var heads []string
	cmd := &cobra.Command{
		Use: "verify [FILE...]", Short: "Check that the audit trail is whole and unaltered",
		Long: "Reads the whole audit trail from the party, or archives and an export of it from files, in their\n" +
			"order ('-' is standard input), computes the chain of hashes again, and prints the head: the number\n" +
			"and hash of the last entry. Keep the head at a place that administrators of the party can't\n" +
			"change, and give it to the next verification with --head: it finds a trail that was cut off or\n" +
			"rewritten as a whole.\n\n" +
			"The trail of a party begins after what it has archived. Verify both with the archives and an export.",
		Example: "  hutong audit verify\n" +
			"  hutong audit verify --head 1024:9f86d0… trail.jsonl\n" +
			"  hutong audit verify archive-2025.jsonl archive-2026.jsonl trail.jsonl",
		RunE: func(cmd *cobra.Command, args []string) error {
			var v audit.Verifier
			var pins []audit.Head
			for _, text := range heads {
				h, err := audit.ParseHead(text)
				if err != nil {
					return usagef("--head: %w", err)
				}
				pins = append(pins, h)
			}
			v.Pin(pins...)
			if len(args) > 0 {
				if err := verifyFiles(cmd.InOrStdin(), args, &v); err != nil {
					return err
				}
				return printVerified(cmd.OutOrStdout(), &v, nil, pins)
			}
			base, err := c.verifyParty(cmd, &v)
			if err != nil {
				return err
			}
			return printVerified(cmd.OutOrStdout(), &v, base, pins)
		},
	}
	cmd.Flags().StringArrayVar(&heads, "head", nil, "a head that was kept; may be given several times")
	return cmd
}

// verifyParty checks all entries that the party has, and returns the base after which they begin.
func (c *client) verifyParty(cmd *cobra.Command, v *audit.Verifier) (*audit.Base, error) {
	var base *audit.Base
	first := true
	if err := c.eachPage(cmd.Context(), url.Values{}, func(page trailPage) error {
		if first && page.Base != nil {
			base = page.Base
			v.StartAtBase(*base)
		}
		first = false
		v.Pin(page.Head) // where the party says that the trail ends
		for _, e := range page.Entries {
			if err := v.Add(e); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return base, v.End()
}

// printVerified prints which entries were verified, and what is known of those before them.
func printVerified(w io.Writer, v *audit.Verifier, base *audit.Base, pins []audit.Head) error {
	start, head := v.Start(), v.Head()
	text := fmt.Sprintf("%d entries, unaltered and without gaps; head %s\n", head.Seq, head)
	if start.Seq > 0 {
		text = fmt.Sprintf("entries %d to %d, unaltered and without gaps; head %s\n", start.Seq+1, head.Seq,
			head)
	}
	switch {
	case base != nil:
		text += fmt.Sprintf("the entries up to %d (%s) are archived, with the head %s\n", base.Seq,
			clock(&base.Time), base)
	case slices.Contains(pins, start):
		text += fmt.Sprintf("they follow on the kept head %s\n", start)
	case start.Seq > 0:
		text += fmt.Sprintf("those up to %d are not verified: the first one says that it follows on the head "+
			"%s\n", start.Seq, start)
	}
	_, err := io.WriteString(w, text)
	return err
}

// verifyFiles checks archives and an export, each of which must follow on the one before.
func verifyFiles(stdin io.Reader, names []string, v *audit.Verifier) error {
	before := ""
	for _, name := range names {
		n, err := verifyFile(stdin, name, before, v)
		if err != nil {
			return err
		}
		if n == 0 && len(names) > 1 {
			return fmt.Errorf("%s has no entries", name)
		}
		before = name
	}
	return v.End()
}

// verifyFile checks the entries of a file, which follow on those of the file before, and counts them. Those
// of the first file may begin with any entry.
func verifyFile(stdin io.Reader, name, before string, v *audit.Verifier) (n int, err error) {
	in := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return 0, fmt.Errorf("failed to open the export: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	decoder := json.NewDecoder(in)
	for ; ; n++ {
		var e audit.Entry
		err := decoder.Decode(&e)
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, fmt.Errorf("%s is not an export of the audit trail: after entry %d: %w", name,
				v.Head().Seq, err)
		case n == 0 && before == "" && e.Seq > 1:
			if start, err := audit.ParseHead(fmt.Sprintf("%d:%s", e.Seq-1, e.Prev)); err == nil {
				v.StartAt(start)
			}
		case n == 0 && before != "" && e.Seq != v.Head().Seq+1:
			return n, fmt.Errorf("%s does not follow on %s: it begins with entry %d, and %s ends with entry %d",
				name, before, e.Seq, before, v.Head().Seq)
		}
		if err := v.Add(e); err != nil {
			return n, fmt.Errorf("%s: %w", name, err)
		}
	}
}
