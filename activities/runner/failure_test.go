package runner

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/bfia"
)

// TestExitFailure checks what the exit of a container means.
func TestExitFailure(t *testing.T) {
	for name, c := range map[string]struct {
		exit driver.Exit
		want bfia.FailureKind // empty: none
	}{
		"success":                   {driver.Exit{}, ""},
		"a failure":                 {driver.Exit{Code: 1}, bfia.FailedExit},
		"may succeed again":         {driver.Exit{Code: 75}, bfia.FailedTemporary},
		"lost its partner":          {driver.Exit{Code: 69}, bfia.FailedPartner},
		"killed":                    {driver.Exit{Code: 137, Killed: true}, bfia.FailedKilled},
		"killed, a code of its own": {driver.Exit{Code: 69, Killed: true}, bfia.FailedKilled},
		"out of memory":             {driver.Exit{Code: 137, OOMKilled: true}, bfia.FailedMemory},
		"no exit code":              {driver.Exit{Code: driver.UnknownExitCode}, bfia.FailedVanished},
		"not started": {driver.Exit{Code: driver.NotStartedExitCode, Reason: "no such program"},
			bfia.FailedStart},
		"the code of a program that did not start": {driver.Exit{Code: driver.NotStartedExitCode,
			Reason: plainExit(driver.NotStartedExitCode)}, bfia.FailedExit},
	} {
		t.Run(name, func(t *testing.T) {
			f := exitFailure(c.exit, nil)
			if c.want == "" {
				require.Nil(t, f)
				return
			}
			require.Equal(t, c.want, f.Kind)
		})
	}
}
