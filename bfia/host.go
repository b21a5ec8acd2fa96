package bfia

import "time"

// Runner is a machine of a party that runs its tasks, as the party tells its own clients.
type Runner struct {
	RunnerID string            `json:"runner_id"`
	Devices  []string          `json:"devices"`
	Labels   map[string]string `json:"labels"`
	State    RunnerState       `json:"state"`
	// Draining: an operator wants nothing new to run there.
	Draining    bool      `json:"draining"`
	HeartbeatAt time.Time `json:"heartbeat_at"`
	// Running are containers that are there now. A drained host can be switched off when there are none.
	Running int            `json:"running"`
	Total   RunnerCapacity `json:"total"`
	// Used is what jobs hold, whether or not their containers run at the moment.
	Used RunnerCapacity `json:"used"`
}

// RunnerCapacity is what a host has or what is taken of it, in the units in which jobs ask for it; of a total, 0 is not known.
type RunnerCapacity struct {
	Slots  int     `json:"slots"`
	CPU    float64 `json:"cpu"`    // cores
	Memory float64 `json:"memory"` // GiB
	Disk   float64 `json:"disk"`   // GiB
}

// RunnerState is how a host stands.
type RunnerState string

// The states of hosts. Nothing new is placed on any but those that are ready.
const (
	RunnerReady    RunnerState = "ready"
	RunnerDraining RunnerState = "draining" // it is there, and still has containers
	RunnerDrained  RunnerState = "drained"  // it has none
	RunnerSilent   RunnerState = "silent"   // it was not heard of for a minute
	RunnerLeft     RunnerState = "left"     // it was stopped in order while it was drained
)

// DrainRunner is the body of host/drain.
type DrainRunner struct {
	RunnerID string `json:"runner_id"`
	Draining *bool  `json:"draining"`
}
