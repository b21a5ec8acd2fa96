//go:build slim

package devserver

import "context"

// Engine is the embedded Temporal server, which a slim binary does not have.
type Engine struct{}

// StartEngine fails with ErrSlim.
func StartEngine(context.Context, EngineOptions) (*Engine, error) { return nil, ErrSlim }

// Address is empty.
func (*Engine) Address() string { return "" }

// UIAddress is empty.
func (*Engine) UIAddress() string { return "" }

// Stop does nothing.
func (*Engine) Stop() {}
