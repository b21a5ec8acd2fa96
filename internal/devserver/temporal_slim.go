//go:build slim

package devserver

import "context"

// TemporalServer is the embedded Temporal server, which a slim binary does not have.
type TemporalServer struct{}

// StartTemporalServer fails with ErrSlim.
func StartTemporalServer(context.Context, TemporalServerOptions) (*TemporalServer, error) {
	return nil, ErrSlim
}

// Address is empty.
func (*TemporalServer) Address() string { return "" }

// UIAddress is empty.
func (*TemporalServer) UIAddress() string { return "" }

// Stop does nothing.
func (*TemporalServer) Stop() {}
