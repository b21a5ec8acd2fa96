package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestRehearsal rehearses the reference job with the command line: all its tasks succeed at both parties, on
// rows that neither has.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.register(readVector(t, "provider_register.request.json"), bfia.DeviceProcess)
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")
	file := filepath.Join(t.TempDir(), "job.json")
	require.NoError(t, os.WriteFile(file, referenceJob(t, true), 0o600))
	out, ok := pair.guest.command("job", "rehearse", "-f", file)
	require.False(t, ok)
	require.Contains(t, out, `has no dataset "testspace#test_host"`, "a rehearsal finds what is missing")

	pair.host.upload("host.csv", "testspace", "test_host")
	jobID := lastLine(pair.guest.mustCommand("job", "rehearse", "-f", file))
	requireSuccess(t, pair.guest.awaitJob(jobID, 3*time.Minute, isFinished))
	for _, n := range []*testParty{pair.guest, pair.host} {
		var tables int
		for name, output := range n.outputs(jobID) {
			if output.Type != "dataset" {
				continue
			}
			rows := n.download(output)
			require.Contains(t, rows, "row-", name)
			require.NotContains(t, rows, "wdbc", name)
			require.Greater(t, strings.Count(rows, "\n"), 350, "most ids are common: %s", name)
			tables++
		}
		require.NotZero(t, tables)
	}
}
