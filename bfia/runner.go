package bfia

import "time"

// Runner describes a runner of a party to the party's own clients.
type Runner struct {
	RunnerID string            `json:"runner_id"`
	Devices  []string          `json:"devices"`
	Labels   map[string]string `json:"labels"`
	State    RunnerState       `json:"state"`
	// Draining is set if an operator has drained the runner.
	Draining    bool      `json:"draining"`
	HeartbeatAt time.Time `json:"heartbeat_at"` // by the database's clock
	// ClockSkew is by how many seconds its clock was ahead of the database's at that heartbeat.
	ClockSkew float64 `json:"clock_skew"`
	// Running is the number of its containers. A drained runner can be switched off when it has none.
	Running int            `json:"running"`
	Total   RunnerCapacity `json:"total"`
	// Used holds the resources that jobs have reserved, whether or not their containers run now.
	Used RunnerCapacity `json:"used"`
}

// RunnerState is the state of a runner.
type RunnerState string

// The states of runners. Only an online runner gets new containers.
const (
	RunnerOnline       RunnerState = "online"
	RunnerDraining     RunnerState = "draining"     // it still has containers
	RunnerDrained      RunnerState = "drained"      // it has none
	RunnerSilent       RunnerState = "silent"       // it sent no heartbeat for a minute
	RunnerDeregistered RunnerState = "deregistered" // it was shut down while it was drained
)

// DrainRunner is the body of a request to [PathRunnerDrain].
type DrainRunner struct {
	RunnerID string `json:"runner_id"`
	Draining *bool  `json:"draining"`
}
