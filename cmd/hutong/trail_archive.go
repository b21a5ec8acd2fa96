package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

func newAuditArchive(c *client) *cobra.Command {
	var before, out, finish string
	cmd := &cobra.Command{
		Use: "archive", Short: "Write the oldest entries to a file, and remove them from the party",
		Long: "Writes the entries of the audit trail before a time to a new file, verifies it, and then asks the\n" +
			"party to remove them. The trail of the party begins after them then, and an entry records that. No\n" +
			"entry of the last 30 days is removed. Keep the file and the head that is printed at a safe place:\n" +
			"the party has these entries no more. 'hutong audit verify' checks the file.\n\n" +
			"Requires the role admin, which reads the trail as an auditor and alone removes entries of it. If\n" +
			"the party did not answer, --finish repeats the removal of what a file holds.",
		Example: "  hutong audit archive --before 365d --out trail-2026-01.jsonl\n" +
			"  hutong audit archive --finish trail-2026-01.jsonl",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			if finish != "" {
				return c.finishArchive(ctx, cmd, finish)
			}
			if out == "" || out == "-" {
				return usagef("--out: must be the file to write")
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				return archiveExists(out, err)
			}
			now := time.Now()
			until, err := parseWhen(before, now)
			switch {
			case err != nil:
				return usagef("--before: %w", err)
			case until.IsZero():
				return usagef("--before: is required: a time, or an age such as 365d")
			case now.Sub(until) < audit.MinArchiveAge:
				return usagef("--before: must be at least %d days ago, since younger entries stay; give %s or "+
					"before", audit.MinArchiveAge/(24*time.Hour),
					now.Add(-audit.MinArchiveAge).Format(time.DateOnly))
			}
			return c.archiveTrail(ctx, cmd, until, out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&before, "before", "", "archive the entries before the first one of this time or later: a "+
		"time, or an age such as 365d")
	flags.StringVar(&out, "out", "", "the file to write, which must not exist")
	flags.StringVar(&finish, "finish", "", "an archive that was written: only remove its entries from the party")
	cmd.MarkFlagsMutuallyExclusive("finish", "out")
	cmd.MarkFlagsMutuallyExclusive("finish", "before")
	return cmd
}

// archiveExists returns why an archive is not written to a file.
func archiveExists(name string, err error) error {
	if err == nil {
		err = fs.ErrExist
	}
	return fmt.Errorf("failed to create the archive %s: %w; nothing was done", name, err)
}

// archiveTrail writes the entries before a time to a file, and removes them from the party.
func (c *client) archiveTrail(ctx context.Context, cmd *cobra.Command, until time.Time, out string) error {
	var who bfia.WhoAmI
	if err := c.get(ctx, bfia.PathWhoAmI, nil, &who); err != nil {
		return err
	}
	if !slices.Contains(who.Roles, string(identity.Admin)) {
		return fmt.Errorf("to archive the audit trail you need the role %s, to read it, as an %s may, and to "+
			"remove entries, as nobody else may; you are %s", identity.Admin, identity.Auditor,
			describeClient(&who))
	}
	written, err := c.writeArchive(ctx, until, out)
	if err != nil {
		return fmt.Errorf("%w; nothing was removed from the party", err)
	}
	if written.Head() == written.Start() {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "the party has no entries before %s; nothing was written\n",
			clock(&until))
		return err
	}
	return c.removeArchived(ctx, cmd, written, out)
}

// finishArchive removes the entries of an archive from the party.
func (c *client) finishArchive(ctx context.Context, cmd *cobra.Command, name string) error {
	var v audit.Verifier
	if err := verifyFiles(cmd.InOrStdin(), []string{name}, &v); err != nil {
		return err
	}
	if v.Head() == v.Start() {
		return fmt.Errorf("%s has no entries", name)
	}
	return c.removeArchived(ctx, cmd, &v, name)
}

// errReached ends the reading of the trail before its end.
var errReached = errors.New("the archive is complete")

// writeArchive writes the entries of the party before the first one of a time or later to a new file. It
// returns the verifier that has checked them, also as the file has them. The file exists when it is complete
// and on the disk.
func (c *client) writeArchive(ctx context.Context, until time.Time, out string) (*audit.Verifier, error) {
	folder := filepath.Dir(out)
	file, err := os.CreateTemp(folder, "."+filepath.Base(out)+".*") // only its owner can read it
	if err != nil {
		return nil, fmt.Errorf("failed to create the archive: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	var v audit.Verifier
	buffer := bufio.NewWriter(file)
	err = c.readUntil(ctx, until, &v, newTrailEncoder(buffer))
	if err = errors.Join(err, buffer.Flush(), file.Sync(), file.Close()); err != nil {
		return nil, fmt.Errorf("failed to write the archive: %w", err)
	}
	if v.Head() == v.Start() {
		return &v, nil
	}

	// What is removed must be readable later.
	var again audit.Verifier
	again.Pin(v.Head(), v.Start())
	if err := verifyFiles(nil, []string{file.Name()}, &again); err != nil {
		return nil, fmt.Errorf("failed to read the archive again: %w", err)
	}
	// Unlike a rename, a link does not replace a file that was made meanwhile.
	if err := os.Link(file.Name(), out); err != nil {
		return nil, fmt.Errorf("failed to create the archive: %w", err)
	}
	if err := syncFolder(folder); err != nil {
		return nil, fmt.Errorf("failed to write the archive: %w", err)
	}
	return &again, nil
}

// readUntil verifies and encodes the entries of the party before the first one of a time or later.
func (c *client) readUntil(ctx context.Context, until time.Time, v *audit.Verifier, to *json.Encoder) error {
	first := true
	err := c.eachPage(ctx, url.Values{}, func(page trailPage) error {
		if first && page.Base != nil {
			v.StartAt(page.Base.Head)
		}
		first = false
		for _, e := range page.Entries {
			if !e.Time.Before(until) {
				return errReached
			}
			if err := errors.Join(v.Add(e), to.Encode(e)); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errReached) {
		return nil
	}
	return err
}

// syncFolder makes the names in a folder durable.
func syncFolder(name string) error {
	folder, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// removeArchived asks the party to remove the entries of an archive, until none is left.
func (c *client) removeArchived(
	ctx context.Context,
	cmd *cobra.Command,
	v *audit.Verifier,
	name string,
) error {
	to := v.Head()
	for {
		var answer struct {
			Left int64 `json:"left"`
		}
		if _, err := c.post(ctx, bfia.PathAuditArchive, bfia.ArchiveTrail{Seq: to.Seq, Hash: to.Hash},
			&answer); err != nil {
			return c.explainRemoval(context.WithoutCancel(ctx), err, to, name)
		}
		if answer.Left == 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return c.explainRemoval(context.WithoutCancel(ctx), err, to, name)
		}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "archived the entries %d to %d in %s; head %s\n",
		v.Start().Seq+1, to.Seq, name, to)
	return err
}

// explainRemoval adds to an error of a removal what the party has done.
func (c *client) explainRemoval(ctx context.Context, err error, to audit.Head, name string) error {
	again := fmt.Sprintf("'hutong audit archive --finish %s'", name)
	var page trailPage
	if c.get(ctx, bfia.PathAuditQuery, url.Values{"limit": {"1"}}, &page) != nil {
		return fmt.Errorf("%w; it is unknown whether the party has removed the entries up to %d: keep %s, and "+
			"run %s", err, to.Seq, name, again)
	}
	switch {
	case page.Base == nil || page.Base.Seq < to.Seq:
		return fmt.Errorf("%w; nothing was removed from the party. %s is complete: run %s to try again, or "+
			"remove the file", err, name, again)
	case page.Base.Head == to:
		return fmt.Errorf("%w; the entries up to %d are archived, and some may still be in the party's "+
			"database: keep %s, and run %s", err, to.Seq, name, again)
	}
	return fmt.Errorf("%w; keep %s", err, name)
}
