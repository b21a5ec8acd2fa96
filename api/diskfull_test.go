package api

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/testenv/disk"
)

// TestDiskFull uploads while the disk of the storage, or that of temporary files, is full. The answer asks
// the client to try again, nothing is left behind, and the same upload succeeds once there is space.
func TestDiskFull(t *testing.T) {
	large := "id,x\n" + strings.Repeat("0123456789,"+strings.Repeat("7", 1000)+"\n", 1)
	file := []field{{"namespace", "n"}, {"name", "d"}, {"file", large}}
	for _, c := range []struct{ name, words string }{
		{"storage", "the storage has no space left on its disk"},
		{"temp", "this party has no space left on its disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newParty(t)
			dir := map[string]string{"storage": p.storage, "temp": p.temp}[c.name]
			disk.Mount(t, dir, "1m")
			if c.name == "storage" {
				require.NoError(t, os.Mkdir(filepath.Join(dir, ".tmp"), 0o755)) // as opening the storage did
			}
			empty := disk.Fill(t, dir)
			for _, path := range []string{bfia.PathComponentFile, bfia.PathDataFile} {
				r := p.bad(form(t, path, file...), 503, bfia.CodeUnavailable, c.words)
				require.NotEmpty(t, r.Header.Get("Retry-After"))
			}
			empty()
			p.empty()
			p.good(form(t, bfia.PathComponentFile, file...))
		})
	}
}
