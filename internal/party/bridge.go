package party

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"hutong/activities/driver/docker"
)

// docker opens the Docker device, as the configuration says: nil when it is off, or when it is auto and no engine answers.
func (p *Party) docker(ctx context.Context) (*docker.Driver, error) {
	if p.cfg.Runner.Docker.Enabled == SwitchOff {
		return nil, nil
	}
	d, err := docker.New(docker.Options{NodeID: p.cfg.NodeID, Network: p.cfg.Runner.Docker.Network,
		HostNetwork: p.cfg.Runner.Docker.HostNetwork, PartyHost: p.cfg.Runner.Docker.PartyHost})
	if err == nil {
		_, err = d.RunnerID(ctx)
	}
	if err != nil {
		if p.cfg.Runner.Docker.Enabled == SwitchOn {
			return nil, fmt.Errorf("the Docker Engine of party %s does not answer (runner.docker.enabled is true): %w", p.cfg.NodeID, err)
		}
		p.logger.Info("no Docker Engine answers; the docker device is off", "reason", err.Error())
		return nil, nil
	}
	p.closing(func(context.Context) error { return d.Close() })
	return d, nil
}

// bridgeRetry is how often the bridge's address is tried that can't be listened on yet.
const bridgeRetry = 5 * time.Second

// serveBridge serves a party's containers on the address of their bridge network, at the port of listen, and goes on
// trying while that address is not there. The party does not listen on every interface for them.
func (p *Party) serveBridge(ctx context.Context, docker *docker.Driver, listen string, server func() (func(net.Listener) error, func(context.Context) error)) {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || docker == nil || p.cfg.Runner.Docker.HostNetwork || host == "" || ip != nil && ip.IsUnspecified() {
		return // containers reach what listens everywhere anyway
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	listening := make(chan net.Listener, 1)
	try := func() error {
		gateway, err := docker.EnsureNetwork(ctx)
		if err != nil {
			return err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(gateway.String(), port))
		if err != nil {
			return err
		}
		listening <- l
		return nil
	}
	serve, shutdown := server()
	done := make(chan struct{})
	firstErr := try()
	go func() {
		defer close(done)
		for err := firstErr; err != nil; err = try() {
			p.logger.Warn("containers can't reach this party yet", "port", port, "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(bridgeRetry):
			}
		}
		l := <-listening
		go func() {
			<-ctx.Done()
			_ = l.Close()
		}()
		if err := serve(l); err != nil && ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
			p.logger.Error("containers can't reach this party any more", "error", err)
		}
	}()
	p.closing(func(stopCtx context.Context) error {
		err := shutdown(stopCtx)
		cancel()
		<-done
		return err
	})
}
