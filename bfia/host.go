package bfia

import "time"

// Host is a machine of a party that runs its tasks, as the party tells its own clients.
type Host struct {
	HostID  string            `json:"host_id"`
	Devices []string          `json:"devices"`
	Labels  map[string]string `json:"labels"`
	State   HostState         `json:"state"`
	// Draining: an operator wants nothing new to run there.
	Draining bool      `json:"draining"`
	SeenAt   time.Time `json:"seen_at"`
	// Running are containers that are there now. A drained host can be switched off when there are none.
	Running int      `json:"running"`
	Total   HostRoom `json:"total"`
	// Used is what jobs hold, whether or not their containers run at the moment.
	Used HostRoom `json:"used"`
}

// HostRoom is what a host has or what is taken of it, in the units in which jobs ask for it; of a total, 0 is not known.
type HostRoom struct {
	Slots  int     `json:"slots"`
	CPU    float64 `json:"cpu"`    // cores
	Memory float64 `json:"memory"` // GiB
	Disk   float64 `json:"disk"`   // GiB
}

// HostState is how a host stands.
type HostState string

// The states of hosts. Nothing new is placed on any but those that are ready.
const (
	HostReady    HostState = "ready"
	HostDraining HostState = "draining" // it is there, and still has containers
	HostDrained  HostState = "drained"  // it has none
	HostSilent   HostState = "silent"   // it was not heard of for a minute
	HostLeft     HostState = "left"     // it was stopped in order while it was drained
)

// DrainHost is the body of host/drain.
type DrainHost struct {
	HostID   string `json:"host_id"`
	Draining *bool  `json:"draining"`
}
