package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	plan := Plan{Seed: 7, Faults: []Fault{{Kind: faultKill}, {Kind: faultKill}, {Kind: faultCut}}}
	done := &progress{faults: map[FaultKind]int{faultKill: 1, faultCut: 1},
		hits: map[FaultKind]int{faultCut: 9}}
	f := validObservations()
	f.created["third"]["hutong-"+boostID+"-s1-host.0-2"] = []time.Time{minute(1), minute(2)}
	var b strings.Builder
	writeReport(&b, plan, f, done, check(f), time.Minute)
	said := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{"seed 7, 60 s", "jobs: 3", "PSI, SecureBoost SUCCESS 1",
		"must fail exit_code 1",
		"is stopped stopped 1",
		"faults: 2 of the 3 planned", "kill -9 1 of 2", "cut 1 of 1 affected 9 requests",
		"containers and processes: 8, of which 7 were created exactly once, and 2 belong to retries",
		"lost 0 duplicated 1 hutong-" + boostID + "-s1-host.0-2 at third was created 2 times " +
			"orphaned 0 wrong states 0"} {
		require.Contains(t, said, want)
	}
}
