package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/doctor"
)

func TestDoctorInvalidConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "party.yaml")
	require.NoError(t, os.WriteFile(file, []byte("node_id: A\nlistn: x\n"), 0o600))
	var out, errs bytes.Buffer
	require.Equal(t, exitFailed, Main{}.Run(t.Context(), []string{"doctor", "-c", file}, nil, &out, &errs))
	assert.Contains(t, out.String(), "FAILED")
	assert.Contains(t, out.String(), "unknown field listn")
	assert.Contains(t, out.String(), "-> correct the file or the environment variable")

	out.Reset()
	require.Equal(t, exitFailed,
		Main{}.Run(t.Context(), []string{"doctor", "-c", file, "--json"}, nil, &out, &errs))
	var found []doctor.Check
	require.NoError(t, json.Unmarshal(out.Bytes(), &found))
	require.Len(t, found, 1)
	assert.Equal(t, doctor.Failed, found[0].State)
}
