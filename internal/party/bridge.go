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

// openDocker opens the Docker driver. It returns nil if the driver is off, or if it is auto and Docker Engine
// does not answer.
func (p *Party) openDocker(ctx context.Context) (*docker.Driver, error) {
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
			return nil,
				fmt.Errorf("failed to connect party %s to Docker Engine (runner.docker.enabled is true): %w",
					p.cfg.NodeID, err)
		}
		p.logger.Info("Docker Engine does not answer; the docker driver is off", "error", err)
		return nil, nil
	}
	p.onStop(func(context.Context) error { return d.Close() })
	return d, nil
}

// bridgeRetry is the interval between attempts to listen on the bridge's address.
const bridgeRetry = 5 * time.Second

// serveBridge serves a party's containers at the gateway address of their bridge network, on the port of
// listen, so that the party need not listen on all interfaces. It retries until that address exists.
func (p *Party) serveBridge(ctx context.Context, docker *docker.Driver, listen string,
	server func() (func(net.Listener) error, func(context.Context) error)) {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || docker == nil || p.cfg.Runner.Docker.HostNetwork ||
		host == "" || ip != nil && ip.IsUnspecified() {
		return // containers reach a server that listens on all interfaces
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
			p.logger.Warn("failed to listen on the bridge network; containers can't reach this party yet",
				"port", port, "error", err)
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
			p.logger.Error("failed to serve the bridge network; containers can't reach this party", "error",
				err)
		}
	}()
	p.onStop(func(stopCtx context.Context) error {
		err := shutdown(stopCtx)
		cancel()
		<-done
		return err
	})
}
