package main

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestProcessesInFindsLeftovers checks that a process is found while it works in a folder, and not after its
// end.
func TestProcessesInFindsLeftovers(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	run := filepath.Join(dir, "hutong-x-s1-host.0-1")
	require.NoError(t, os.Mkdir(run, 0o755))
	require.Empty(t, processesIn(dir))
	cmd := exec.Command("sleep", "600")
	cmd.Dir = run
	require.NoError(t, cmd.Start())
	found := processesIn(dir)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	require.Equal(t, []string{fmt.Sprintf("%d in %s", cmd.Process.Pid, filepath.Base(run))}, found)
	require.Empty(t, processesIn(dir))
}

// TestOpenWorkflowsFindsRunning checks that running workflows are found, except the housekeeping.
func TestOpenWorkflowsFindsRunning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "temporal.db")
	db, err := sql.Open("sqlite", "file:"+file)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for _, statement := range []string{
		"CREATE TABLE executions_visibility (workflow_id TEXT, workflow_type_name TEXT, status INTEGER)",
		"INSERT INTO executions_visibility VALUES ('housekeeping', 'Housekeeping', 1), ('job/1', 'Job', 2)",
	} {
		_, err := db.Exec(statement)
		require.NoError(t, err)
	}
	open, err := openWorkflows(t.Context(), file)
	require.NoError(t, err)
	require.Empty(t, open)
	_, err = db.Exec("INSERT INTO executions_visibility VALUES ('participant-job/2', 'ParticipantJob', 1)")
	require.NoError(t, err)
	open, err = openWorkflows(t.Context(), file)
	require.NoError(t, err)
	require.Equal(t, []string{"participant-job/2"}, open)
	_, err = openWorkflows(t.Context(), file+".none")
	require.Error(t, err, "a missing database must be an error, not an empty list")
}

// TestSessionsAreNamed checks that a folder of a spool is found with the session that it belongs to.
func TestSessionsAreNamed(t *testing.T) {
	dir := t.TempDir()
	d := &deployment{dir: dir, parties: map[string]*party{"guest": {dir: filepath.Join(dir, "guest")}}}
	const id = "session_202612010529250804010"
	for folder, text := range map[string]string{"s3": "\x00\x1d" + id + "\x09topic", "s4": "",
		"tmp": "session_9"} {
		path := filepath.Join(dir, "guest", "spool", folder)
		require.NoError(t, os.MkdirAll(path, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(path, "5.log"), []byte(text), 0o600))
	}
	found, err := d.sessions()
	require.NoError(t, err)
	require.Equal(t, []session{{party: "guest", id: id, folder: "guest/spool/s3"},
		{party: "guest", folder: "guest/spool/s4"}}, found)
	f := &observations{sessions: found}
	require.Len(t, f.orphanedSessions(), 2, "no restore has forgotten their jobs")
}
