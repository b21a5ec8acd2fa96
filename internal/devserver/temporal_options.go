package devserver

import (
	"errors"
	"log/slog"
	"time"
)

// ErrSlim reports that a slim binary does not contain the embedded Temporal server.
var ErrSlim = errors.New("failed to start Temporal: this binary was built with -tags slim, without the " +
	"embedded " +
	"server; use a Temporal cluster, or build without the tag")

// DefaultRetention is how long new namespaces keep the history of closed workflows.
const DefaultRetention = 30 * 24 * time.Hour

// TemporalServerOptions configure an embedded Temporal server.
type TemporalServerOptions struct {
	// DataDir is the folder of the database, which is created if it is missing. One server at a time can use
	// it.
	DataDir string
	// Port is the port of the frontend on 127.0.0.1; 0 chooses a free one.
	Port int
	// PortFlag and UIPortFlag are the flags of the command that set the ports, for errors.
	PortFlag, UIPortFlag string
	// UIPort is the port of the web UI on 127.0.0.1; 0 disables the UI.
	UIPort int
	// Namespaces are created if they are missing. At least one is required.
	Namespaces []string
	// Retention applies to namespaces that are created; 0 means DefaultRetention.
	Retention time.Duration
	// DynamicConfig holds values of the server's dynamic configuration, in JSON, by their keys.
	DynamicConfig map[string]string
	// Logger receives the server's messages at level warn and above; nil means slog.Default().
	Logger *slog.Logger
}
