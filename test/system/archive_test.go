package system

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/internal/party"
	"hutong/store"
)

// TestArchivedTrail archives the oldest entries of a running party with its program, twice, and verifies the
// party, and the archives with an export.
func TestArchivedTrail(t *testing.T) {
	t.Parallel()
	const old = 6000 // more than a page of the API
	n := newPartyPair(t, func(cfg *party.Config) {
		if cfg.NodeID != guestNode {
			return
		}
		require.NoError(t, cfg.Complete())
		require.NoError(t, party.Migrate(t.Context(), cfg))
		db, err := store.Open(t.Context(), cfg.Database.URL.Reveal())
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		alice := identity.Principal{Kind: identity.KindClient, Name: "alice"}
		var entries []audit.Entry
		for i := range old {
			at := time.Now().Add(time.Duration(i-old)*time.Hour + 30*time.Minute - audit.MinArchiveAge)
			object := audit.Object{Kind: audit.Job, ID: fmt.Sprint(i)}
			entries = append(entries, audit.New(alice, audit.Submit, object, audit.Allowed, at))
		}
		for i := 0; i < old; i += 1000 {
			require.NoError(t, db.AppendAudit(t.Context(), entries[i:i+1000]...))
		}
	}).guest
	n.start()
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.jsonl"), filepath.Join(dir, "2.jsonl")
	rest := filepath.Join(dir, "rest.jsonl")

	whole := n.mustCommand("audit", "verify")
	require.Contains(t, whole, "entries, unaltered and without gaps; head ")
	kept := strings.TrimSpace(whole[strings.LastIndex(whole, " ")+1:])
	for _, archive := range []struct{ file, before, entries string }{
		{first, fmt.Sprintf("%dh", 30*24+500), "1 to 5500"},
		{second, "30d", "5501 to 6000"},
	} {
		out := n.mustCommand("audit", "archive", "--before", archive.before, "--out", archive.file)
		require.Contains(t, out, "archived the entries "+archive.entries+" in ")
	}
	out, ok := n.command("audit", "archive", "--before", "30d", "--out", second)
	require.False(t, ok)
	require.Contains(t, out, "file already exists; nothing was done")
	out = n.mustCommand("audit", "archive", "--before", "30d", "--out", rest)
	require.Contains(t, out, "nothing was written")
	n.mustCommand("audit", "archive", "--finish", second)

	out = n.mustCommand("audit", "verify", "--head", kept)
	require.Contains(t, out, "entries 6001 to ")
	require.Contains(t, out, "the entries up to 6000 (")
	list := n.mustCommand("audit", "list", "--act", "audit.archive")
	require.Equal(t, 2, strings.Count(list, "audit.archive"), list)
	require.Contains(t, list, "trail 6000:")
	n.mustCommand("audit", "export", "--out", rest)
	out = n.mustCommand("audit", "verify", "--head", kept, first, second, rest)
	require.NotContains(t, out, "not verified")
	out, ok = n.command("audit", "verify", first, rest)
	require.False(t, ok)
	require.Contains(t, out, rest+" does not follow on "+first)
}
