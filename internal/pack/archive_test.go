package pack

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestArchive writes the archive with stand-ins for the programs, whose build takes minutes, and checks the
// checksums, the licences, and that a second one is the same.
func TestArchive(t *testing.T) {
	r := testRelease(t)
	write := func() string {
		files, err := r.repositoryFiles(t.Context())
		require.NoError(t, err)
		licences, err := r.licences(t.Context())
		require.NoError(t, err)
		files = append(append(files, licences...),
			packed{name: "bin/amd64/hutong", data: []byte("program"), mode: 0o755})
		out := filepath.Join(t.TempDir(), "archive.tar.gz")
		require.NoError(t, r.writeArchive(out, files))
		return out
	}
	first, err := os.ReadFile(write())
	require.NoError(t, err)
	second, err := os.ReadFile(write())
	require.NoError(t, err)
	require.True(t, bytes.Equal(first, second), "two archives of the same files differ")

	zipped, err := gzip.NewReader(bytes.NewReader(first))
	require.NoError(t, err)
	files, headers := untar(t, zipped)
	const folder = "hutong-1.2.3-test/"
	sums := map[string]string{}
	for line := range strings.Lines(string(files[folder+SumsFile])) {
		sum, name, found := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		require.True(t, found, line)
		sums[name] = sum
	}
	assert.Len(t, sums, len(files)-1)
	for name, sum := range sums {
		assert.Equal(t, sum, fmt.Sprintf("%x", sha256.Sum256(files[folder+name])), name)
	}
	for _, name := range []string{"bin/amd64/hutong", "deploy/config/party.example.yaml",
		"docs/operators/install.md",
		"deploy/systemd/hutong-api.service", "providers/reference/provider.json", "README.md",
		"console/licences/preact.txt"} {
		assert.NotEmpty(t, files[folder+name], name)
	}
	assert.Equal(t, int64(0o755), headers[folder+"deploy/systemd/install.sh"].Mode)
	assert.Equal(t, int64(0o644), headers[folder+"deploy/systemd/hutong-api.service"].Mode)
	for _, prefix := range []string{"licences/go-", "licences/github.com/gofiber/fiber/v2@",
		"licences/golang.org/x/sync@",
		"licences/github.com/minio/minio-go/v7@"} {
		found := 0
		for name := range files {
			if strings.HasPrefix(name, folder+prefix) {
				found++
			}
		}
		assert.Positive(t, found, prefix)
	}
	without := string(files[folder+"licences/WITHOUT-A-FILE.txt"])
	assert.LessOrEqual(t, strings.Count(without, "@"), 3, "collect the licences of\n%s", without)
	for name := range files {
		assert.NotContains(t, name, "_test.go")
		assert.NotContains(t, name, "..")
	}
}
