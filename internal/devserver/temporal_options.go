package devserver

import (
	"errors"
	"log/slog"
	"time"
)

// ErrSlim is why a slim binary has no embedded engine.
var ErrSlim = errors.New("built with -tags slim: the embedded engine is not in this binary; " +
	"give the address of a Temporal cluster, or build without the tag")

// DefaultRetention is how long the embedded engine keeps the history of workflows that have ended.
const DefaultRetention = 30 * 24 * time.Hour

// TemporalServerOptions describe an embedded engine.
type TemporalServerOptions struct {
	// DataDir is the folder of its database; it is made when it is not there. One engine at a time can use it.
	DataDir string
	// Port of its frontend on 127.0.0.1; 0 takes a free one.
	Port int
	// UIPort of its web UI on 127.0.0.1; 0 is no UI.
	UIPort int
	// Namespaces that must exist. Those that are missing are made; at least one.
	Namespaces []string
	// Retention of namespaces that are made; 0 is DefaultRetention.
	Retention time.Duration
	// Logger gets what the server says at warn level and above; nil is slog.Default().
	Logger *slog.Logger
}
