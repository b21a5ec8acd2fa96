package system

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/evidence"
	"hutong/internal/party"
	"hutong/store"
)

// TestEvidenceOfTwoParties runs the reference job at two parties, takes the evidence of both, and holds the
// archives against each other, as an auditor does. Then it forges one.
func TestEvidenceOfTwoParties(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.Jobs.Approval = party.ApprovalManual
		}
	})
	pair.guest.start()
	pair.host.start()
	registration := readVector(t, "provider_register.request.json")
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(registration, bfia.DeviceProcess)
		n.upload("host.csv", "testspace", "test_host")
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")
	jobID := pair.guest.submit(referenceJob(t, true))
	_, status := pair.guest.request(http.MethodGet, bfia.PathJobEvidence+"?job_id="+jobID, nil)
	require.Equal(t, http.StatusConflict, status, "the job has not ended")
	out, err := pair.host.hutong("job", "approve", "--yes", jobID)
	require.NoError(t, err, out)
	requireSuccess(t, pair.guest.awaitJob(jobID, 3*time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
	for _, n := range []*testParty{pair.guest, pair.host} {
		db := n.database()
		require.Eventually(t, func() bool {
			_, complete, err := db.Transfers(t.Context(), jobID)
			return err == nil && complete
		}, time.Minute, 100*time.Millisecond, "the sessions of %s are released", n.cfg.NodeID)
	}

	dir := t.TempDir()
	a, b := filepath.Join(dir, "guest.zip"), filepath.Join(dir, "host.zip")
	out, err = pair.guest.hutong("job", "evidence", jobID, "-o", a)
	require.NoError(t, err, out)
	out, err = pair.host.hutong("job", "evidence", jobID, "-o", b)
	require.NoError(t, err, out)
	out, err = pair.guest.hutong("evidence", "verify", a, b, "--ca", pair.guest.cfg.Partners.TLS.CAFile)
	t.Log(out)
	require.NoError(t, err, out)
	require.NotContains(t, out, "DIFFER")
	for _, agreed := range []string{"content of the job's document", "state of the job: FINISHED",
		"task hetero_secureboost_1, its state: SUCCESS", "task intersect_rsa_1, its id",
		"from " + guestNode + " to " + hostNode, "from " + hostNode + " to " + guestNode,
		hostNode + ": job.approve by"} {
		require.Contains(t, out, agreed)
	}

	// What the archive attests is what the party has.
	archive := readArchive(t, a)
	require.Equal(t, guestNode, archive.Facts.NodeID)
	var sent, inputs, outputs int64
	for _, transfer := range archive.Facts.Transfers {
		sent += transfer.Sent
	}
	require.Positive(t, sent)
	for _, d := range archive.Facts.Data {
		require.False(t, d.Missing, "%s %s", d.Kind, d.Name)
		require.NotEmpty(t, d.Objects)
		if d.Kind == "input" {
			inputs++
			require.NotNil(t, d.Rows)
		} else {
			outputs++
		}
	}
	require.Positive(t, inputs)
	require.Len(t, pair.guest.outputs(jobID), int(outputs))
	acts := map[string]int{}
	for _, e := range archive.Trail {
		acts[e.Act+" "+string(e.Outcome)]++
	}
	require.Equal(t, 1, acts[audit.Submit+" allowed"], "%v", acts)
	require.Equal(t, 1, acts[audit.PartnerCreate+" allowed"], "%v", acts)
	// The start of a task implies the job's: a job/start that comes later changes nothing and has no entry.
	require.LessOrEqual(t, acts[audit.PartnerStart+" allowed"], 1, "%v", acts)
	require.Equal(t, 2, acts[audit.PartnerTaskStart+" allowed"], "%v", acts)
	rows, err := os.ReadFile(filepath.Join("..", "..", "testdata", "guest.csv"))
	if err == nil {
		first := strings.Split(string(rows), "\n")[1]
		require.NotContains(t, string(unzipped(t, a)), first, "no row of the data is in it")
	}

	// The trail of both parties verifies, and an act that somebody removes is found.
	for _, n := range []*testParty{pair.guest, pair.host} {
		out, err = n.hutong("audit", "verify")
		require.NoError(t, err, out)
		require.Contains(t, out, "unaltered and without gaps")
	}
	head := strings.TrimSpace(out[strings.LastIndex(out, " "):])
	export := filepath.Join(dir, "trail.jsonl")
	out, err = pair.host.hutong("audit", "export", "-o", export)
	require.NoError(t, err, out)
	out, err = pair.host.hutong("audit", "verify", "--head", head, export)
	require.NoError(t, err, out)
	text, err := os.ReadFile(export)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	require.NoError(
		t,
		os.WriteFile(export, []byte(strings.Join(append(lines[:2:2], lines[3:]...), "")), 0o600),
	)
	out, err = pair.host.hutong("audit", "verify", export)
	require.Error(t, err, out)
	require.Contains(t, out+err.Error(), "broken at entry 3")
	out, err = pair.host.hutong("audit", "list", "--object", "job:"+jobID, "--act", audit.Approve)
	require.NoError(t, err, out)
	require.Contains(t, out, audit.Approve)

	// A forged archive is found.
	forged := filepath.Join(dir, "forged.zip")
	content, err := os.ReadFile(b)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(forged, forge(t, content), 0o600))
	out, err = pair.guest.hutong("evidence", "verify", a, forged)
	require.Error(t, err)
	require.Contains(t, out+err.Error(), "facts.json: its SHA-256 is not that of the signed manifest")

	// The trail outlives the job.
	before, err := pair.host.database().AuditOfJob(t.Context(), jobID)
	require.NoError(t, err)
	out, err = pair.host.hutong("job", "delete", jobID)
	require.NoError(t, err, out)
	after, err := pair.host.database().AuditOfJob(t.Context(), jobID)
	require.NoError(t, err)
	require.Equal(t, before, after[:len(before)])
	require.Equal(t, audit.DeleteJob, after[len(after)-1].Act)
	entries, err := pair.guest.database().AuditEntries(t.Context(), store.AuditFilter{Act: audit.Upload})
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

func readArchive(t *testing.T, name string) *evidence.Archive {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	archive, err := evidence.Read(file, info.Size())
	require.NoError(t, err)
	return archive
}

// unzipped returns the content of all files of an archive.
func unzipped(t *testing.T, name string) []byte {
	t.Helper()
	archive, err := zip.OpenReader(name)
	require.NoError(t, err)
	defer archive.Close()
	var all bytes.Buffer
	for _, f := range archive.File {
		r, err := f.Open()
		require.NoError(t, err)
		_, err = io.Copy(&all, r)
		require.NoError(t, err)
	}
	return all.Bytes()
}

// forge returns an archive in which the party has received a byte more.
func forge(t *testing.T, archive []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	require.NoError(t, err)
	var b bytes.Buffer
	out := zip.NewWriter(&b)
	for _, f := range in.File {
		r, err := f.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		if f.Name == "facts.json" {
			content = bytes.Replace(content, []byte(`"received_bytes": `), []byte(`"received_bytes": 1`), 1)
		}
		w, err := out.Create(f.Name)
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, out.Close())
	return b.Bytes()
}
