//go:build race

package workflows

const raceEnabled = true
