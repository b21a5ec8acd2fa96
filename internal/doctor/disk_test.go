package doctor_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/internal/doctor"
	"hutong/internal/party"
	"hutong/test/testenv/disk"
)

// TestNearlyFullDisk checks that doctor warns of disks that are nearly full, wherever they are, and fails for
// a storage that takes no object.
func TestNearlyFullDisk(t *testing.T) {
	small := t.TempDir()
	disk.Mount(t, small, "8m")
	cfg := party.Default()
	cfg.NodeID, cfg.DataDir = node, t.TempDir()
	cfg.Runner.Docker.Enabled = party.SwitchOff
	cfg.Listen, cfg.Transport.Listen = freeAddress(t), freeAddress(t)
	cfg.Temporal.Address = freeAddress(t)
	storage := filepath.Join(small, "storage")
	require.NoError(t, os.Mkdir(storage, 0o755))
	cfg.Storage.URL = party.Secret("file://" + storage)
	cfg.Database.URL = party.Secret("sqlite://" + filepath.Join(small, "hutong.db"))
	cfg.Transport.SpoolDir = small
	require.NoError(t, cfg.Complete())
	require.NoError(t, party.Migrate(t.Context(), cfg))
	found := examine(t, cfg)
	for _, name := range []string{"storage", "database", "transport.spool_dir"} {
		require.Equal(t, doctor.Warning, found[name].State, "%s: %+v", name, found[name])
		require.Contains(t, found[name].Detail, "has only")
		require.Contains(t, found[name].Fix, "free space")
	}

	disk.Fill(t, small)
	full := examine(t, cfg)["storage"]
	require.Equal(t, doctor.Failed, full.State)
	require.Contains(t, full.Detail, "no space left on its disk")
	require.Contains(t, full.Fix, "free space")
}
