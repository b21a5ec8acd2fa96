package main

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestProjectCommands checks what the commands send, and that a flag of the quota leaves the others alone.
func TestProjectCommands(t *testing.T) {
	known := bfia.Project{Name: "risk", ProjectSettings: bfia.ProjectSettings{Description: "Credit",
		RetentionHours: 48, Quota: bfia.ProjectQuota{Jobs: 2, CPUMilli: 1500, Memory: 1 << 30}}, Jobs: 3}
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathProjectQuery:   data([]bfia.Project{{Name: "default"}, known}),
		"POST " + bfia.PathProjectCreate: data(known),
		"POST " + bfia.PathProjectSet:    data(known),
	})
	sent := func() (change bfia.SetProject) {
		t.Helper()
		all := posted(p)
		require.NoError(t, json.Unmarshal([]byte(all[len(all)-1].body), &change))
		return change
	}
	status, _, stderr := p.run(t, "project", "create", "risk", "--max-memory", "0.5", "--retention", "2d",
		"--partner-jobs", "JG1,JG2/credit")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, bfia.SetProject{Name: "risk", Quota: &bfia.QuotaChange{Memory: new(int64(1 << 29))},
		RetentionHours: new(48), PartnerJobs: &[]bfia.PartnerJobs{{NodeID: "JG1"},
			{NodeID: "JG2", FlowID: "credit"}}}, sent())

	status, _, stderr = p.run(t, "project", "set", "risk", "--max-cpu", "2.5", "--partner-jobs", "")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, bfia.SetProject{Name: "risk", PartnerJobs: &[]bfia.PartnerJobs{},
		Quota: &bfia.QuotaChange{CPUMilli: new(int64(2500))}}, sent())

	status, _, stderr = p.run(t, "project", "set", "risk", "--max-storage", "1.5")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, bfia.SetProject{Name: "risk",
		Quota: &bfia.QuotaChange{Storage: new(int64(3 << 29))}}, sent())

	for _, args := range [][]string{{"--retention", "90m"}, {"--max-cpu", "-1"}, {"--max-cpu", "NaN"},
		{"--max-memory", "1e-12"}, {}} {
		status, _, stderr := p.run(t, append([]string{"project", "set", "risk"}, args...)...)
		require.Equal(t, exitUsage, status, "%v: %s", args, stderr)
	}
	_, stdout, _ := p.run(t, "project", "list")
	require.Contains(t, stdout, "2 jobs, 1.5 cores, 1 GiB")
	require.Contains(t, stdout, "2d")
}
