//go:build slim

package devserver

import "context"

// TemporalServer is a placeholder for the embedded Temporal server, which a slim binary does not contain.
type TemporalServer struct{}

// StartTemporalServer fails with ErrSlim.
func StartTemporalServer(context.Context, TemporalServerOptions) (*TemporalServer, error) {
	return nil, ErrSlim
}

// Address returns "".
func (*TemporalServer) Address() string { return "" }

// UIAddress returns "".
func (*TemporalServer) UIAddress() string { return "" }

// Stop does nothing.
func (*TemporalServer) Stop() {}
