package probe

import (
	"log/slog"
	"time"
)

// Report is the document that a probe writes. The package comment documents its format.
type Report struct {
	Component string    `json:"component"`
	Role      string    `json:"role"`
	NodeID    string    `json:"node_id"`
	OK        bool      `json:"ok"`
	Passed    int       `json:"passed"`
	Failed    int       `json:"failed"`
	Time      time.Time `json:"time"`
	Checks    []Check   `json:"checks"`
}

// Check is the result of one check.
type Check struct {
	Name         string   `json:"name"`
	Peer         string   `json:"peer,omitempty"`
	PeerNodeID   string   `json:"peer_node_id,omitempty"`
	OK           bool     `json:"ok"`
	Why          string   `json:"why,omitempty"`  // why the check failed
	Note         string   `json:"note,omitempty"` // a remark about a check that passed
	Milliseconds *float64 `json:"milliseconds,omitempty"`
	Offset       *float64 `json:"offset_milliseconds,omitempty"`
	Uncertainty  *float64 `json:"uncertainty_milliseconds,omitempty"`
}

func (c Check) withError(err error) Check {
	c.OK, c.Why = false, err.Error()
	return c
}

func (c Check) withDuration(d time.Duration) Check {
	c.OK, c.Milliseconds = true, milliseconds(d)
	return c
}

func milliseconds(d time.Duration) *float64 {
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

func (c Check) log() {
	log := slog.With("check", c.Name)
	if c.Peer != "" {
		log = log.With("peer", c.Peer, "peer_node_id", c.PeerNodeID)
	}
	if c.Milliseconds != nil {
		log = log.With("milliseconds", *c.Milliseconds)
	}
	if c.Offset != nil {
		log = log.With("offset_milliseconds", *c.Offset, "uncertainty_milliseconds", *c.Uncertainty)
	}
	switch {
	case !c.OK:
		log.Warn("check failed", "why", c.Why)
	case c.Note != "":
		log.Info("check passed", "note", c.Note)
	default:
		log.Info("check passed")
	}
}
