package api

import (
	"bytes"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/evidence"
	"hutong/internal/identity"
)

// TestEvidenceAfterArchiving takes the evidence of a job before and after entries were archived that may be
// about it: the archive says so.
func TestEvidenceAfterArchiving(t *testing.T) {
	p := newParty(t)
	archivedAt := time.Now().UTC().Truncate(time.Microsecond).Add(-audit.MinArchiveAge - time.Hour)
	require.NoError(t, p.store.AppendAudit(t.Context(), audit.New(identity.Principal{
		Kind: identity.KindClient, Name: "alice"}, audit.Approve, audit.Object{Kind: audit.Job, ID: "j1"},
		audit.Allowed, archivedAt)))
	first := p.trail()[0]
	p.withProvider().withData()
	p.good(post(bfia.PathCreateAll, job(t, "j1")).from(guest))
	p.good(post(bfia.PathCreate, job(t, "j1")).from(guest))
	p.endJob("j1")
	take := func() *evidence.Archive {
		content := p.good(get(bfia.PathJobEvidence + "?job_id=j1")).Body
		archive, err := evidence.Read(bytes.NewReader(content), int64(len(content)))
		require.NoError(t, err)
		return archive
	}
	complete := take()
	require.Nil(t, complete.Facts.TrailArchived)
	require.Len(t, complete.Facts.Approvals, 1)

	p.good(post(bfia.PathAuditArchive, bfia.ArchiveTrail{Seq: first.Seq, Hash: first.Hash}))
	require.Nil(t, take().Facts.TrailArchived, "the job is younger than what was archived")
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(p.database, "sqlite://"))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for age, archived := range map[time.Duration]bool{-time.Minute: true, time.Minute: true,
		archivedMargin + time.Minute: false} {
		created := archivedAt.Add(age).Format("2006-01-02 15:04:05.999999-07:00")
		_, err = db.ExecContext(t.Context(), "UPDATE t_job SET created_at = ?", created)
		require.NoError(t, err)
		facts := take().Facts
		require.Empty(t, facts.Approvals)
		if !archived {
			require.Nil(t, facts.TrailArchived, "%s", age)
			continue
		}
		require.Equal(t, &audit.Base{Head: audit.Head{Seq: first.Seq, Hash: first.Hash}, Time: archivedAt},
			facts.TrailArchived, "%s", age)
	}
}
