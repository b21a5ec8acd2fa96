package runner

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store/blob"
)

// An output that feeds two inputs is mounted once: drivers refuse a mount within another one.
func TestMountsOfTheSameOutput(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.Open(t.Context(), "file://"+dir)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "n", "d"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "n", "d", "data_0"), []byte("id\n"), 0o600))
	rows, out := bfia.Address{Namespace: "n", Name: "d"}, bfia.Address{Namespace: "n", Name: "model"}
	mounts, err := (&Runner{Blobs: s}).mounts(&bfia.ContainerSpec{
		Inputs: []bfia.Binding{{Port: "train_data", Key: "psi.d", Address: rows},
			{Port: "validate_data", Key: "psi.d", Address: rows}},
		Outputs: []bfia.Binding{{Port: "output_model", Address: out}}})
	require.NoError(t, err)
	require.Equal(t, []driver.Mount{{Source: filepath.Join(dir, "n", "d"), Target: "n/d", ReadOnly: true},
		{Source: filepath.Join(dir, "n", "model"), Target: "n/model"}}, mounts)
}
