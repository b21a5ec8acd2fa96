package party

import (
	"context"
	"log/slog"

	"hutong/internal/tracing"
)

// openTracing starts the export of traces, if the configuration names a receiver.
func (p *Party) openTracing(ctx context.Context, roles Roles) error {
	c := p.cfg.Tracing
	if c.Endpoint == "" {
		return nil
	}
	roots, err := readAuthorities("tracing.ca_file", c.CAFile)
	if err != nil {
		return err
	}
	if p.tracing, err = tracing.New(ctx, tracing.Options{Node: p.cfg.NodeID, Processes: roles.names(),
		Endpoint: c.Endpoint, Sample: c.Sample, Roots: roots, Proxy: p.cfg.Proxy.Rule()}); err != nil {
		return err
	}
	p.onStop(p.tracing.Shutdown)
	p.base = slog.New(tracing.LogHandler(p.base.Handler()))
	p.logger = p.base.With("node_id", p.cfg.NodeID)
	return nil
}

// receive returns what begins the span of a request to the API, or nil.
func (p *Party) receive() func(context.Context, string, func(string) string, bool) (context.Context,
	func(error)) {
	if p.tracing == nil {
		return nil
	}
	return p.tracing.Receive
}
